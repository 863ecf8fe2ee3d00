package fsm_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/fsm"

	"github.com/hashicorp/raft"
)

func txStep(id string, needs ...string) muster.TxStep {
	return muster.TxStep{
		ID: id, NodeID: "n-" + id, Node: id, Journal: "j", Needs: needs,
		Run: muster.TxAction{Action: "app.do", Risk: muster.RiskLow}, Undo: muster.TxAction{Action: "app.undo", Risk: muster.RiskLow},
	}
}

func transaction(id string, steps ...muster.TxStep) muster.Tx {
	return muster.Tx{
		ID: id, Policy: muster.PolicyBackward, DeadlineMs: 60_000, Steps: steps,
		By: muster.Rights{Principal: "operator"},
	}
}

// legal says from which state a step's event is taken: transaction and step.
var legal = map[muster.TxEventKind][]string{
	muster.EventChecked:    {"pending pending"},
	muster.EventStart:      {"running pending"}, // pending: only once its precheck has passed
	muster.EventDone:       {"running starting", "compensating starting", "parked starting"},
	muster.EventFailed:     {"running starting", "compensating starting", "parked starting"},
	muster.EventUnknown:    {"running starting", "compensating starting", "parked starting"},
	muster.EventUndo:       {"compensating starting", "compensating done", "compensating unknown"},
	muster.EventUndone:     {"compensating undoing", "parked undoing"},
	muster.EventUndoFailed: {"compensating undoing", "parked undoing"},
	muster.EventAgain:      {"running starting", "compensating undoing"},
}

func TestEveryEventOfAStepIsTakenFromItsStatesAndNoOther(t *testing.T) {
	statuses := []muster.TxStatus{muster.TxPending, muster.TxRunning, muster.TxCompensating, muster.TxSucceeded, muster.TxRolledBack, muster.TxParked, muster.TxClosed}
	steps := []muster.StepStatus{
		muster.StepPending, muster.StepStarting, muster.StepDone, muster.StepFailed, muster.StepUnknown, muster.StepUndoing,
		muster.StepUndone, muster.StepUndoFailed, muster.StepSkipped,
	}
	tried := 0
	for event, from := range legal {
		for _, status := range statuses {
			for _, s := range steps {
				own := txStep("s")
				own.Status, own.Generation = s, 3
				tx := transaction("t", own, txStep("later", "s"))
				tx.Status, tx.Epoch, tx.Back = status, 7, status == muster.TxCompensating
				tx.Steps[1].Status = muster.StepPending
				if event == muster.EventChecked {
					tx.Steps[0].Check.Action = "app.look"
				}
				e := muster.TxEvent{Event: event, Step: "s", Generation: 3}
				if event == muster.EventStart || event == muster.EventUndo {
					e.Generation = 4
				}
				if status == muster.TxPending && event == muster.EventStart {
					tx.Steps[0].Check.Action = "app.look"
				}
				_, err := fsm.AdvanceTx(tx, 7, []muster.TxEvent{e}, 9, epoch)
				want := slices.Contains(from, fmt.Sprintf("%s %s", status, s))
				if want != (err == nil) || err != nil && (muster.KindOf(err) != muster.Conflict || muster.CodeOf(err) != "illegal_transition") {
					t.Errorf("%s of a step that is %s in a transaction that is %s: %v", event, s, status, err)
				}
				tried++
			}
		}
	}
	if tried != 9*7*9 {
		t.Errorf("tried %d", tried)
	}
}

func TestTheDirectionTurnsOnceAndNotPastThePivot(t *testing.T) {
	for status, taken := range map[muster.TxStatus]string{
		muster.TxPending: "abort park", muster.TxRunning: "abort park", muster.TxCompensating: "park",
		muster.TxSucceeded: "", muster.TxRolledBack: "", muster.TxParked: "", muster.TxClosed: "",
	} {
		for _, event := range []muster.TxEventKind{muster.EventAbort, muster.EventPark} {
			tx := transaction("t", txStep("s"))
			tx.Status, tx.Steps[0].Status = status, muster.StepDone
			next, err := fsm.AdvanceTx(tx, 0, []muster.TxEvent{{Event: event}}, 1, epoch)
			if want := strings.Contains(taken, string(event)); want != (err == nil) {
				t.Errorf("%s of one that is %s: %v", event, status, err)
			}
			if event == muster.EventAbort && err == nil && (!next.Back || next.Status != muster.TxCompensating) {
				t.Errorf("aborted: %+v", next)
			}
		}
	}
	for status, back := range map[muster.StepStatus]bool{
		muster.StepPending: true, muster.StepFailed: true, muster.StepStarting: false, muster.StepUnknown: false, muster.StepDone: false, muster.StepSkipped: false,
	} {
		tx := transaction("t", txStep("s"), txStep("later", "s"))
		tx.Status, tx.Steps[0].Pivot, tx.Steps[0].Status, tx.Steps[1].Status = muster.TxRunning, true, status, muster.StepPending
		if _, err := fsm.AdvanceTx(tx, 0, []muster.TxEvent{{Event: muster.EventAbort}}, 1, epoch); back != (err == nil) || fsm.OneWay(tx) == back {
			t.Errorf("the pivot is %s: %v", status, err)
		}
	}
	tx := transaction("t", txStep("s"))
	tx.Status, tx.Policy = muster.TxRunning, muster.PolicyForward
	if _, err := fsm.AdvanceTx(tx, 0, []muster.TxEvent{{Event: muster.EventAbort}}, 1, epoch); err == nil {
		t.Error("a transaction whose policy is forward went back")
	}
}

func TestAStepThatAnEarlierCallMayHaveDoneNeverCountsAsFailed(t *testing.T) {
	again := muster.TxEvent{Event: muster.EventAgain, Step: "s", Generation: 2, Doubt: true}
	for _, c := range []struct {
		event muster.TxEventKind
		taken bool
	}{{muster.EventFailed, false}, {muster.EventUnknown, true}, {muster.EventDone, true}} {
		started := play(t, began(t, txStep("s")), "start s")
		tx, err := fsm.AdvanceTx(started, started.Epoch, []muster.TxEvent{again}, 3, epoch)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fsm.AdvanceTx(tx, tx.Epoch, []muster.TxEvent{{Event: c.event, Step: "s", Generation: 2}}, 4, epoch); c.taken != (err == nil) {
			t.Errorf("%s: %v", c.event, err)
		}
	}
}

func TestAParkedTransactionOfWhichNothingIsLeftEnds(t *testing.T) {
	if tx := play(t, began(t, txStep("s")), "start s", "park", "done s"); tx.Status != muster.TxSucceeded {
		t.Errorf("all is done, and it is %s", tx.Status)
	}
	if tx := play(t, began(t, txStep("s")), "start s", "abort", "undo s", "park", "undone s"); tx.Status != muster.TxRolledBack {
		t.Errorf("all is undone, and it is %s", tx.Status)
	}
	parked := play(t, began(t, txStep("s")), "start s", "abort", "undo s", "park")
	parked.Error, parked.Cause = &muster.ActionError{Code: "parked"}, &muster.ActionError{Code: "cause"}
	if tx := play(t, parked, "undone s"); tx.Error.Code != "cause" {
		t.Errorf("rolled back because of %+v", tx.Error)
	}
}

func TestTheSheetNamesWhatIsLeftToDo(t *testing.T) {
	tx := began(t, txStep("a"), txStep("b", "a"))
	tx.Policy = muster.PolicyForward
	a := play(t, tx, "start a", "done a", "park").Answer()
	if len(a.Sheet) != 1 || a.Sheet[0].Step != "b" || a.Sheet[0].Status != muster.StepPending || a.Sheet[0].Action != "app.do" {
		t.Errorf("%+v", a.Sheet)
	}
}

func TestTheSheetHasTheParametersWithTheResultsThatAreKnown(t *testing.T) {
	b := txStep("b", "a")
	b.Undo.With = muster.Params{"to": json.RawMessage(`"${result.was} of ${steps.a.result.v}"`), "by": json.RawMessage(`"${result.gone}"`)}
	tx := play(t, began(t, txStep("a"), b, txStep("c", "b")), "start a")
	done := func(id, result string) {
		next, err := fsm.AdvanceTx(tx, tx.Epoch, []muster.TxEvent{{Event: muster.EventDone, Step: id, Generation: 1, Result: json.RawMessage(result)}}, 9, epoch)
		if err != nil {
			t.Fatal(err)
		}
		tx = next
	}
	done("a", `{"v":1}`)
	tx = play(t, tx, "start b")
	done("b", `{"was":"old"}`)
	a := play(t, tx, "start c", "failed c", "abort", "undo b", "undo_failed b", "park").Answer()
	if with := a.Sheet[1].With; a.Sheet[1].Step != "b" || string(with["to"]) != `"old of 1"` || string(with["by"]) != `"${result.gone}"` {
		t.Errorf("%s", with)
	}
}

func TestOnlyEventsOfTheEpochAndOfTheCallAreTaken(t *testing.T) {
	tx := transaction("t", txStep("s"))
	tx.Status, tx.Epoch, tx.Steps[0].Status, tx.Steps[0].Generation = muster.TxRunning, 7, muster.StepStarting, 2
	for _, epochs := range []uint64{6, 8} {
		if _, err := fsm.AdvanceTx(tx, epochs, []muster.TxEvent{{Event: muster.EventDone, Step: "s", Generation: 2}}, 9, epoch); muster.CodeOf(err) != "stale_epoch" {
			t.Errorf("epoch %d: %v", epochs, err)
		}
	}
	for _, generation := range []int{1, 3} {
		if _, err := fsm.AdvanceTx(tx, 7, []muster.TxEvent{{Event: muster.EventDone, Step: "s", Generation: generation}}, 9, epoch); err == nil {
			t.Errorf("generation %d was taken", generation)
		}
	}
	if _, err := fsm.AdvanceTx(tx, 7, []muster.TxEvent{{Event: muster.EventAgain, Step: "s", Generation: 4}}, 9, epoch); err == nil {
		t.Error("a generation was left out")
	}
}

// play applies events, each with the generation that is due.
func play(t *testing.T, tx muster.Tx, events ...string) muster.Tx {
	t.Helper()
	for _, text := range events {
		kind, id, _ := strings.Cut(text, " ")
		e := muster.TxEvent{Event: muster.TxEventKind(kind), Step: id}
		for _, s := range tx.Steps {
			if s.ID == id {
				e.Generation = s.Generation
			}
		}
		if e.Event == muster.EventStart || e.Event == muster.EventUndo {
			e.Generation++
		}
		next, err := fsm.AdvanceTx(tx, tx.Epoch, []muster.TxEvent{e}, tx.Index+1, epoch)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		tx = next
	}
	return tx
}

func began(t *testing.T, steps ...muster.TxStep) muster.Tx {
	t.Helper()
	tx, err := fsm.BeginTx(transaction("t", steps...), 5, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func refused(t *testing.T, tx muster.Tx, event muster.TxEventKind, id string, generation int) {
	t.Helper()
	if _, err := fsm.AdvanceTx(tx, tx.Epoch, []muster.TxEvent{{Event: event, Step: id, Generation: generation}}, 9, epoch); err == nil {
		t.Errorf("%s of %s was taken", event, id)
	}
}

func TestStepsStartWhenWhatTheyNeedIsDoneAndAreUndoneTheOtherWayRound(t *testing.T) {
	tx := began(t, txStep("a"), txStep("b", "a"), txStep("c", "b"))
	refused(t, tx, muster.EventStart, "b", 1)
	tx = play(t, tx, "start a", "done a", "start b", "unknown b")
	refused(t, tx, muster.EventStart, "c", 1)
	tx = play(t, tx, "abort")
	refused(t, tx, muster.EventUndo, "a", 2)
	tx = play(t, tx, "undo b")
	refused(t, tx, muster.EventUndo, "a", 2)
	tx = play(t, tx, "undone b", "undo a", "undone a")
	a := tx.Answer()
	if tx.Status != muster.TxRolledBack || tx.Steps[2].Status != muster.StepSkipped || !reflect.DeepEqual(a.RolledBack, []string{"a", "b"}) || len(a.NotCompensated) > 0 {
		t.Errorf("%+v", a)
	}
	if tx = play(t, began(t, txStep("a"), txStep("b")), "start a", "start b", "done b", "done a"); tx.Status != muster.TxSucceeded || tx.EndedAt.IsZero() {
		t.Errorf("%+v", tx)
	}
}

func TestAFailedUndoHoldsUpOnlyWhatItsStepNeeds(t *testing.T) {
	tx := play(t, began(t, txStep("a"), txStep("b", "a"), txStep("other")), "start a", "done a", "start b", "done b", "start other", "failed other",
		"abort", "undo b", "undo_failed b")
	refused(t, tx, muster.EventUndo, "a", 2)
	tx = play(t, tx, "park")
	a := tx.Answer()
	if a.Status != muster.TxParked || len(a.Sheet) != 2 || a.Sheet[0].Step != "a" || a.Sheet[1].Action != "app.undo" || !reflect.DeepEqual(a.NotCompensated, []string{"b"}) {
		t.Errorf("%+v", a)
	}
	next, err := fsm.OperateTx(tx, fsm.TxOperate{Command: muster.TxTryNow}, "operator", 9, epoch)
	if err != nil || next.Status != muster.TxCompensating || next.Steps[1].Status != muster.StepDone {
		t.Errorf("tried again: %+v, %v", next, err)
	}
	next, err = fsm.OperateTx(tx, fsm.TxOperate{Command: muster.TxSkip, Step: "b", Reason: "done by hand"}, "key:x", 9, epoch)
	last := next.History[len(next.History)-1]
	if err != nil || next.Status != muster.TxCompensating || next.Steps[1].Status != muster.StepSkipped || last.By != "key:x" || last.Message != "done by hand" {
		t.Errorf("skipped: %+v, %v", next, err)
	}
	if next = play(t, next, "undo a", "undone a"); next.Status != muster.TxRolledBack {
		t.Errorf("in the end %s", next.Status)
	}
	if next, err = fsm.OperateTx(tx, fsm.TxOperate{Command: muster.TxClose}, "operator", 9, epoch); err != nil || next.Status != muster.TxClosed {
		t.Errorf("closed: %+v, %v", next, err)
	}
}

func TestAFailedStepIsUndoneOnlyIfItsActionSaysSo(t *testing.T) {
	tx := play(t, began(t, txStep("a")), "start a", "failed a", "abort")
	if tx.Status != muster.TxRolledBack || tx.Steps[0].Status != muster.StepFailed {
		t.Errorf("%+v", tx)
	}
	s := txStep("a")
	s.OnFailed = true
	if tx = play(t, began(t, s), "start a", "failed a", "abort", "undo a", "undone a"); tx.Status != muster.TxRolledBack {
		t.Errorf("%+v", tx)
	}
}

func TestAStepWithoutUndoIsReported(t *testing.T) {
	bare, reading := txStep("bare"), txStep("reading")
	bare.Undo, reading.Undo, reading.Run.Risk = muster.TxAction{}, muster.TxAction{}, muster.RiskRead
	tx := play(t, began(t, bare, reading, txStep("c")), "start bare", "done bare", "start reading", "done reading", "start c", "failed c", "abort")
	if a := tx.Answer(); a.Status != muster.TxRolledBack || !reflect.DeepEqual(a.NotCompensated, []string{"bare"}) {
		t.Errorf("%+v", a)
	}
}

func TestTheWordsOfAnOperatorAreTakenOnlyWhereTheyMeanSomething(t *testing.T) {
	running := play(t, began(t, txStep("a")), "start a")
	forward := running
	forward.Policy = muster.PolicyForward
	pivot := running
	pivot.Steps = slices.Clone(running.Steps)
	pivot.Steps[0].Pivot = true
	parked := play(t, running, "park")
	back := play(t, running, "abort")
	done := play(t, running, "done a")
	cases := []struct {
		tx      muster.Tx
		command muster.TxCommand
		step    string
		want    muster.TxStatus // empty: refused
	}{
		{running, muster.TxCancel, "", muster.TxCompensating},
		{back, muster.TxCancel, "", muster.TxCompensating},
		{forward, muster.TxCancel, "", muster.TxParked},
		{pivot, muster.TxCancel, "", ""},
		{parked, muster.TxCancel, "", ""},
		{done, muster.TxCancel, "", ""},
		{running, muster.TxTryNow, "", muster.TxRunning},
		{parked, muster.TxTryNow, "", muster.TxRunning},
		{done, muster.TxTryNow, "", ""},
		{parked, muster.TxSkip, "a", muster.TxSucceeded},
		{parked, muster.TxSkip, "b", ""},
		{running, muster.TxSkip, "a", ""},
		{running, muster.TxClose, "", ""},
		{parked, muster.TxClose, "", muster.TxClosed},
		{parked, "sleep", "", ""},
	}
	for _, c := range cases {
		next, err := fsm.OperateTx(c.tx, fsm.TxOperate{Command: c.command, Step: c.step}, "operator", 9, epoch)
		if (err == nil) != (c.want != "") || err == nil && next.Status != c.want {
			t.Errorf("%s of one that is %s (%s): %s, %v", c.command, c.tx.Status, c.tx.Policy, next.Status, err)
		}
	}
}

func TestASecondCancelChangesNothing(t *testing.T) {
	l := newLog(t)
	l.do(fsm.OpTxBegin, "", "", fsm.TxBegin{Tx: transaction("t", txStep("a"))})
	l.do(fsm.OpTxOperate, "", "", fsm.TxOperate{ID: "t", Command: muster.TxCancel})
	before, _ := l.m.Tx("t")
	if err := l.do(fsm.OpTxOperate, "", "", fsm.TxOperate{ID: "t", Command: muster.TxCancel}).Err(); err != nil {
		t.Error(err)
	}
	if after, _ := l.m.Tx("t"); before.Status != muster.TxRolledBack || !reflect.DeepEqual(after, before) {
		t.Errorf("was %+v, is %+v", before, after)
	}
}

func TestAStepThatAnOperatorDidByHandIsNotSaidToBeUndone(t *testing.T) {
	tx := fsm.ClaimTx(play(t, began(t, txStep("a"), txStep("b", "a")), "start a"), "n2", &muster.ActionError{Code: "restored"}, 9, epoch)
	tx, err := fsm.OperateTx(tx, fsm.TxOperate{Command: muster.TxSkip, Step: "a"}, "operator", 10, epoch)
	if err != nil {
		t.Fatal(err)
	}
	a := play(t, tx, "start b", "failed b", "abort").Answer()
	if a.Status != muster.TxRolledBack || !reflect.DeepEqual(a.NotCompensated, []string{"a"}) {
		t.Errorf("%s, not compensated: %v", a.Status, a.NotCompensated)
	}
}

func TestABeginningThatIsTooLongDoesNotGetIntoTheLog(t *testing.T) {
	long := transaction("t", txStep("a"))
	long.Name = strings.Repeat("x", muster.MaxTxEntry)
	c, err := fsm.NewCommand(fsm.OpTxBegin, epoch, "operator", fsm.TxBegin{Tx: long})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fsm.Decode(raw); muster.KindOf(err) != muster.TooLarge {
		t.Errorf("the master takes it: %v", err)
	}
}

func TestABeginningHasInItWhatItsMasterStartsIfThatFollows(t *testing.T) {
	for _, c := range []struct {
		event   muster.TxEvent
		driver  string
		started bool
	}{
		{muster.TxEvent{Event: muster.EventStart, Step: "a", Generation: 1}, "n1", true},
		{muster.TxEvent{Event: muster.EventStart, Step: "b", Generation: 1}, "", false}, // a is not done
		{muster.TxEvent{Event: muster.EventDone, Step: "a", Generation: 1}, "", false},
	} {
		l := newLog(t)
		body := fsm.TxBegin{Tx: transaction("t", txStep("a"), txStep("b", "a")), Driver: "n1", Events: []muster.TxEvent{c.event}}
		if err := l.do(fsm.OpTxBegin, "", "", body).Err(); err != nil {
			t.Fatal(err)
		}
		tx, _ := l.m.Tx("t")
		if started := tx.Steps[0].Status == muster.StepStarting; started != c.started || tx.Driver != c.driver || tx.Epoch != l.index || tx.Index != l.index {
			t.Errorf("%+v: %+v", c.event, tx)
		}
		if !fsm.JustBegun(tx) {
			t.Errorf("%+v: it is not said to have just begun", c.event)
		}
		l.do(fsm.OpTxClaim, "", "", fsm.TxClaim{Driver: "n1"})
		if tx, _ = l.m.Tx("t"); tx.Epoch != l.index || fsm.JustBegun(tx) {
			t.Errorf("%+v: a claim is taken for the beginning: %+v", c.event, tx)
		}
	}
}

func TestANewMasterClaimsWhatIsOpenAndTheOldOneIsNotHeardAnyMore(t *testing.T) {
	l := newLog(t)
	if err := l.do(fsm.OpTxBegin, "", "", fsm.TxBegin{Tx: transaction("t", txStep("a"))}).Err(); err != nil {
		t.Fatal(err)
	}
	start := muster.TxEvent{Event: muster.EventStart, Step: "a", Generation: 1}
	first := l.index
	if err := l.do(fsm.OpTxClaim, "", "", fsm.TxClaim{Driver: "n2"}).Err(); err != nil {
		t.Fatal(err)
	}
	if res := l.do(fsm.OpTxAdvance, "", "", fsm.TxAdvance{ID: "t", Epoch: first, Events: []muster.TxEvent{start}}); res.Err() == nil || res.Refused.Code != "stale_epoch" {
		t.Errorf("the old master: %+v", res)
	}
	if err := l.do(fsm.OpTxAdvance, "", "", fsm.TxAdvance{ID: "t", Epoch: l.index - 1, Events: []muster.TxEvent{start}}).Err(); err != nil {
		t.Error(err)
	}
	if tx, _ := l.m.Tx("t"); tx.Driver != "n2" || tx.Steps[0].Status != muster.StepStarting {
		t.Errorf("%+v", tx)
	}
	l.do(fsm.OpTxBegin, "", "", fsm.TxBegin{Tx: transaction("of n2", txStep("a"))})
	if err := l.do(fsm.OpTxAdvance, "", "", fsm.TxAdvance{ID: "of n2", Epoch: l.index, Driver: "n2", Events: []muster.TxEvent{start}}).Err(); err != nil {
		t.Fatal(err)
	}
	if tx, _ := l.m.Tx("of n2"); tx.Driver != "n2" {
		t.Errorf("n2 wrote of it, and its driver is %q", tx.Driver)
	}
	why := &muster.ActionError{Code: "restored", Message: "from a copy"}
	if err := l.do(fsm.OpTxClaim, "", "", fsm.TxClaim{Driver: "n3", Park: why}).Err(); err != nil {
		t.Fatal(err)
	}
	if tx, _ := l.m.Tx("t"); tx.Status != muster.TxParked || tx.Error.Code != "restored" {
		t.Errorf("%+v", tx)
	}
}

func TestALockIsHeldUntilItsTransactionHasEnded(t *testing.T) {
	l := newLog(t)
	with := func(id string, locks ...string) fsm.TxBegin {
		tx := transaction(id, txStep("a"))
		tx.Locks = locks
		return fsm.TxBegin{Tx: tx}
	}
	l.do(fsm.OpTxBegin, "", "", with("t1", "x", "y"))
	res := l.do(fsm.OpTxBegin, "", "", with("t2", "z", "y"))
	if res.Err() == nil || res.Refused.Code != "locked" || !strings.Contains(res.Refused.Message, "t1") {
		t.Errorf("%+v", res)
	}
	if err := l.do(fsm.OpTxBegin, "", "", with("t3", "z")).Err(); err != nil {
		t.Error(err)
	}
	l.do(fsm.OpTxAdvance, "", "", fsm.TxAdvance{ID: "t1", Epoch: 1, Events: []muster.TxEvent{{Event: muster.EventPark}}})
	if res := l.do(fsm.OpTxBegin, "", "", with("t4", "y")); res.Err() == nil {
		t.Error("a parked transaction lost its lock")
	}
	l.do(fsm.OpTxOperate, "", "", fsm.TxOperate{ID: "t1", Command: muster.TxClose})
	if err := l.do(fsm.OpTxBegin, "", "", with("t4", "y")).Err(); err != nil {
		t.Error(err)
	}
}

func TestAKeyThatWasRefusedForALockBeginsOnceTheLockIsFree(t *testing.T) {
	l := newLog(t)
	with := func(id string) fsm.TxBegin {
		tx := transaction(id, txStep("a"))
		tx.Locks = []string{"x"}
		return fsm.TxBegin{Tx: tx}
	}
	l.do(fsm.OpTxBegin, "", "", with("holder"))
	at := func(seconds int, id string) fsm.Result {
		c, err := fsm.NewCommand(fsm.OpTxBegin, epoch.Add(time.Duration(seconds)*time.Second), "operator", with(id))
		if err != nil {
			t.Fatal(err)
		}
		c.Key, c.Digest = "release 7", "d"
		raw, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return l.raw(raw)
	}
	if res := at(1, "t1"); res.Err() == nil || res.Refused.Code != "locked" {
		t.Fatalf("%+v", res)
	}
	if res := at(2, "t2"); res.Err() == nil || res.Replayed {
		t.Errorf("while it is held: %+v", res)
	}
	l.do(fsm.OpTxOperate, "", "", fsm.TxOperate{ID: "holder", Command: muster.TxCancel})
	if res := at(2, "t2"); res.Err() == nil || !res.Replayed {
		t.Errorf("the same command, sent twice on its way: %+v", res)
	}
	if res := at(1, "t1"); res.Err() == nil || !res.Replayed {
		t.Errorf("one that came late: %+v", res)
	}
	if res := at(3, "t3"); res.Err() != nil || res.ID != "t3" {
		t.Errorf("asked again when it is free: %+v", res)
	}
	if res := at(4, "t4"); res.Err() != nil || res.ID != "t3" || !res.Replayed {
		t.Errorf("asked again after it began: %+v", res)
	}
}

func TestOfTransactionsOnlySoManyAreOpenAndSoMuchIsKept(t *testing.T) {
	l := newLog(t)
	begin := func(i int, name string) fsm.Result {
		tx := transaction(fmt.Sprintf("t%05d", i), txStep("a"))
		tx.Name = name
		return l.do(fsm.OpTxBegin, "", "", fsm.TxBegin{Tx: tx})
	}
	for i := range muster.MaxOpenTxs {
		if err := begin(i, "").Err(); err != nil {
			t.Fatal(err)
		}
	}
	if res := begin(1000, ""); muster.KindOf(res.Err()) != muster.Limited {
		t.Errorf("one more: %+v", res)
	}
	if res := begin(1000, strings.Repeat("x", muster.MaxTxEntry)); muster.KindOf(res.Err()) != muster.TooLarge {
		t.Errorf("a long one: %+v", res)
	}
	end := func(i int) {
		l.do(fsm.OpTxAdvance, "", "", fsm.TxAdvance{ID: fmt.Sprintf("t%05d", i), Epoch: uint64(i + 1), Events: []muster.TxEvent{{Event: muster.EventAbort}}})
	}
	for i := range muster.MaxOpenTxs {
		end(i)
	}
	if n := len(l.m.OpenTxs()); n != 0 {
		t.Fatalf("%d are open", n)
	}
	l = newLog(t)
	for i := range muster.MaxEndedTxs + 2 {
		id := fmt.Sprintf("t%05d", i)
		l.do(fsm.OpTxBegin, "", "", fsm.TxBegin{Tx: transaction(id, txStep("a"))})
		l.do(fsm.OpTxAdvance, "", "", fsm.TxAdvance{ID: id, Epoch: l.index, Events: []muster.TxEvent{{Event: muster.EventAbort}}})
	}
	all := l.m.Txs()
	if len(all) != muster.MaxEndedTxs || all[0].ID != "t01001" || all[len(all)-1].ID != "t00002" {
		t.Errorf("%d are kept, %s to %s", len(all), all[len(all)-1].ID, all[0].ID)
	}
	l.do(fsm.OpTxPurge, "", "", fsm.TxPurge{Before: epoch.Add(time.Second)})
	if n := len(l.m.Txs()); n != 0 {
		t.Errorf("%d are left", n)
	}
	for i := range muster.MaxEndedTxs {
		tx := transaction(fmt.Sprintf("u%05d", i), txStep("a"))
		tx.Name = strings.Repeat("x", 20_000)
		l.do(fsm.OpTxBegin, "", "", fsm.TxBegin{Tx: tx})
		l.do(fsm.OpTxAdvance, "", "", fsm.TxAdvance{ID: tx.ID, Epoch: l.index, Events: []muster.TxEvent{{Event: muster.EventAbort}}})
	}
	size := 0
	for _, tx := range l.m.Txs() {
		raw, err := json.Marshal(tx)
		if err != nil {
			t.Fatal(err)
		}
		size += len(raw)
	}
	if size > muster.MaxEndedSize || size < muster.MaxEndedSize-25_000 {
		t.Errorf("%d bytes are kept", size)
	}
}

func TestOfTransactionsThatEndWithOneEntryTheFirstOnesAreForgottenFirst(t *testing.T) {
	m := newLog(t).m
	order := rand.New(rand.NewPCG(1, 1)).Perm(muster.MaxEndedTxs + 8) //nolint:gosec // any order does
	for index := uint64(0); len(order) > 0; index += 2 {
		begin, end := make([]fsm.Command, 0, 8), make([]fsm.Command, 0, 8)
		for _, i := range order[:8] {
			id := fmt.Sprintf("t%05d", i)
			begin = append(begin, keyed(t, fsm.OpTxBegin, "", fsm.TxBegin{Tx: transaction(id, txStep("a"))}))
			end = append(end, keyed(t, fsm.OpTxAdvance, "", fsm.TxAdvance{ID: id, Epoch: index + 1, Events: []muster.TxEvent{{Event: muster.EventAbort}}}))
		}
		for i, entry := range []*raft.Log{entryOf(t, index+1, begin...), entryOf(t, index+2, end...)} {
			for _, res := range fsm.Results(m.Apply(entry)) {
				if res.Err() != nil {
					t.Fatal(i, res.Err())
				}
			}
		}
		if index > 0 && len(order) == 8 {
			break
		}
		order = order[8:]
	}
	if n := len(m.Txs()); n != muster.MaxEndedTxs {
		t.Errorf("%d are kept", n)
	}
	for _, i := range order {
		if _, kept := m.Tx(fmt.Sprintf("t%05d", i)); !kept {
			t.Errorf("t%05d is forgotten, though it was among the last", i)
		}
	}
}

func TestACancelIsTakenWithTheEntryThatAdvancesTheTransaction(t *testing.T) {
	m := newLog(t).m
	m.Apply(entryOf(t, 1, keyed(t, fsm.OpTxBegin, "", fsm.TxBegin{Tx: transaction("t", txStep("a"))})))
	m.Apply(entryOf(t, 2,
		keyed(t, fsm.OpTxAdvance, "", fsm.TxAdvance{ID: "t", Epoch: 1, Events: []muster.TxEvent{{Event: muster.EventStart, Step: "a", Generation: 1}}}),
		keyed(t, fsm.OpTxOperate, "", fsm.TxOperate{ID: "t", Command: muster.TxCancel})))
	if tx, _ := m.Tx("t"); tx.Status != muster.TxCompensating {
		t.Errorf("it is %s", tx.Status)
	}
}

func TestOnlyWhatEndedOrWasForgottenIsOver(t *testing.T) {
	l := newLog(t)
	over := func(id string, at time.Duration, want bool) {
		t.Helper()
		if got := l.m.TxOver(id, epoch.Add(at)); got != want {
			t.Errorf("%s, of which something was done at %v: %v", id, at, got)
		}
	}
	over("t1", 0, false) // a copy that knows nothing may be behind
	l.do(fsm.OpTxBegin, "", "", fsm.TxBegin{Tx: transaction("t2", txStep("a"))})
	over("t2", 0, false)
	over("t1", 0, false)
	over("t1", -time.Second, true)
	l.do(fsm.OpTxOperate, "", "", fsm.TxOperate{ID: "t2", Command: muster.TxCancel})
	over("t2", 0, true)
}

func TestTransactionsAreInTheSnapshot(t *testing.T) {
	l := newLog(t)
	l.do(fsm.OpTxBegin, "", "", fsm.TxBegin{Tx: transaction("t", txStep("a"), txStep("b", "a"))})
	result := json.RawMessage(`{"n":12345678901234567890}`)
	l.do(fsm.OpTxAdvance, "", "", fsm.TxAdvance{ID: "t", Epoch: 1, Events: []muster.TxEvent{
		{Event: muster.EventStart, Step: "a", Generation: 1}, {Event: muster.EventDone, Step: "a", Generation: 1, Result: result},
	}})
	shot, err := l.m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	out := &sink{}
	if err := shot.Persist(out); err != nil {
		t.Fatal(err)
	}
	copied := newLog(t)
	if err := copied.m.Restore(io.NopCloser(&out.Buffer)); err != nil {
		t.Fatal(err)
	}
	was, _ := l.m.Tx("t")
	is, _ := copied.m.Tx("t")
	if !reflect.DeepEqual(was, is) || string(is.Steps[0].Result) != string(result) || len(copied.m.OpenTxs()) != 1 {
		t.Errorf("was %+v, is %+v", was, is)
	}
}

func TestABeginningThatIsNoGraphIsRefused(t *testing.T) {
	many := make([]muster.TxStep, 65)
	for i := range many {
		many[i] = txStep(fmt.Sprint(i))
	}
	for name, tx := range map[string]muster.Tx{
		"no steps": transaction("t"), "65 steps": transaction("t", many...), "a step twice": transaction("t", txStep("a"), txStep("a")),
		"a later need": transaction("t", txStep("a", "b"), txStep("b")), "no node": transaction("t", muster.TxStep{ID: "a", Run: muster.TxAction{Action: "x"}}),
	} {
		if _, err := fsm.BeginTx(tx, 1, epoch); muster.KindOf(err) != muster.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	tx := transaction("t", txStep("a"))
	tx.DeadlineMs = 0
	if _, err := fsm.BeginTx(tx, 1, epoch); muster.KindOf(err) != muster.Invalid {
		t.Errorf("no deadline: %v", err)
	}
}
