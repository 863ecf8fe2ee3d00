package journal_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster"
	"muster/actions/journal"
)

// call is an execution of a step.
func call(j *journal.Journal, op string, generation int) muster.JournalEntry {
	e := entry("t." + op + "." + string(rune('0'+generation)))
	e.Tx = &muster.TxOp{Tx: "t", Step: "s", Op: op, Generation: generation, Journal: j.ID()}
	return e
}

func undoing(j *journal.Journal, seen int, known bool) muster.JournalEntry {
	e := call(j, muster.OpUndo, 2)
	e.Seen, e.Tx.Done = seen, known
	return e
}

var broke = muster.Result{State: muster.StateFailed, Error: &muster.ActionError{Code: "exit"}}

func TestAnUndoWithoutADoingIsEmptyAndKeepsALateOneOut(t *testing.T) {
	j := opened(t, journal.Config{})
	known, err := j.Begin(t.Context(), undoing(j, 0, false))
	if err != nil || known == nil || known.State != muster.StateNoop || known.Error.Code != muster.CodeNothingToUndo {
		t.Fatalf("%+v, %v", known, err)
	}
	if known, err := j.Begin(t.Context(), call(j, muster.OpDo, 1)); known != nil || muster.CodeOf(err) != muster.CodeSuperseded {
		t.Errorf("a late doing: %+v, %v", known, err)
	}
	again, err := j.Begin(t.Context(), undoing(j, 0, false))
	if err != nil || again == nil || again.State != muster.StateNoop {
		t.Errorf("the same again: %+v, %v", again, err)
	}
}

func TestWhatANodeDoesNotKnowIsNotUndone(t *testing.T) {
	j := opened(t, journal.Config{})
	if known, err := j.Begin(t.Context(), undoing(j, 0, true)); known != nil || muster.CodeOf(err) != muster.CodeNotRemembered {
		t.Errorf("%+v, %v", known, err)
	}
}

func TestWhetherAnUndoHasSomethingToUndo(t *testing.T) {
	for name, c := range map[string]struct {
		result muster.Result
		failed bool
		runs   bool
	}{
		"done":                  {done, false, true},
		"failed":                {broke, false, false},
		"failed, and that said": {broke, true, true},
		"killed":                {muster.Result{State: muster.StateTimeout}, false, true},
		"a broken promise":      {muster.Result{State: muster.StateFailed, Error: &muster.ActionError{Code: "bad_result"}}, false, true},
		"denied":                {muster.Result{State: muster.StateDenied}, true, false},
	} {
		j := opened(t, journal.Config{})
		begin(t, j, call(j, muster.OpDo, 1))
		j.End(call(j, muster.OpDo, 1).Key, c.result)
		e := undoing(j, 1, false)
		e.Tx.OnFailed = c.failed
		known, err := j.Begin(t.Context(), e)
		if err != nil || (known == nil) != c.runs {
			t.Errorf("%s: %+v, %v", name, known, err)
		}
	}
}

func TestAnUndoWaitsForWhatItUndoes(t *testing.T) {
	j := opened(t, journal.Config{})
	begin(t, j, call(j, muster.OpDo, 1))
	if _, err := j.Begin(t.Context(), undoing(j, 1, false)); muster.CodeOf(err) != muster.CodeStillRunning {
		t.Errorf("while it runs: %v", err)
	}
	j.End(call(j, muster.OpDo, 1).Key, done)
	if _, err := j.Begin(t.Context(), undoing(j, 0, false)); muster.CodeOf(err) != muster.CodeStillRunning {
		t.Errorf("of one that began since: %v", err)
	}
	begin(t, j, undoing(j, 1, false))
	if _, err := j.Begin(t.Context(), call(j, muster.OpDo, 3)); muster.CodeOf(err) != muster.CodeStillRunning {
		t.Errorf("another one while the undo runs: %v", err)
	}
}

func TestARefusedCallIsRefusedForGood(t *testing.T) {
	j := opened(t, journal.Config{})
	e := call(j, muster.OpDo, 1)
	e.Unready = muster.Errorf(muster.Limited, "full").WithCode("queue_full")
	known, err := j.Begin(t.Context(), e)
	if err != nil || known == nil || known.State != muster.StateFailed || known.Error.Code != "queue_full" {
		t.Fatalf("%+v, %v", known, err)
	}
	if known, err := j.Begin(t.Context(), call(j, muster.OpDo, 1)); err != nil || known == nil || known.Error.Code != "queue_full" {
		t.Errorf("a second one: %+v, %v", known, err)
	}
	undo := undoing(j, 1, false)
	undo.Unready = errors.New("no result")
	if known, err := j.Begin(t.Context(), undo); err != nil || known == nil || known.State != muster.StateNoop {
		t.Errorf("its undo: %+v, %v", known, err)
	}
	j = opened(t, journal.Config{})
	if _, err := j.Begin(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	undo = undoing(j, 1, false)
	undo.Tx.OnFailed = true
	if known, err := j.Begin(t.Context(), undo); err != nil || known == nil || known.State != muster.StateNoop {
		t.Errorf("its undo, where failures are undone: %+v, %v", known, err)
	}
	list, err := j.Step("t", "s")
	if err != nil || len(list) != 2 || list[0].Tx.Op != muster.OpDo || list[1].Tx.Op != muster.OpUndo {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestAJournalKeepsItsIDAndStepsAndANewOneHasAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := journal.New(journal.Config{Path: path})
	if err := j.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	begin(t, j, call(j, muster.OpDo, 1))
	id := j.ID()
	stop(t, j)
	j = opened(t, journal.Config{Path: path})
	if j.ID() != id || id == "" || opened(t, journal.Config{}).ID() == id {
		t.Errorf("was %s, is %s", id, j.ID())
	}
	list, err := j.Step("t", "s")
	if err != nil || len(list) != 1 || list[0].Result.State != muster.StateInterrupted {
		t.Errorf("%+v, %v", list, err)
	}
	begin(t, j, undoing(j, 1, false)) // what was interrupted may have been done
}

func TestStepsOfTransactionsThatHaveEndedGoForRoomLikeAnythingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	synctest.Test(t, func(t *testing.T) {
		over := func(tx string, _ time.Time) bool { return strings.HasPrefix(tx, "over") }
		j := journal.New(journal.Config{Path: path, MaxSize: 128 << 10, Over: over})
		if err := j.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer stop(t, j)
		do := func(tx string) error {
			e := entry(tx + ".do")
			e.Tx = &muster.TxOp{Tx: tx, Step: "s", Op: muster.OpDo, Generation: 1, Journal: j.ID()}
			_, err := j.Begin(t.Context(), e)
			if err == nil {
				j.End(e.Key, muster.Result{State: muster.StateOK, Success: true, Result: json.RawMessage(`"` + strings.Repeat("x", 3000) + `"`)})
			}
			return err
		}
		if err := do("open"); err != nil {
			t.Fatal(err)
		}
		for i := range 200 { // one in three minutes
			time.Sleep(3 * time.Minute) //nolint:forbidigo // virtual
			if err := do("over" + strconv.Itoa(i)); err != nil {
				t.Fatalf("the %d.: %v", i, err)
			}
		}
		for tx, want := range map[string]int{"open": 1, "over0": 0, "over199": 1, "over190": 1} {
			if list, err := j.Step(tx, "s"); err != nil || len(list) != want {
				t.Errorf("of %s are there %d, %v", tx, len(list), err)
			}
		}
	})
}

func TestStepsAreRememberedForTwoDaysHoweverFullTheJournalIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	synctest.Test(t, func(t *testing.T) {
		j := journal.New(journal.Config{Path: path, MaxSize: 64 << 10})
		if err := j.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer stop(t, j)
		begin(t, j, call(j, muster.OpDo, 1))
		j.End(call(j, muster.OpDo, 1).Key, done)
		fill := func(prefix string) {
			for i := range 100 {
				e := entry(prefix + string(rune('0'+i/10)) + string(rune('0'+i%10)))
				e.Action = "app.x"
				if known, err := j.Begin(t.Context(), e); known == nil && err == nil {
					j.End(e.Key, muster.Result{State: muster.StateOK, Success: true, Result: json.RawMessage(`"` + strings.Repeat("x", 3000) + `"`)})
				}
			}
		}
		time.Sleep(2 * time.Hour) //nolint:forbidigo // virtual
		fill("a")
		if list, err := j.Step("t", "s"); err != nil || len(list) != 1 {
			t.Fatalf("after two hours: %+v, %v", list, err)
		}
		time.Sleep(muster.TxMemory) //nolint:forbidigo // virtual
		fill("b")
		if list, err := j.Step("t", "s"); err != nil || len(list) != 0 {
			t.Errorf("after two days: %+v, %v", list, err)
		}
	})
}

func TestWhatBeginsWhileItIsAskedForIsNeverToldAsLost(t *testing.T) {
	j := opened(t, journal.Config{NoSync: true})
	for name, ask := range map[string]func(key string) (*muster.Result, error){
		"an outcome": func(key string) (*muster.Result, error) {
			o, err := j.Outcome(key)
			return o.Result, err
		},
		"a step": func(key string) (*muster.Result, error) {
			list, err := j.Step("t", key)
			if len(list) == 0 {
				return nil, err
			}
			return &list[0].Result, err
		},
	} {
		for n := range 1500 {
			e := entry(fmt.Sprintf("%s %d", name, n))
			e.Tx = &muster.TxOp{Tx: "t", Step: e.Key, Op: muster.OpDo, Generation: 1, Journal: j.ID()}
			begun := make(chan error, 1)
			go func() {
				_, err := j.Begin(t.Context(), e)
				j.End(e.Key, done)
				begun <- err
			}()
			for waits := true; waits; {
				select {
				case err := <-begun:
					if waits = false; err != nil {
						t.Fatal(err)
					}
				default:
				}
				if r, err := ask(e.Key); err != nil || r != nil && r.State == muster.StateUnknown {
					t.Fatalf("%s, try %d: %+v, %v", name, n, r, err)
				}
			}
		}
	}
}
