package actions_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/actions"
	"muster/actions/journal"
)

// stepping is an executor that takes part in transactions. app.write appends its
// parameter to the file returned, and app.slow does and waits.
func stepping(t *testing.T) (e *actions.Executor, j *journal.Journal, wrote func() string) {
	t.Helper()
	j = opened(t)
	file := filepath.Join(t.TempDir(), "wrote")
	write := define(t, "app.write", `params: {w: {type: string, required: true}}
result: {was: {type: string}}
handler: {kind: exec, argv: [/bin/sh, -c, 'echo "$1" >>`+file+`; echo "{\"was\":\"$1\"}" >$MUSTER_RESULT', x, "${w}"]}
`)
	slow := define(t, "app.slow", `params: {w: {type: string}}
handler: {kind: exec, argv: [/bin/sh, -c, 'echo "$1" >>`+file+`; sleep 60; echo late >>`+file+`', x, "${w}"]}
limits: {kill_after: 1s}
`)
	env := define(t, "app.env", `handler: {kind: exec, argv: [/bin/sh, -c, 'echo $MUSTER_TX $MUSTER_STEP $MUSTER_OP $MUSTER_GENERATION $MUSTER_EPOCH >>`+file+"']}\n")
	e = executor(t, actions.ExecutorConfig{Journal: j, Steps: j}, write, slow, env)
	return e, j, func() string {
		raw, _ := os.ReadFile(file)
		return strings.Join(strings.Fields(string(raw)), " ")
	}
}

func stepCall(j *journal.Journal, op, action string, generation int, w string) muster.Execution {
	x := muster.Execution{Action: action, Job: "t_1.s." + op + "." + string(rune('0'+generation)), Tx: &muster.TxOp{
		Tx: "1", Step: "s", Op: op, Generation: generation, Epoch: 9, Journal: j.ID(),
	}}
	if w != "" {
		x.Params = muster.Params{"w": json.RawMessage(`"` + w + `"`)}
	}
	return x
}

func TestAStepIsDoneOnceAndUndoneOnceWithItsResult(t *testing.T) {
	e, j, wrote := stepping(t)
	for range 2 {
		if r := e.Execute(t.Context(), operator(), stepCall(j, muster.OpDo, "app.write", 1, "do")); !r.Success || string(r.Result) != `{"was":"do"}` {
			t.Fatalf("%+v, %+v", r, r.Error)
		}
	}
	for range 2 {
		if r := e.Execute(t.Context(), operator(), stepCall(j, muster.OpUndo, "app.write", 2, "un-${result.was}")); !r.Success {
			t.Fatalf("%+v, %+v", r, r.Error)
		}
	}
	r := e.Execute(t.Context(), operator(), stepCall(j, muster.OpDo, "app.write", 1, "do"))
	if !r.Success || wrote() != "do un-do" {
		t.Errorf("wrote %s; at last %+v", wrote(), r)
	}
}

func TestAStepIsTriedAgainByItsTransactionOnly(t *testing.T) {
	_, j, _ := stepping(t)
	file := filepath.Join(t.TempDir(), "wrote")
	e := executor(t, actions.ExecutorConfig{Journal: j, Steps: j}, define(t, "app.busy",
		"retry: {attempts: 3, first: 1ms, on: [unavailable]}\nhandler: {kind: exec, argv: [/bin/sh, -c, 'echo x >>"+file+"; exit 75']}\n"))
	for _, want := range []struct {
		x     muster.Execution
		tries int
	}{{stepCall(j, muster.OpDo, "app.busy", 1, ""), 1}, {muster.Execution{Action: "app.busy", Job: "j_1"}, 1 + 3}} {
		r := e.Execute(t.Context(), operator(), want.x)
		if raw, err := os.ReadFile(file); r.State != muster.StateFailed || err != nil || strings.Count(string(raw), "x") != want.tries {
			t.Errorf("%s: %+v, %d tries, %v", want.x.Job, r, strings.Count(string(raw), "x"), err)
		}
	}
}

func TestAnApplicationHearsWhichCallOfAStepItServesAndItsAnswerIsSettled(t *testing.T) {
	_, j, _ := stepping(t)
	var got http.Header
	s := application(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		w.WriteHeader(http.StatusInternalServerError)
	})
	e := executor(t, actions.ExecutorConfig{Journal: j, Steps: j}, hook(t, s.URL, "", ""))
	for range 2 {
		if r := e.Execute(t.Context(), operator(), stepCall(j, muster.OpDo, "app.hook", 1, "")); r.State != muster.StateUnknown || !r.Settled {
			t.Errorf("%+v, %+v", r, r.Error)
		}
	}
	for name, want := range map[string]string{"Tx": "1", "Step": "s", "Op": "do", "Generation": "1", "Epoch": "9"} {
		if got.Get("Muster-"+name) != want {
			t.Errorf("Muster-%s is %q", name, got.Get("Muster-"+name))
		}
	}
	if r := e.Execute(t.Context(), operator(), stepCall(j, muster.OpDo, "app.none", 2, "")); r.State != muster.StateInvalid || !r.Settled {
		t.Errorf("refused: %+v, %+v", r, r.Error)
	}
	if r := e.Execute(t.Context(), operator(), stepCall(j, muster.OpDo, "app.hook", 1, "w")); r.Settled {
		t.Errorf("another request: %+v, %+v", r, r.Error)
	}
	if r := e.Execute(t.Context(), operator(), muster.Execution{Action: "app.hook", Job: "j_1"}); r.State != muster.StateUnknown || r.Settled {
		t.Errorf("of no transaction: %+v, %+v", r, r.Error)
	}
}

func TestALateStepIsRefusedAfterItsEmptyUndo(t *testing.T) {
	e, j, wrote := stepping(t)
	r := e.Execute(t.Context(), operator(), stepCall(j, muster.OpUndo, "app.write", 2, "un-${result.was}"))
	if !r.Success || r.Error.Code != muster.CodeNothingToUndo {
		t.Fatalf("%+v, %+v", r, r.Error)
	}
	r = e.Execute(t.Context(), operator(), stepCall(j, muster.OpDo, "app.write", 1, "do"))
	if r.State != muster.StateFailed || r.Error.Code != muster.CodeSuperseded || wrote() != "" {
		t.Errorf("%+v, %+v, wrote %q", r, r.Error, wrote())
	}
}

func TestAnUndoEndsWhatStillRunsAndComesAfterIt(t *testing.T) {
	e, j, wrote := stepping(t)
	over := make(chan muster.Result, 1)
	go func() { over <- e.Execute(t.Context(), operator(), stepCall(j, muster.OpDo, "app.slow", 1, "slow")) }()
	for tick := time.NewTicker(5 * time.Millisecond); wrote() != "slow"; <-tick.C {
		if t.Context().Err() != nil {
			t.Fatal("it does not begin")
		}
	}
	r := e.Execute(t.Context(), operator(), stepCall(j, muster.OpUndo, "app.write", 2, "undone"))
	if did := <-over; did.State != muster.StateCancelled || !r.Success || wrote() != "slow undone" {
		t.Errorf("did %+v, undid %+v %+v, wrote %s", did, r, r.Error, wrote())
	}
}

func TestARefusedStepStaysRefusedAndHasNothingToUndo(t *testing.T) {
	e, j, wrote := stepping(t)
	for range 2 {
		if r := e.Execute(t.Context(), operator(), stepCall(j, muster.OpDo, "app.write", 1, "")); r.State != muster.StateInvalid {
			t.Fatalf("%+v, %+v", r, r.Error)
		}
	}
	if r := e.Execute(t.Context(), operator(), stepCall(j, muster.OpUndo, "app.write", 2, "un-${result.was}")); !r.Success || wrote() != "" {
		t.Errorf("%+v, %+v, wrote %s", r, r.Error, wrote())
	}
}

func TestAnUndoThatNeedsALostResultIsRefused(t *testing.T) {
	e, j, wrote := stepping(t)
	if r := e.Execute(t.Context(), operator(), stepCall(j, muster.OpDo, "app.env", 1, "")); !r.Success || wrote() != "1 s do 1 9" {
		t.Fatalf("%+v, %+v, %s", r, r.Error, wrote())
	}
	if r := e.Execute(t.Context(), operator(), stepCall(j, muster.OpUndo, "app.write", 2, "un-${result.was}")); r.Success || r.Error.Code != "no_result" {
		t.Errorf("%+v, %+v", r, r.Error)
	}
}

func TestWhatIsFilledIntoAnUndoIsNotFilledInAgain(t *testing.T) {
	e, j, wrote := stepping(t)
	if r := e.Execute(t.Context(), operator(), stepCall(j, muster.OpDo, "app.write", 1, "do")); !r.Success {
		t.Fatalf("%+v, %+v", r, r.Error)
	}
	x := stepCall(j, muster.OpUndo, "app.write", 2, "un-${result.was},${steps.one.result.text}")
	x.Tx.Given = muster.Params{"steps.one.result.text": json.RawMessage(`"for-${5}-and-${result.was}"`)}
	if r := e.Execute(t.Context(), operator(), x); !r.Success || wrote() != "do un-do,for-${5}-and-${result.was}" {
		t.Errorf("%+v, %+v, wrote %s", r, r.Error, wrote())
	}
}

func TestANodeWithAnotherJournalTakesNoPart(t *testing.T) {
	e, j, wrote := stepping(t)
	for _, op := range []string{muster.OpDo, muster.OpUndo} {
		x := stepCall(j, op, "app.write", 1, "x")
		x.Tx.Journal = "another"
		if r := e.Execute(t.Context(), operator(), x); r.State != muster.StateFailed || r.Error.Code != muster.CodeJournalLost {
			t.Errorf("%+v, %+v", r, r.Error)
		}
	}
	known := stepCall(j, muster.OpUndo, "app.write", 2, "x")
	known.Tx.Done = true
	if r := e.Execute(t.Context(), operator(), known); r.Error == nil || r.Error.Code != muster.CodeNotRemembered || wrote() != "" {
		t.Errorf("%+v, wrote %s", r, wrote())
	}
}
