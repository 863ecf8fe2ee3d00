package actions_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"muster"
	"muster/actions"
	"muster/actions/journal"
)

// opened is a real journal.
func opened(t *testing.T) *journal.Journal {
	t.Helper()
	j := journal.New(journal.Config{Path: filepath.Join(t.TempDir(), "journal.db")})
	if err := j.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return j
}

// journaled is an executor with a real journal. Its action app.count writes a
// line to the file returned each time it runs; app.look does, too, but its risk is
// read.
func journaled(t *testing.T) (e *actions.Executor, j *journal.Journal, count func() int) {
	t.Helper()
	j = opened(t)
	file := filepath.Join(t.TempDir(), "count")
	handler := "params: {n: {type: int}}\nhandler: {kind: exec, argv: [/bin/sh, -c, 'echo x >>" + file + "; sleep 0.1']}\n"
	counting := define(t, "app.count", handler)
	looking, err := parse("app.look.yaml", "action: app.look\nversion: 1.0.0\ntitle: A test\nrisk: read\n"+handler)
	if err != nil {
		t.Fatal(err)
	}
	return executor(t, actions.ExecutorConfig{Journal: j}, counting, looking), j, func() int {
		raw, _ := os.ReadFile(file)
		return strings.Count(string(raw), "x")
	}
}

func TestTheSameJobRunsOnceAndAllGetItsResult(t *testing.T) {
	e, _, count := journaled(t)
	x := muster.Execution{Action: "app.count", Job: "j_1", Params: muster.Params{"n": json.RawMessage("1")}}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if r := e.Execute(t.Context(), operator(), x); r.State != muster.StateOK {
				t.Errorf("%+v, %+v", r, r.Error)
			}
		})
	}
	wg.Wait()
	if r := e.Execute(t.Context(), operator(), x); r.State != muster.StateOK || count() != 1 {
		t.Errorf("%+v, it ran %d times", r, count())
	}
	x.Params = muster.Params{"n": json.RawMessage("2")}
	if r := e.Execute(t.Context(), operator(), x); r.State != muster.StateFailed || r.Error.Code != "conflict" || count() != 1 {
		t.Errorf("another request: %+v, it ran %d times", r, count())
	}
	x.Job = ""
	if r := e.Execute(t.Context(), operator(), x); r.State != muster.StateInvalid || count() != 1 {
		t.Errorf("without a job: %+v, it ran %d times", r, count())
	}
}

// Rule 14 of the security of remote execution: no record, no run.
func TestWithoutAJournalOnlyWhatReadsRuns(t *testing.T) {
	e, j, count := journaled(t)
	if err := j.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := e.Execute(t.Context(), operator(), muster.Execution{Action: "app.count", Job: "j_1"})
	if r.State != muster.StateFailed || r.Error.Code != "journal" || count() != 0 {
		t.Errorf("%+v, it ran %d times", r, count())
	}
	if r := e.Execute(t.Context(), operator(), muster.Execution{Action: "app.look"}); r.State != muster.StateOK || count() != 1 {
		t.Errorf("%+v, it ran %d times", r, count())
	}
}
