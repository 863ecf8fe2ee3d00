package cluster_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"muster"
)

func TestWhatIsSaidOfManyTransactionsAtOnceKeepsItsOwnAnswers(t *testing.T) {
	w := newWorld(t)
	a, b, _ := w.three()
	begin := func(i int) muster.Tx {
		tx, err := b.BeginTx(t.Context(), muster.Write{By: operator, Route: "POST /v1/tx"}, muster.Tx{
			ID: fmt.Sprintf("tx-%d", i), By: operator, Policy: muster.PolicyBackward, Deadline: time.Now().Add(time.Hour), DeadlineMs: 3_600_000,
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
