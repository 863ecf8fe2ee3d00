package httpserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"muster"
	"muster/httpserver"
)

// oneTx keeps one transaction, and what was said of it.
type oneTx struct {
	tx     muster.Tx
	said   []muster.TxCommand
	writes []muster.Write
}

func (s *oneTx) Txs() []muster.Tx { return []muster.Tx{s.tx} }

func (s *oneTx) Tx(id string) (muster.Tx, bool) { return s.tx, id == s.tx.ID }

func (s *oneTx) Changed() <-chan struct{} { return make(chan struct{}) }

func (s *oneTx) PlanTx(_ context.Context, _ muster.Rights, _ muster.TxPlan) (muster.Tx, error) {
	return s.tx, nil
}

func (s *oneTx) BeginTx(_ context.Context, w muster.Write, t muster.Tx) (muster.Tx, error) {
	s.writes = append(s.writes, w)
	return t, nil
}

func (s *oneTx) OperateTx(_ context.Context, _ muster.Write, _ string, o muster.TxOrder) (muster.Tx, error) {
	s.said = append(s.said, o.Command)
	return s.tx, nil
}

func withTxs(s *oneTx) func(*httpserver.Config) {
	return func(c *httpserver.Config) { c.Txs, c.Book = s, s }
}

func TestAnOperatorsWordIsForThoseWhoCouldHaveBegunTheTransaction(t *testing.T) {
	s := &oneTx{tx: muster.Tx{ID: "t", Status: muster.TxParked, Steps: []muster.TxStep{{
		ID: "one", NodeID: "2", Node: "b", Run: muster.TxAction{Action: "app.do", Risk: muster.RiskLow},
		Undo: muster.TxAction{Action: "app.undo", Risk: muster.RiskHigh}, Check: muster.TxAction{Action: "web.look", Risk: muster.RiskRead},
	}}}}
	env := muster.Metadata{"env": json.RawMessage(`"test"`)}
	h := &house{nodes: []muster.Node{{ID: "1", Slug: "a"}, {ID: "2", Slug: "b", Metadata: env}}}
	base, _ := serve(t, h, withTxs(s))
	all := []string{"tx", "run:app.*", "run:web.*"}
	for _, c := range []struct {
		rights muster.Rights
		says   string // empty: taken
	}{
		{muster.Rights{Scopes: all}, ""},
		{muster.Rights{Scopes: all, MaxRisk: muster.RiskHigh, Targets: "env=test"}, ""},
		{muster.Rights{Scopes: all[:2]}, "run:web.look"},
		{muster.Rights{Scopes: all[1:]}, "scope tx"},
		{muster.Rights{Scopes: all, MaxRisk: muster.RiskLow}, "app.undo has risk high"},
		{muster.Rights{Scopes: all, Targets: "env=prod"}, "targets of your key"},
	} {
		h.rights, s.said = c.rights, nil
		for _, word := range []string{"cancel", "retry", "close"} {
			got := ask(t, "POST", base+"/v1/tx/t/"+word, "mk_rights", "")
			if want := map[bool]int{true: 200, false: 403}[c.says == ""]; got.code != want || !strings.Contains(got.body, c.says) {
				t.Errorf("%+v, %s: %d %s", c.rights, word, got.code, got.body)
			}
		}
		if want := map[bool]int{true: 3}[c.says == ""]; len(s.said) != want {
			t.Errorf("%+v: %v", c.rights, s.said)
		}
	}
}

func TestHowATransactionIsWaitedForMakesItNoOther(t *testing.T) {
	s := &oneTx{tx: muster.Tx{ID: "t", Status: muster.TxSucceeded}}
	base, _ := serve(t, &house{}, withTxs(s))
	for _, how := range []string{`"wait":false`, `"wait":true`, `"timeout_ms":900`, `"name":"other"`} {
		if got := ask(t, "POST", base+"/v1/tx", "mk_tx", `{"key":"k","steps":[{"id":"one","on":"a","run":"app.do"}],`+how+`}`); got.code != 200 {
			t.Fatalf("%s: %d %s", how, got.code, got.body)
		}
	}
	w := s.writes
	if w[0].Digest != w[1].Digest || w[0].Digest != w[2].Digest || w[0].Digest == w[3].Digest || w[0].Key != "k" {
		t.Errorf("%+v", w)
	}
}

func TestAStreamOfATransactionSaysWhichLinesAreForgotten(t *testing.T) {
	s := &oneTx{tx: muster.Tx{ID: "t", Status: muster.TxSucceeded, Forgotten: 5}}
	for _, event := range []string{"begin", "done", "succeeded"} { // 1, 7 and 8
		s.tx.History = append(s.tx.History, muster.TxNote{Event: event})
	}
	base, _ := serve(t, &house{}, withTxs(s))
	for last, want := range map[string]string{"": "1 begin, 6 resync, 7 done, 8 succeeded", "1": "6 resync, 7 done, 8 succeeded", "3": "6 resync, 7 done, 8 succeeded", "6": "7 done, 8 succeeded", "7": "8 succeeded"} {
		got := ask(t, "GET", base+"/v1/tx/t/events", "mk_tx", "", "Last-Event-ID", last)
		events := make([]string, 0, 4)
		for block := range strings.SplitSeq(strings.TrimSpace(got.body), "\n\n") {
			var id, event string
			_, _ = fmt.Sscanf(block, "id: %s\nevent: %s\n", &id, &event)
			events = append(events, id+" "+event)
		}
		if strings.Join(events, ", ") != want {
			t.Errorf("after %q: %v", last, events)
		}
	}
}

// laggard is a copy that gets a transaction only when it catches up with the master.
type laggard struct {
	*oneTx
	has atomic.Bool
}

func (l *laggard) Tx(id string) (muster.Tx, bool) {
	if !l.has.Load() {
		return muster.Tx{}, false
	}
	return l.oneTx.Tx(id)
}

func TestATransactionIsNotDeniedByACopyThatIsBehind(t *testing.T) {
	paths := map[string]string{"GET": "/v1/tx/t", "GET ": "/v1/tx/t/events"}
	for _, word := range []string{"cancel", "retry", "close"} {
		paths["POST "+word] = "/v1/tx/t/" + word
	}
	l := &laggard{oneTx: &oneTx{tx: muster.Tx{ID: "t", Status: muster.TxSucceeded}}}
	h := &house{}
	base, _ := serve(t, h, func(c *httpserver.Config) { c.Txs, c.Book = l, l })
	look := func(method, path string) answer {
		l.has.Store(false)
		return ask(t, strings.Fields(method)[0], base+path, "mk_tx", "")
	}
	for method, path := range paths {
		h.level = func(context.Context) error { l.has.Store(true); return nil }
		if got := look(method, path); got.code != 200 {
			t.Errorf("%s %s, which the master has: %d %s", method, path, got.code, got.body)
		}
		h.level = func(context.Context) error { return nil }
		if got := look(method, path); got.code != 404 {
			t.Errorf("%s %s, which nobody has: %d %s", method, path, got.code, got.body)
		}
		h.level = func(ctx context.Context) error {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Errorf("%s %s may wait for a master for ever", method, path)
			}
			return muster.Errorf(muster.NoMaster, "no master confirmed it")
		}
		if got := look(method, path); got.code != 503 || !strings.Contains(got.body, `"no_master"`) || !strings.Contains(got.body, "no transaction") {
			t.Errorf("%s %s, without a master: %d %s", method, path, got.code, got.body)
		}
	}
}
