package cluster_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"muster"
	"muster/fsm"
)

func TestWhatIsSaidOfManyTransactionsAtOnceKeepsItsOwnAnswers(t *testing.T) {
	w := newWorld(t)
	a, b, _ := w.three()
	begin := func(i int) muster.Tx {
		tx, err := b.BeginTx(t.Context(), muster.Write{By: operator, Route: "POST /v1/tx"}, muster.Tx{
			ID: fmt.Sprintf("tx-%d", i), By: operator, Policy: muster.PolicyBackward, DeadlineMs: 3_600_000,
			Steps: []muster.TxStep{{ID: "s", NodeID: a.id, Node: "a", Run: muster.TxAction{Action: "node.ping", Risk: muster.RiskRead}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
	start := muster.TxEvent{Event: muster.EventStart, Step: "s", Generation: 1}
	end := muster.TxEvent{Event: muster.EventDone, Step: "s", Generation: 1}
	var all sync.WaitGroup
	for i := range 30 {
		tx := begin(i)
		all.Go(func() {
			wrong := i%3 == 0
			if wrong {
				tx.Epoch++
			}
			for _, e := range []muster.TxEvent{start, end} {
				if err := a.AdvanceTx(t.Context(), tx.ID, tx.Epoch, []muster.TxEvent{e}); (muster.CodeOf(err) == "stale_epoch") != wrong || err != nil && !wrong {
					t.Errorf("%s: %v", tx.ID, err)
				}
			}
		})
	}
	all.Wait()
	for _, m := range []*member{a, b} {
		for i := range 30 {
			until(t, "all have the same of it", func() bool {
				tx, ok := m.reg.Tx(fmt.Sprintf("tx-%d", i))
				return ok && (tx.Status == muster.TxSucceeded) == (i%3 != 0)
			})
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.AdvanceTx(ended, "tx-0", 1, []muster.TxEvent{start}); err != nil && muster.KindOf(err) != muster.OutcomeUnknown && muster.KindOf(err) != muster.Conflict {
		t.Error(err)
	}
}

// The clocks of who asks stand in the commands; what counts is the master's, and it
// is the same on all copies, also on one that reads its log again.
func TestADeadlineIsSetByTheMastersClockAndIsTheSameOnAllCopies(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.three()
	before := time.Now()
	for id, off := range map[string]time.Duration{"behind": -time.Hour, "ahead": time.Hour} {
		cmd, err := fsm.NewCommand(fsm.OpTxBegin, time.Now().Add(off), operator.Principal, fsm.TxBegin{Tx: muster.Tx{
			ID: id, By: operator, Policy: muster.PolicyBackward, DeadlineMs: 60_000,
			Steps: []muster.TxStep{{ID: "s", NodeID: a.id, Node: "a", Run: muster.TxAction{Action: "node.ping", Risk: muster.RiskRead}}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(cmd)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.forwarded(operator, raw); err != nil {
			t.Fatal(err)
		}
	}
	after := time.Now()
	same := func(members ...*member) {
		t.Helper()
		for _, id := range []string{"behind", "ahead"} {
			first, _ := a.reg.Tx(id)
			if begun := first.Deadline.Add(-time.Minute); begun.Before(before) || begun.After(after) {
				t.Errorf("%s: the minute began at %v, it is %v", id, begun, after)
			}
			for _, m := range members {
				until(t, m.name+" has it", func() bool { _, ok := m.reg.Tx(id); return ok })
				if tx, _ := m.reg.Tx(id); !reflect.DeepEqual(tx, first) {
					t.Errorf("%s has %+v, the master %+v", m.name, tx, first)
				}
			}
		}
	}
	same(b, c)
	b.stop()
	c.stop()
	same(b.start(), c.start())
}

func TestTheMasterPutsIntoABeginningWhatItsOwnDriverSays(t *testing.T) {
	w := newWorld(t)
	start := []muster.TxEvent{{Event: muster.EventStart, Step: "s", Generation: 1}}
	w.opening = func(tx muster.Tx) []muster.TxEvent {
		switch tx.Name {
		case "quiet":
			return nil
		case "talkative": // more than there is room for
			return append(start, muster.TxEvent{Event: muster.EventPark, Error: &muster.ActionError{Message: strings.Repeat("x", muster.MaxTxEntry)}})
		default:
			return start
		}
	}
	a, b, _ := w.three()
	for _, c := range []struct {
		name, driver string
		forged       bool // the node that sends it says who drives it
	}{
		{"plain", a.id, false},
		{"quiet", "", false},
		{"talkative", "", false},
		{"plain and forged", a.id, true},
		{"quiet", "", true},
		{strings.Repeat("<", muster.MaxTxEntry/2), "", true}, // short enough as it comes, too long as it is written here
	} {
		tx := muster.Tx{
			ID: fmt.Sprint(c.name, c.forged), Name: c.name, By: operator, Policy: muster.PolicyBackward, DeadlineMs: 3_600_000,
			Steps: []muster.TxStep{{ID: "s", NodeID: a.id, Node: "a", Run: muster.TxAction{Action: "node.ping", Risk: muster.RiskRead}}},
		}
		body := fsm.TxBegin{Tx: tx}
		if c.forged {
			body.Driver, body.Events, body.Tx.Driver = b.id, start, b.id
		}
		cmd, err := fsm.NewCommand(fsm.OpTxBegin, time.Now(), operator.Principal, body)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(cmd)
		if err != nil {
			t.Fatal(err)
		}
		raw = bytes.ReplaceAll(raw, []byte(`\u003c`), []byte("<"))
		err = a.forwarded(operator, raw)
		if long := len(c.name) > 100; long != (muster.KindOf(err) == muster.TooLarge) || !long && err != nil {
			t.Fatalf("%.20s: %v", c.name, err)
		} else if long {
			continue
		}
		begun, _ := a.reg.Tx(tx.ID)
		if started := begun.Steps[0].Status == muster.StepStarting; begun.Driver != c.driver || started != (c.driver != "") {
			t.Errorf("%s, forged %v: driven by %q, started %v", c.name, c.forged, begun.Driver, started)
		}
	}
}
