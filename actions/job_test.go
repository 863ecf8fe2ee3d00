package actions_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"runtime"
	"testing"

	"muster"
	"muster/actions"
	"muster/actions/journal"
)

func TestACancelledJobStartsNothingMoreAndKillsWhatRuns(t *testing.T) {
	f := newFleet(t, 3)
	j := journal.New(journal.Config{Path: filepath.Join(t.TempDir(), "journal.db")})
	if err := j.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := actions.NewRunner(actions.RunnerConfig{Self: f.nodes[0].ID, Jobs: j}, f, f.executors[f.nodes[0].ID], f)
	began, err := r.Begin(t.Context(), operator(), muster.Run{
		Action: "node.sleep", Params: muster.Params{"for": json.RawMessage(`"10m"`)},
		On: muster.Selector{All: true}, How: muster.Strategy{Concurrency: 2, OnFail: "continue"},
	})
	if err != nil || began.Status != muster.JobRunning || len(began.Pending) != 3 {
		t.Fatalf("%+v, %v", began, err)
	}
	id := began.Job
	for len(f.called()) == 0 { // b is the second one that may run at once
		runtime.Gosched()
	}
	if _, err := r.Cancel(t.Context(), muster.Rights{Principal: "key:1", Scopes: []string{"run:app.*"}}, id); muster.KindOf(err) != muster.Forbidden {
		t.Errorf("who may not run it: %v", err)
	}
	if _, err := r.Cancel(t.Context(), operator(), id); err != nil {
		t.Fatal(err)
	}
	ended := began
	for ended.Status == muster.JobRunning {
		if ended, err = r.Job(id); err != nil {
			t.Fatal(err)
		}
	}
	if ended.Status != muster.JobCancelled || ended.SuccessCount != 0 || ended.Pending != nil {
		t.Errorf("%+v", ended)
	}
	if c := ended.Results["c"]; c.State != muster.StateSkipped || c.Error.Code != "cancelled" {
		t.Errorf("what was not started: %+v, %+v", c, c.Error)
	}
	if a := ended.Results["a"]; a.State != muster.StateCancelled {
		t.Errorf("what ran: %+v, %+v", a, a.Error)
	}
	if _, err := r.Cancel(t.Context(), operator(), id); muster.KindOf(err) != muster.Conflict {
		t.Errorf("a job that has ended: %v", err)
	}
	if err := r.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if err := j.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}
