package main

import (
	"fmt"
	"strings"
	"testing"

	"muster"

	"github.com/go-json-experiment/json"
)

// noops is a transaction of a step on each of three agents that does nothing, and
// would be undone by nothing.
func noops(d *demo) string {
	steps := make([]string, len(d.names))
	for i, name := range d.names {
		steps[i] = fmt.Sprintf(`{"id":"s%d","on":%q,"run":"node.ping","undo":{"run":"node.ping"}}`, i, name)
	}
	return `{"steps":[` + strings.Join(steps, ",") + `]}`
}

// BenchmarkRateTransactions has a follower of three agents do transactions of
// three steps, one on each agent, for 1 and 32 clients, beside changes of one
// record for as many, each of which is one entry of the log. It reports besides
// how many entries a transaction takes.
func BenchmarkRateTransactions(b *testing.B) {
	m := measured(b)
	plan, addr := noops(m.demo), strings.TrimPrefix(m.at.Addrs[0], "http://")
	loaded := func(name string, do func(a *asker, i int64) error) {
		rates(b, name, m.pids, []int{1, 32}, func() (func(int64) error, func(), error) {
			a, err := dial(addr, m.key)
			if err != nil {
				return nil, nil, err
			}
			return func(i int64) error { return do(a, i) }, func() { _ = a.conn.Close() }, nil
		})
	}
	transact := func(a *asker) error {
		raw, err := a.ask("POST", "/v1/tx", plan)
		if err != nil {
			return err
		}
		var t muster.TxAnswer
		if err := json.Unmarshal(raw, &t); err != nil || t.Status != muster.TxSucceeded {
			return fmt.Errorf("%s, %w", raw, err)
		}
		return nil
	}
	loaded("change", func(a *asker, i int64) error {
		_, err := a.ask("PATCH", "/v1/nodes/read-me", fmt.Sprintf(`{"description":"change %d"}`, i))
		return err
	})
	loaded("transaction", func(a *asker, _ int64) error { return transact(a) })
	b.Run("entries", func(b *testing.B) {
		a, err := dial(addr, m.key)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = a.conn.Close() }()
		before := committed(b, m.demo, m.master)
		for range b.N {
			if err := transact(a); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(committed(b, m.demo, m.master)-before)/float64(b.N), "entries/tx")
		b.ReportMetric(0, "ns/op")
	})
}

// committed is how far the log of a cluster is committed, as its master says.
func committed(tb testing.TB, d *demo, master string) uint64 {
	tb.Helper()
	s, err := d.client(master).Cluster(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return s.CommitIndex
}
