package fsm_test

import (
	"encoding/json"
	"testing"
	"time"

	"muster"
	"muster/fsm"

	"github.com/hashicorp/raft"
)

// stamped has a command of a proposer's clock applied in an entry of the master's.
func (l *log) stamped(proposer, master time.Time, op fsm.Op, body any) fsm.Result {
	l.t.Helper()
	cmd, err := fsm.NewCommand(op, proposer, "operator", body)
	if err != nil {
		l.t.Fatal(err)
	}
	raw, err := json.Marshal(cmd)
	if err != nil {
		l.t.Fatal(err)
	}
	l.index++
	entry := fsm.Entry([][]byte{raw}, master)
	entry.Index = l.index
	res, ok := l.m.Apply(&entry).(fsm.Result)
	if !ok || res.Err() != nil {
		l.t.Fatalf("%s: %+v", op, res)
	}
	return res
}

func TestWhatIsDecidedGoesByTheClockOfTheMasterNotOfWhoAsked(t *testing.T) {
	for name, off := range map[string]time.Duration{"an hour behind": -time.Hour, "an hour ahead": time.Hour} {
		l := newLog(t)
		asked := epoch.Add(off)
		l.stamped(asked, epoch, fsm.OpTxBegin, fsm.TxBegin{Tx: transaction("t", txStep("a"))})
		tx, _ := l.m.Tx("t")
		if !tx.Deadline.Equal(epoch.Add(time.Minute)) || !tx.CreatedAt.Equal(epoch) {
			t.Errorf("%s: begun at %v, ends at %v", name, tx.CreatedAt, tx.Deadline)
		}
		park := muster.TxEvent{Event: muster.EventPark, Error: &muster.ActionError{Code: "x"}}
		l.stamped(epoch, epoch, fsm.OpTxAdvance, fsm.TxAdvance{ID: "t", Epoch: tx.Epoch, Events: []muster.TxEvent{park}})
		later := epoch.Add(10 * time.Minute)
		l.stamped(later.Add(off), later, fsm.OpTxOperate, fsm.TxOperate{ID: "t", Command: muster.TxTryNow})
		if tx, _ := l.m.Tx("t"); !tx.Deadline.Equal(later.Add(time.Minute)) || !tx.Steps[0].Since.Equal(later) {
			t.Errorf("%s: after a word it ends at %v, its step waits since %v", name, tx.Deadline, tx.Steps[0].Since)
		}
		soon := epoch.Add(time.Minute)
		l.stamped(asked, epoch, fsm.OpKeyCreate, fsm.KeyCreate{ID: "k", Hash: [32]byte{1}, ExpiresIn: time.Hour})
		l.stamped(asked, epoch, fsm.OpKeyCreate, fsm.KeyCreate{ID: "bound", ExpiresIn: time.Hour, ExpiresAt: &soon})
		l.stamped(asked, epoch, fsm.OpKeyRotate, fsm.KeyRotate{ID: "k", Hash: [32]byte{2}, Overlap: time.Minute})
		k, _ := l.m.Key("k")
		if k.ExpiresAt == nil || !k.ExpiresAt.Equal(epoch.Add(time.Hour)) || len(k.Former) != 1 || !k.Former[0].Until.Equal(soon) {
			t.Errorf("%s: a key %+v", name, k)
		}
		if k, _ := l.m.Key("bound"); k.ExpiresAt == nil || !k.ExpiresAt.Equal(soon) {
			t.Errorf("%s: a key outlives its maker's: %v", name, k.ExpiresAt)
		}
		l.stamped(asked, epoch, fsm.OpKeyRotate, fsm.KeyRotate{ID: "k", Hash: [32]byte{3}})
		if k, _ := l.m.Key("k"); len(k.Former) != 1 || k.Former[0].Hash != [32]byte{1} {
			t.Errorf("%s: without overlap the secret before ends at once: %+v", name, k.Former)
		}
	}
}

func TestAnEntryWithoutATimeGoesByItsCommandsAndAnUnknownTimeStops(t *testing.T) {
	l := newLog(t)
	if res := l.do(fsm.OpTxBegin, "", "", fsm.TxBegin{Tx: transaction("t", txStep("a"))}); res.Err() != nil {
		t.Fatal(res.Err())
	}
	if tx, _ := l.m.Tx("t"); !tx.Deadline.Equal(epoch.Add(time.Minute)) {
		t.Errorf("as earlier programs wrote it: %v", tx.Deadline)
	}
	entry := fsm.Entry([][]byte{[]byte(`{"v":1,"op":"term.open","at":"2026-11-25T12:00:00Z","by":"node:1","body":{}}`)}, epoch)
	l.m.Apply(&raft.Log{Index: l.index + 1, Data: entry.Data, Extensions: entry.Extensions[1:]})
	if l.m.Err() == nil {
		t.Error("a time that is not understood was gone by")
	}
}
