package actions_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"muster"
	"muster/actions"
	"muster/actions/journal"
)

func TestACancelledJobStartsNothingMoreAndKillsWhatRuns(t *testing.T) {
	f := newFleet(t, 3)
	r := f.keeping(t, book(t, filepath.Join(t.TempDir(), "journal.db")))
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
}

// book is a journal that is closed when the test ends.
func book(t *testing.T, path string) *journal.Journal {
	t.Helper()
	j := journal.New(journal.Config{Path: path})
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

// sealOf is that of a journal.
func sealOf(j actions.Jobs) actions.Seal {
	if j, ok := j.(*journal.Journal); ok {
		return j.Seal
	}
	return nil
}

// keeping is a runner at a whose jobs are kept, and which is stopped when the
// test ends.
func (f *fleet) keeping(t *testing.T, j actions.Jobs) *actions.Runner {
	t.Helper()
	r := actions.NewRunner(actions.RunnerConfig{Self: f.nodes[0].ID, Jobs: j, Seal: sealOf(j)}, f, f.executors[f.nodes[0].ID], f)
	t.Cleanup(func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// programs gives all nodes of a fleet these actions, and a place for what they
// print.
func (f *fleet) programs(t *testing.T, defs ...actions.Definition) {
	t.Helper()
	for _, n := range f.nodes {
		spool, err := actions.OpenSpool(filepath.Join(t.TempDir(), n.Slug))
		if err != nil {
			t.Fatal(err)
		}
		e, err := actions.NewExecutor(actions.ExecutorConfig{ID: n.ID, Definitions: defs, Spool: spool})
		if err != nil {
			t.Fatal(err)
		}
		f.executors[n.ID] = e
	}
}

// ended waits for the end of a job.
func ended(t *testing.T, r *actions.Runner, id string) muster.Job {
	t.Helper()
	for after := int64(0); ; {
		told, err := r.Events(t.Context(), id, after)
		if err != nil {
			t.Fatal(err)
		}
		if told.Ended {
			return *told.Events[len(told.Events)-1].Job
		}
		after = told.Events[len(told.Events)-1].Seq
	}
}

func TestARunIsInTheHistoryWhetherSomebodyWaitedOrNot(t *testing.T) {
	f := newFleet(t, 2)
	path := filepath.Join(t.TempDir(), "journal.db")
	j := book(t, path)
	r := f.keeping(t, j)
	waited, err := r.Run(t.Context(), operator(), ping(muster.Selector{All: true}))
	if err != nil || waited.Status != muster.JobSucceeded {
		t.Fatalf("%+v, %v", waited, err)
	}
	began, err := r.Begin(t.Context(), operator(), ping(names("b")))
	if err != nil {
		t.Fatal(err)
	}
	ended(t, r, began.Job)
	for what, keeper := range map[string]interface {
		Jobs(string) iter.Seq2[muster.Job, error]
	}{"the runner": r, "the journal": j} {
		var all []muster.Job
		var err error
		for j, bad := range keeper.Jobs("") {
			all, err = append(all, j), bad
		}
		if err != nil || len(all) != 2 || all[0].Job != began.Job || all[1].Job != waited.Job || all[1].SuccessCount != 2 || all[0].Status != muster.JobSucceeded {
			t.Errorf("%s: %+v, %v", what, all, err)
		}
	}
}

func TestARunWithAnIDIsBegunOnce(t *testing.T) {
	f := newFleet(t, 2)
	j := book(t, filepath.Join(t.TempDir(), "journal.db"))
	r := f.keeping(t, j)
	run := ping(names("b"))
	run.ID = "j_id-a_1"
	done := make(chan muster.Job, 8)
	for range cap(done) {
		go func() {
			job, err := r.Run(t.Context(), operator(), run)
			if err != nil {
				t.Error(err)
			}
			done <- job
		}()
	}
	for range cap(done) {
		if job := <-done; job.Job != run.ID || !job.Success {
			t.Errorf("%+v", job)
		}
	}
	// A runner that did not lead it knows it by the journal.
	if job, err := f.keeping(t, j).Run(t.Context(), operator(), run); err != nil || job.Job != run.ID || !job.Success {
		t.Errorf("%+v, %v", job, err)
	}
	if job, err := f.keeping(t, j).Begin(t.Context(), operator(), run); err != nil || job.Status != muster.JobSucceeded {
		t.Errorf("%+v, %v", job, err)
	}
	if calls := f.called(); len(calls) != 1 {
		t.Errorf("it ran %d times", len(calls))
	}
}

func TestEventsTellWhatProgramsPrintAndEndWithTheJob(t *testing.T) {
	f := newFleet(t, 2)
	gate := filepath.Join(t.TempDir(), "gate")
	f.programs(t, define(t, "app.talk", "params: {pass: {type: string, secret: true}}\n"+
		"handler: {kind: exec, stdin: params, argv: [/bin/sh, -c, 'read p; echo one; echo ::progress 40 half of it; echo two >&2; until test -e "+gate+"; do sleep 0.05; done; echo \"$p\"; echo ::progress 100']}\n"))
	r := f.keeping(t, nil)
	began, err := r.Begin(t.Context(), operator(), muster.Run{
		Action: "app.talk", On: muster.Selector{All: true}, Params: muster.Params{"pass": json.RawMessage(`"canary-secret"`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	seen, text, last := map[string]int{}, map[string]string{}, int64(0)
	for over := false; !over; {
		told, err := r.Events(t.Context(), began.Job, last)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range told.Events {
			if e.Seq != last+1 {
				t.Errorf("%d follows %d", e.Seq, last)
			}
			last = e.Seq
			seen[e.Type]++
			if e.Type == muster.EventLog {
				text[e.Node+" "+e.Stream] += e.Text
			}
			if e.Type == muster.EventProgress {
				text[e.Node+" progress"] += fmt.Sprint(*e.Percent, e.Text, ";")
			}
		}
		if text["a stderr"] != "" && text["b stderr"] != "" { // both run and were seen
			if err := os.WriteFile(gate, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		over = told.Ended
	}
	if seen["state"] != 2 || seen["result"] != 2 || seen["summary"] != 1 {
		t.Errorf("%v", seen)
	}
	for _, slug := range []string{"a", "b"} {
		want := "one\n::progress 40 half of it\n{\"pass\":\"[redacted]\"}\n::progress 100\n"
		if text[slug+" stdout"] != want || text[slug+" stderr"] != "two\n" || text[slug+" progress"] != "40half of it;100;" {
			t.Errorf("%s: %q", slug, text)
		}
		out, err := f.executors["id-"+slug].Output(t.Context(), operator(), muster.OutputAsk{Job: began.Job})
		if err != nil || out.Stdout != want || out.Stderr != "two\n" || out.Running || out.Truncated {
			t.Errorf("%s: %+v, %v", slug, out, err)
		}
	}
	nobody := muster.Rights{Principal: "key:1", Scopes: []string{"run:web.*"}}
	if _, err := f.executors["id-a"].Output(t.Context(), nobody, muster.OutputAsk{Job: began.Job}); muster.KindOf(err) != muster.Forbidden {
		t.Errorf("who may not run it: %v", err)
	}
}

func TestAWatcherWhoIsTooSlowLosesTheOldestAndTheJobDoesNotWait(t *testing.T) {
	f := newFleet(t, 1)
	f.programs(t, define(t, "app.flood", "handler: {kind: exec, argv: [/bin/sh, -c, 'i=0; while test $i -lt 64; do head -c 65536 /dev/zero | tr \"\\0\" y; i=$((i+1)); done']}\nlimits: {output: 4MiB}\n"))
	r := f.keeping(t, nil)
	began, err := r.Begin(t.Context(), operator(), muster.Run{Action: "app.flood", On: muster.Selector{All: true}})
	if err != nil {
		t.Fatal(err)
	}
	first, err := r.Events(t.Context(), began.Job, 0) // it is watched from now on
	if err != nil || len(first.Events) == 0 {
		t.Fatal(first, err)
	}
	for {
		job, err := r.Job(began.Job)
		if err != nil {
			t.Fatal(err)
		}
		if job.Status == muster.JobSucceeded {
			break
		}
		runtime.Gosched()
	}
	ended(t, r, began.Job)
	bytes := 0
	told, err := r.Events(t.Context(), began.Job, 1)
	for _, e := range told.Events {
		bytes += len(e.Text)
	}
	if err != nil || !told.Ended || told.Events[0].Type != muster.EventResync || bytes > 1<<20 || bytes < 1<<20-16<<10 {
		t.Errorf("%d bytes in %d events, %v", bytes, len(told.Events), err)
	}
	if told, err = r.Events(t.Context(), began.Job, 1<<40); err != nil || told.Events[0].Type != muster.EventResync {
		t.Errorf("of an event that was never there: %+v, %v", told.Events, err)
	}
}

func TestRetryTakesTheFrozenNodesThatFailed(t *testing.T) {
	f := newFleet(t, 4)
	f.errs["b"] = muster.Errorf(muster.Unavailable, "down").WithCode("no_connection")
	f.answers["c"] = muster.Result{State: muster.StateFailed, Error: &muster.ActionError{Code: "exit"}}
	r := f.keeping(t, book(t, filepath.Join(t.TempDir(), "journal.db")))
	run := muster.Run{Action: "node.echo", Params: muster.Params{"text": json.RawMessage(`"hi"`)}, On: muster.Selector{Where: "env=prod"}, How: muster.Strategy{Mode: "serial", OnFail: "continue"}}
	old, err := r.Run(t.Context(), operator(), run)
	if err != nil || told(old) != "a:ok b:unreachable/no_connection c:failed/exit d:ok" {
		t.Fatal(told(old), err)
	}
	f.errs, f.answers = nil, nil
	f.nodes[1].Slug, f.nodes[1].Metadata = "bee", nil // renamed, and no longer where the selector says
	for _, c := range []struct {
		again muster.Retry
		says  string
	}{
		{muster.Retry{}, "bee:ok c:ok"},
		{muster.Retry{Only: "unreachable"}, "bee:ok"},
	} {
		began, err := r.Retry(t.Context(), operator(), old.Job, c.again)
		if err != nil || began.RetryOf != old.Job || began.Job == old.Job {
			t.Fatalf("%+v, %v", began, err)
		}
		if job := ended(t, r, began.Job); told(job) != c.says || string(job.Results["bee"].Result) != `{"text":"hi"}` {
			t.Errorf("%+v: %s", c.again, told(job))
		}
	}
	gone := time.Now()
	f.nodes[1].DeletedAt = &gone
	began, err := r.Retry(t.Context(), operator(), old.Job, muster.Retry{})
	if err != nil {
		t.Fatal(err)
	}
	if job := ended(t, r, began.Job); told(job) != "b:skipped/gone c:ok" {
		t.Error(told(job))
	}
	for _, c := range []struct {
		id    string
		by    muster.Rights
		again muster.Retry
		kind  muster.Kind
	}{
		{old.Job, operator(), muster.Retry{Only: "skipped"}, muster.Conflict},
		{old.Job, operator(), muster.Retry{Only: "all"}, muster.Invalid},
		{old.Job, operator(), muster.Retry{Params: muster.Params{"text": json.RawMessage(`"ho"`)}}, muster.Invalid},
		{old.Job, muster.Rights{Principal: "key:1", Scopes: []string{"run:app.*"}}, muster.Retry{}, muster.Forbidden},
		{"j_id-a_x", operator(), muster.Retry{}, muster.NotFound},
	} {
		if job, err := r.Retry(t.Context(), c.by, c.id, c.again); muster.KindOf(err) != c.kind {
			t.Errorf("%+v: %+v, %v", c, job, err)
		}
	}
}

func TestRetryOfWhatHadASecretNeedsItAgain(t *testing.T) {
	f := newFleet(t, 1)
	f.programs(t, define(t, "app.fail", "params: {pass: {type: string, secret: true}}\nhandler: {kind: exec, stdin: params, argv: [/bin/false]}\n"))
	path := filepath.Join(t.TempDir(), "journal.db")
	r := f.keeping(t, book(t, path))
	run := muster.Run{Action: "app.fail", On: muster.Selector{All: true}, Params: muster.Params{"pass": json.RawMessage(`"canary-secret"`)}}
	old, err := r.Run(t.Context(), operator(), run)
	if err != nil || told(old) != "a:failed/exit" {
		t.Fatal(told(old), err)
	}
	if _, err := r.Retry(t.Context(), operator(), old.Job, muster.Retry{}); muster.KindOf(err) != muster.Invalid || !strings.Contains(err.Error(), "params") {
		t.Errorf("%v", err)
	}
	began, err := r.Retry(t.Context(), operator(), old.Job, muster.Retry{Params: run.Params, ID: "j_id-a_again"})
	if err != nil {
		t.Fatal(err)
	}
	ended(t, r, began.Job)
	other := muster.Params{"pass": json.RawMessage(`"canary-other"`)}
	if _, err := r.Retry(t.Context(), operator(), old.Job, muster.Retry{Params: other, ID: "j_id-a_again"}); muster.KindOf(err) != muster.Conflict {
		t.Errorf("with another secret, as the same retry: %v", err)
	}
	sum := sha256.Sum256([]byte(`{"pass":"canary-secret"}`))
	told, _ := json.Marshal(old)
	if raw, err := os.ReadFile(path); err != nil || strings.Contains(string(raw), "canary") || strings.Contains(string(raw)+string(told), hex.EncodeToString(sum[:])) {
		t.Errorf("the secret, or its plain digest, is on the disk or told, or %v", err)
	}
}

// nameless remembers whether it was asked for a job without saying which.
type nameless struct {
	*journal.Journal

	asked atomic.Bool
}

func (n *nameless) Job(id string) (muster.Job, error) {
	if id == "" {
		n.asked.Store(true)
	}
	return n.Journal.Job(id)
}

func TestWhatHasNoIDYetIsNotLookedFor(t *testing.T) {
	f := newFleet(t, 1)
	j := &nameless{Journal: book(t, filepath.Join(t.TempDir(), "journal.db"))}
	r := f.keeping(t, j)
	run := muster.Run{Action: "node.sleep", On: muster.Selector{All: true}, Params: muster.Params{"for": json.RawMessage(`"x"`)}}
	old, err := r.Run(t.Context(), operator(), run)
	if err != nil || old.Success {
		t.Fatalf("%+v, %v", old, err)
	}
	again, err := r.Retry(t.Context(), operator(), old.Job, muster.Retry{})
	if err != nil {
		t.Fatal(err)
	}
	ended(t, r, again.Job)
	if j.asked.Load() {
		t.Error("the journal was asked for a job without an ID")
	}
}

func TestAJobKnowsItsParametersHoweverTheyAreWritten(t *testing.T) {
	f := newFleet(t, 1)
	f.programs(t, define(t, "app.fail", "params: {o: {type: object}}\nhandler: {kind: exec, stdin: params, argv: [/bin/false]}\n"))
	path := filepath.Join(t.TempDir(), "journal.db")
	j := journal.New(journal.Config{Path: path})
	if err := j.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	run := muster.Run{Action: "app.fail", On: muster.Selector{All: true}, Params: muster.Params{"o": json.RawMessage(`{ "b": "<&>", "a": 1 }`)}, ID: "j_id-a_1"}
	r := actions.NewRunner(actions.RunnerConfig{Self: "id-a", Jobs: j, Seal: j.Seal}, f, f.executors["id-a"], f)
	old, err := r.Run(t.Context(), operator(), run)
	if err := errors.Join(err, r.Stop(t.Context()), j.Stop(t.Context())); err != nil {
		t.Fatal(err)
	}
	r = f.keeping(t, book(t, path)) // which has it from the disk
	run.Params = muster.Params{"o": json.RawMessage(`{"a":1,"b":"\u003c\u0026>"}`)}
	if known, err := r.Run(t.Context(), operator(), run); err != nil || known.Job != old.Job {
		t.Errorf("%+v, %v", known, err)
	}
	began, err := r.Retry(t.Context(), operator(), old.Job, muster.Retry{})
	if err != nil {
		t.Fatal(err)
	}
	ended(t, r, began.Job)
	for name, params := range map[string]muster.Params{"others": {"o": json.RawMessage(`{"a":2}`)}, "none": nil} {
		run.Params = params
		if _, err := r.Run(t.Context(), operator(), run); muster.KindOf(err) != muster.Conflict || muster.CodeOf(err) != "idempotency_key_reused" {
			t.Errorf("with %s: %v", name, err)
		}
		if _, err := r.Begin(t.Context(), operator(), run); muster.KindOf(err) != muster.Conflict {
			t.Errorf("with %s, and nobody waits: %v", name, err)
		}
	}
}

// together holds the first callers of a registry until there are two.
type together struct {
	*fleet

	callers atomic.Int32
	both    chan struct{}
}

func (g *together) Nodes() []muster.Node {
	if n := g.callers.Add(1); n == 2 {
		close(g.both)
	}
	<-g.both
	return g.fleet.Nodes()
}

func TestOfTwoRunsUnderOneIDAtOnceTheOneWithOtherParametersIsAConflict(t *testing.T) {
	f := newFleet(t, 1)
	f.programs(t, define(t, "app.echo", "params: {n: {type: int}}\nhandler: {kind: exec, stdin: params, argv: [/bin/true]}\n"))
	for name, call := range map[string]func(*actions.Runner, muster.Run) (muster.Job, error){
		"waited for": func(r *actions.Runner, run muster.Run) (muster.Job, error) {
			return r.Run(t.Context(), operator(), run)
		},
		"alone": func(r *actions.Runner, run muster.Run) (muster.Job, error) {
			return r.Begin(t.Context(), operator(), run)
		},
	} {
		r := actions.NewRunner(actions.RunnerConfig{Self: "id-a"}, &together{fleet: f, both: make(chan struct{})}, f.executors["id-a"], f)
		answers := make(chan error, 2)
		for n := range cap(answers) {
			go func() {
				_, err := call(r, muster.Run{Action: "app.echo", On: muster.Selector{All: true}, ID: "j_id-a_1", Params: muster.Params{"n": json.RawMessage(strconv.Itoa(n))}})
				answers <- err
			}()
		}
		one, other := <-answers, <-answers
		if err := r.Stop(t.Context()); err != nil || (one == nil) == (other == nil) || muster.CodeOf(cmp.Or(one, other)) != "idempotency_key_reused" {
			t.Errorf("%s: %v and %v, %v", name, one, other, err)
		}
	}
}

func TestAProgramWhoseResultHasASecretHasNoOutput(t *testing.T) {
	dir := t.TempDir()
	spool, err := actions.OpenSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	pid := filepath.Join(t.TempDir(), "pid")
	e := executor(t, actions.ExecutorConfig{Spool: spool}, script(t, `], stdout: json|result: {token: {type: string, secret: true}}`,
		`echo '{"token":"canary-9"}'; echo $$ >`+pid+`; while [ -e `+pid+` ]; do sleep 0.05; done`))
	results := make(chan muster.Result, 1)
	go func() {
		results <- e.Execute(context.Background(), operator(), muster.Execution{Action: "a.script", Job: "j_1"})
	}()
	pidIn(t, pid)
	if out, err := e.Output(t.Context(), operator(), muster.OutputAsk{Job: "j_1"}); muster.CodeOf(err) != "no_output" {
		t.Errorf("while it runs: %+v %v", out, err)
	}
	if err := os.Remove(pid); err != nil {
		t.Fatal(err)
	}
	if r := <-results; !r.Success {
		t.Errorf("%+v", r.Error)
	}
	if out, err := e.Output(t.Context(), operator(), muster.OutputAsk{Job: "j_1"}); muster.CodeOf(err) != "no_output" {
		t.Errorf("%+v %v", out, err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("kept: %v %v", files, err)
	}
}

func TestOutputIsBoundedAndSaysWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	spool, err := actions.OpenSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	e := executor(t, actions.ExecutorConfig{Spool: spool}, define(t, "app.long",
		"handler: {kind: exec, argv: [/bin/sh, -c, 'echo first; head -c 3000000 /dev/zero | tr \"\\0\" y; echo last']}\nlimits: {output: 64KiB}\n"))
	if r := e.Execute(t.Context(), operator(), muster.Execution{Action: "app.long", Job: "j_1"}); !r.Success {
		t.Fatalf("%+v", r)
	}
	out, err := e.Output(t.Context(), operator(), muster.OutputAsk{Job: "j_1"})
	if err != nil || !out.Truncated || out.Dropped < 2_800_000 || len(out.Stdout) > 80_000 ||
		!strings.HasPrefix(out.Stdout, "first\n") || !strings.HasSuffix(out.Stdout, "last\n") || !strings.Contains(out.Stdout, "bytes omitted") {
		t.Errorf("%d bytes, %d dropped, %v, %v", len(out.Stdout), out.Dropped, out.Truncated, err)
	}
	if _, err := e.Output(t.Context(), operator(), muster.OutputAsk{Job: "../j_1"}); muster.CodeOf(err) != "no_output" {
		t.Errorf("%v", err)
	}
	if r := e.Execute(t.Context(), operator(), muster.Execution{Action: "node.ping", Job: "j_2"}); !r.Success {
		t.Fatalf("%+v", r)
	}
	if _, err := e.Output(t.Context(), operator(), muster.OutputAsk{Job: "j_2"}); muster.CodeOf(err) != "no_output" {
		t.Errorf("of what has no program: %v", err)
	}
}

func TestOnlyTheLatestThousandOutputsAreKeptAlsoAfterARestart(t *testing.T) {
	dir := t.TempDir()
	for i := range 1005 {
		path := filepath.Join(dir, fmt.Sprintf("j_%04d.json", i))
		if err := os.WriteFile(path, fmt.Appendf(nil, `{"job":"j_%04d"}`, i), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Unix(int64(i), 0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "half.part"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	spool, err := actions.OpenSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	e := executor(t, actions.ExecutorConfig{Spool: spool}, define(t, "app.say", "handler: {kind: exec, argv: [/bin/echo, hi]}\n"))
	if r := e.Execute(t.Context(), operator(), muster.Execution{Action: "app.say", Job: "j_new"}); !r.Success {
		t.Fatalf("%+v", r)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1000 {
		t.Errorf("%d files, %v", len(files), err)
	}
	for i := range 7 { // 70 MiB: more than all may have
		path := filepath.Join(dir, fmt.Sprintf("j_big_%d.json", i))
		if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 10<<20); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Unix(int64(1e6+i), 0)); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if _, err := actions.OpenSpool(dir); err != nil {
			t.Error(err)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) != 7 { // six of them and the new one
			t.Errorf("%d files, %v", len(files), err)
		}
	}()
	for job, kept := range map[string]bool{"j_0005": false, "j_0006": true, "j_new": true} {
		if _, err := e.Output(t.Context(), operator(), muster.OutputAsk{Job: job}); (err == nil) != kept {
			t.Errorf("%s: %v", job, err)
		}
	}
}

func TestWhatIsPrintedByTheNextTryIsToldFromItsBeginning(t *testing.T) {
	f := newFleet(t, 1)
	done := filepath.Join(t.TempDir(), "done")
	f.programs(t, define(t, "app.again", "retry: {attempts: 2, first: 1s}\n"+
		"handler: {kind: exec, argv: [/bin/sh, -c, 'if [ -e "+done+" ]; then echo two; else touch "+done+"; echo the first try; exit 75; fi']}\n"))
	r := f.keeping(t, book(t, filepath.Join(t.TempDir(), "journal.db")))
	j, err := r.Begin(t.Context(), operator(), muster.Run{Action: "app.again", On: muster.Selector{All: true}})
	if err != nil {
		t.Fatal(err)
	}
	text, after := "", int64(0)
	for ended := false; !ended; {
		told, err := r.Events(t.Context(), j.Job, after)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range told.Events {
			text, after = text+e.Text, e.Seq
		}
		ended = told.Ended
	}
	if text != "the first try\ntwo\n" {
		t.Errorf("%q", text)
	}
}

func TestLargeResultsAreNotKeptInMemoryForLong(t *testing.T) {
	f := newFleet(t, 2)
	large, err := json.Marshal(strings.Repeat("x", 6<<20))
	if err != nil {
		t.Fatal(err)
	}
	f.answers["b"] = muster.Result{State: muster.StateOK, Success: true, Result: large}
	r := f.keeping(t, book(t, filepath.Join(t.TempDir(), "journal.db")))
	jobs := make([]muster.Job, 0, 4)
	for range cap(jobs) {
		j, err := r.Run(t.Context(), operator(), muster.Run{Action: "node.ping", On: names("b")})
		if err != nil || len(j.Results["b"].Result) != len(large) {
			t.Fatalf("%s, %v", told(j), err)
		}
		jobs = append(jobs, j)
	}
	for i, whole := range []bool{false, false, true, true} {
		if j, err := r.Job(jobs[i].Job); err != nil || j.Status != muster.JobSucceeded || (len(j.Results["b"].Result) > 0) != whole {
			t.Errorf("job %d: %s, %d bytes, %v", i, j.Status, len(j.Results["b"].Result), err)
		}
	}
}

func TestAParameterThatIsSecretInAnyVersionIsNotKept(t *testing.T) {
	f := newFleet(t, 2)
	f.programs(t, define(t, "app.x", "params: {p: {type: string}}\nhandler: {kind: exec, argv: [/bin/true]}\n"))
	for params, kept := range map[string]bool{`{"p":{"type":"string"}}`: true, `{"p":{"type":"string","secret":true}}`: false} {
		r := f.knowing(versions{described(params, muster.RiskLow, "b")})
		j, err := r.Begin(t.Context(), operator(), muster.Run{Action: "app.x", On: names("a"), Params: muster.Params{"p": json.RawMessage(`"canary"`)}})
		if err != nil || (j.Order.Params != nil) != kept {
			t.Errorf("%s: %+v, %v", params, j.Order, err)
		}
		if err := r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
