package journal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"muster"
	"muster/actions/journal"
)

// childEnv makes the test binary a program that has one execution in the journal
// named, and says when it has begun and ended.
const childEnv = "JOURNAL_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		beChild(path)
		return
	}
	goleak.VerifyTestMain(m)
}

func beChild(path string) {
	j := journal.New(journal.Config{Path: path})
	ctx := context.Background()
	err := j.Start(ctx)
	if err == nil {
		_, err = j.Begin(ctx, entry("a"))
	}
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString("begun")
	j.End("a", done)
	_, _ = os.Stdout.WriteString("ended")
	_ = j.Stop(ctx)
}

// opened is a journal in a file of its own.
func opened(t *testing.T, cfg journal.Config) *journal.Journal {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "journal.db")
	}
	j := journal.New(cfg)
	if err := j.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, j) })
	return j
}

func stop(t *testing.T, j *journal.Journal) {
	t.Helper()
	if err := j.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

// listed are all jobs of a journal.
func listed(j *journal.Journal) (all []muster.Job, err error) {
	for job, err := range j.Jobs("") {
		if err != nil {
			return all, err
		}
		all = append(all, job)
	}
	return all, nil
}

func entry(key string) muster.JournalEntry {
	return muster.JournalEntry{Key: key, Job: key, Action: "app.x", Params: "p", Caller: "operator", Started: time.Now()}
}

var done = muster.Result{State: muster.StateOK, Success: true, Result: json.RawMessage(`{"n":1}`), DurationMs: 7}

func begin(t *testing.T, j *journal.Journal, e muster.JournalEntry) {
	t.Helper()
	if known, err := j.Begin(t.Context(), e); known != nil || err != nil {
		t.Fatalf("%+v, %v", known, err)
	}
}

func recall(t *testing.T, j *journal.Journal, key string) *muster.Result {
	t.Helper()
	known, err := j.Recall(t.Context(), entry(key))
	if err != nil {
		t.Fatal(err)
	}
	return known
}

// copied is what a crash would leave of a journal now.
func copied(t *testing.T, from string) string {
	t.Helper()
	raw, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(to, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestWhatWasOpenWhenTheProcessDiedIsInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := opened(t, journal.Config{Path: path})
	begin(t, j, entry("open"))
	begin(t, j, entry("ended"))
	j.End("ended", done)
	after := opened(t, journal.Config{Path: copied(t, path)})
	if r := recall(t, after, "open"); r == nil || r.State != muster.StateInterrupted || r.Error.Code != "interrupted" {
		t.Errorf("open: %+v", r)
	}
	if r := recall(t, after, "ended"); r == nil || r.State != muster.StateOK || string(r.Result) != `{"n":1}` || r.DurationMs != 7 {
		t.Errorf("ended: %+v", r)
	}
	if r := recall(t, after, "never"); r != nil {
		t.Errorf("never begun: %+v", r)
	}
}

func TestTheSameExecutionBeginsOnceAndOthersWaitForIt(t *testing.T) {
	j := opened(t, journal.Config{})
	begin(t, j, entry("a"))
	results := make(chan *muster.Result, 2)
	ask := func(ask func(context.Context, muster.JournalEntry) (*muster.Result, error)) {
		r, err := ask(t.Context(), entry("a"))
		if err != nil {
			t.Error(err)
		}
		results <- r
	}
	go ask(j.Begin)
	go ask(j.Recall)
	gone, cancel := context.WithCancelCause(t.Context())
	why := errors.New("gone")
	cancel(why)
	if r, err := j.Begin(gone, entry("a")); r != nil || !errors.Is(err, why) {
		t.Errorf("who does not wait: %+v, %v", r, err)
	}
	j.End("a", done)
	for range 2 {
		if r := <-results; r == nil || r.State != muster.StateOK {
			t.Errorf("%+v", r)
		}
	}
	if r, err := j.Begin(t.Context(), entry("a")); err != nil || r == nil || r.State != muster.StateOK {
		t.Errorf("afterwards: %+v, %v", r, err)
	}
}

func TestAKeyThatWasAnotherRequestIsAConflict(t *testing.T) {
	j := opened(t, journal.Config{})
	begin(t, j, entry("open"))
	begin(t, j, entry("ended"))
	j.End("ended", done)
	for name, change := range map[string]func(*muster.JournalEntry){
		"params": func(e *muster.JournalEntry) { e.Params = "q" },
		"action": func(e *muster.JournalEntry) { e.Action = "app.y" },
		"check":  func(e *muster.JournalEntry) { e.Check = true },
		"caller": func(e *muster.JournalEntry) { e.Caller = "key:1" },
	} {
		for _, key := range []string{"open", "ended"} {
			e := entry(key)
			change(&e)
			if r, err := j.Begin(t.Context(), e); r != nil || muster.KindOf(err) != muster.Conflict {
				t.Errorf("another %s of %s: %+v, %v", name, key, r, err)
			}
		}
	}
	j.End("open", done)
}

func TestManyAtOnceShareACommit(t *testing.T) {
	j := opened(t, journal.Config{})
	const n = 300
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			e := entry(fmt.Sprint("job-", i))
			if known, err := j.Begin(t.Context(), e); known != nil || err != nil {
				t.Errorf("%+v, %v", known, err)
			}
			j.End(e.Key, done)
		})
	}
	wg.Wait()
	// A commit is two fsyncs: of what is new, then of the page that leads to it.
	t.Logf("%d executions, %d entries, %d fsyncs", n, 2*n, 2*j.Commits())
	if 2*j.Commits() >= n {
		t.Errorf("%d fsyncs for %d executions", 2*j.Commits(), n)
	}
}

func TestWhatCannotBeWrittenDownDoesNotBeginAndItsEndIsUnknown(t *testing.T) {
	j := opened(t, journal.Config{})
	begin(t, j, entry("a"))
	stop(t, j)
	if r, err := j.Begin(t.Context(), entry("b")); r != nil || muster.CodeOf(err) != "journal" {
		t.Errorf("%+v, %v", r, err)
	}
	if r := j.End("a", done); r.State != muster.StateUnknown || r.Success || r.Error.Code != "journal" {
		t.Errorf("%+v", r)
	}
}

func TestAResultThatIsTooLongIsKeptAsItsDigest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := opened(t, journal.Config{Path: path})
	begin(t, j, entry("a"))
	long := done
	long.Result = json.RawMessage(`"` + strings.Repeat("x", 5000) + `"`)
	long.Error = &muster.ActionError{Code: "exit", Output: strings.Repeat("y", 5000) + "last"}
	if r := j.End("a", long); len(r.Result) != 5002 {
		t.Errorf("the answer itself is cut: %d bytes", len(r.Result))
	}
	r := recall(t, j, "a")
	if r == nil || r.State != muster.StateOK || r.Result != nil || len(r.Error.Output) != 1024 || !strings.HasSuffix(r.Error.Output, "last") {
		t.Errorf("%+v", r)
	}
}

func TestOldExecutionsAreForgottenAndOpenOnesAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := opened(t, journal.Config{MaxAge: 48 * time.Hour})
		begin(t, j, entry("open"))
		begin(t, j, entry("old"))
		j.End("old", done)
		<-time.After(47 * time.Hour)
		begin(t, j, entry("young"))
		j.End("young", done)
		if recall(t, j, "old") == nil {
			t.Error("forgotten too early")
		}
		<-time.After(2 * time.Hour)
		begin(t, j, entry("new"))
		if recall(t, j, "old") != nil || recall(t, j, "young") == nil {
			t.Error("not what is older than 48 hours")
		}
		j.End("new", done)
		if r := j.End("open", done); r.State != muster.StateOK {
			t.Errorf("%+v", r)
		}
		if recall(t, j, "open") == nil {
			t.Error("the open one is lost")
		}
	})
}

func TestAFullJournalForgetsTheOldestButNothingOfTheLastHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "journal.db")
		j := opened(t, journal.Config{Path: path, MaxSize: 256 << 10})
		big := done
		big.Result = json.RawMessage(`"` + strings.Repeat("x", 4000) + `"`)
		fill := func(prefix string, most int) (n int, err error) {
			for ; n < most; n++ {
				key := fmt.Sprint(prefix, n)
				if _, err := j.Begin(t.Context(), entry(key)); err != nil {
					return n, err
				}
				j.End(key, big)
			}
			return n, nil
		}
		n, err := fill("a", 1000)
		if n < 40 || n > 64 || muster.KindOf(err) != muster.Limited || muster.CodeOf(err) != "journal" {
			t.Errorf("%d executions, then %v", n, err)
		}
		<-time.After(time.Hour)
		for round := range 20 {
			if n, err := fill(fmt.Sprint("b", round, "-"), 30); err != nil {
				t.Fatalf("%d: %v", n, err)
			}
			<-time.After(time.Hour)
		}
		if recall(t, j, "a0") != nil {
			t.Error("the oldest is still there")
		}
		if info, err := os.Stat(path); err != nil || info.Size() > 1<<20 {
			t.Errorf("the file has %d bytes, %v", info.Size(), err)
		}
	})
}

func TestAFileThatIsNoJournalStopsTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("no journal ", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := journal.New(journal.Config{Path: path}).Start(t.Context()); muster.KindOf(err) != muster.Unavailable {
		t.Errorf("%v", err)
	}
}

func TestJobsAreKeptAndThoseOfADeadProcessAreInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := opened(t, journal.Config{Path: path})
	put := func(id, status string, pending ...string) {
		t.Helper()
		job := muster.Job{Status: status, Pending: pending, RunAnswer: muster.RunAnswer{
			Job: id, SuccessCount: 1, NodesExecuted: 1, Results: map[string]muster.Result{"a": done},
		}}
		if err := j.PutJob(job, false); err != nil {
			t.Fatal(err)
		}
	}
	put("j_n_1", muster.JobSucceeded)
	put("j_n_2", muster.JobRunning, "b", "c")
	after := opened(t, journal.Config{Path: copied(t, path)})
	all, err := listed(after)
	if err != nil || len(all) != 2 || all[0].Job != "j_n_2" || all[1].Status != muster.JobSucceeded {
		t.Fatalf("%+v, %v", all, err)
	}
	dead := all[0]
	if dead.Status != muster.JobInterrupted || dead.Pending != nil || dead.FailureCount != 2 || dead.NodesExecuted != 3 || dead.EndedAt.IsZero() ||
		dead.Results["a"].State != muster.StateOK || dead.Results["b"].State != muster.StateUnknown {
		t.Errorf("%+v", dead)
	}
	if _, err := after.Job("j_n_3"); muster.KindOf(err) != muster.NotFound {
		t.Errorf("%v", err)
	}
}

func TestAJobThatIsWrittenSoonIsToldAtOnceAndOnTheDiskWithTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "journal.db")
		j := opened(t, journal.Config{Path: path})
		put := func(id, status string, soon bool) {
			t.Helper()
			if err := j.PutJob(muster.Job{RunAnswer: muster.RunAnswer{Job: id}, Status: status}, soon); err != nil {
				t.Fatal(err)
			}
		}
		kept := func(id string) string {
			t.Helper()
			j := journal.New(journal.Config{Path: copied(t, path)})
			if err := j.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer stop(t, j)
			job, _ := j.Job(id)
			return job.Status
		}
		before := j.Commits()
		put("j_n_1", muster.JobRunning, true)
		put("j_n_1", muster.JobFailed, true)
		if job, err := j.Job("j_n_1"); err != nil || job.Status != muster.JobFailed || j.Commits() != before {
			t.Errorf("%+v, %v, %d commits", job, err, j.Commits()-before)
		}
		if all, err := listed(j); err != nil || len(all) != 1 || all[0].Status != muster.JobFailed {
			t.Errorf("%+v, %v", all, err)
		}
		<-time.After(50 * time.Millisecond)
		if status := kept("j_n_1"); status != muster.JobFailed || j.Commits() != before+1 {
			t.Errorf("%q on the disk after %d commits", status, j.Commits()-before)
		}
		put("j_n_2", muster.JobSucceeded, true)
		put("j_n_3", muster.JobSucceeded, false)
		if two, three := kept("j_n_2"), kept("j_n_3"); two != muster.JobSucceeded || three != muster.JobSucceeded || j.Commits() != before+2 {
			t.Errorf("%q, %q after %d commits", two, three, j.Commits()-before)
		}
	})
}

func TestAJobIsNeverToldAsItWasBefore(t *testing.T) {
	j := opened(t, journal.Config{})
	var wg sync.WaitGroup
	over := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if err := j.PutJob(muster.Job{RunAnswer: muster.RunAnswer{Job: "j_n_other"}}, false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 200 {
		if err := j.PutJob(muster.Job{RunAnswer: muster.RunAnswer{Job: "j_n_1", SuccessCount: i}}, true); err != nil {
			t.Fatal(err)
		}
		for commits := j.Commits(); j.Commits() < commits+uint64(i%3); runtime.Gosched() {
			if job, err := j.Job("j_n_1"); err != nil || job.SuccessCount != i {
				t.Errorf("%d instead of %d, %v", job.SuccessCount, i, err)
			}
		}
	}
	close(over)
	wg.Wait()
}

func TestJobsAreForgottenForRoomTheOldestFirstButNotThoseThatRun(t *testing.T) {
	j := opened(t, journal.Config{})
	results := map[string]muster.Result{}
	for i := range 60 {
		results[fmt.Sprint("node-", i)] = muster.Result{State: muster.StateOK, Result: json.RawMessage(`"` + strings.Repeat("x", 4000) + `"`)}
	}
	for i := range 100 { // of 240 KB each
		status := muster.JobSucceeded
		if i == 0 {
			status = muster.JobRunning
		}
		if err := j.PutJob(muster.Job{RunAnswer: muster.RunAnswer{Job: fmt.Sprintf("j_n_%03d", i), Results: results}, Status: status}, i%10 != 9); err != nil {
			t.Fatal(err)
		}
	}
	all, err := listed(j)
	if err != nil || len(all) < 60 || len(all) > 70 || all[0].Job != "j_n_099" || all[len(all)-1].Job != "j_n_000" || all[len(all)-2].Job < "j_n_030" {
		t.Errorf("%d jobs, the oldest %s and %s, %v", len(all), all[len(all)-1].Job, all[len(all)-2].Job, err)
	}
}

func TestOnlyTheLatestThousandJobsAreKept(t *testing.T) {
	j := opened(t, journal.Config{})
	for i := range 1003 {
		if err := j.PutJob(muster.Job{RunAnswer: muster.RunAnswer{Job: fmt.Sprintf("j_n_%04d", i)}, Status: muster.JobFailed}, i%2 == 1); err != nil {
			t.Fatal(err)
		}
	}
	all, err := listed(j)
	if err != nil || len(all) != 1000 || all[999].Job != "j_n_0003" {
		t.Errorf("%d jobs, %v", len(all), err)
	}
}

func TestJobsAreListedFromWhereOneAsksOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := journal.New(journal.Config{Path: path})
	if err := j.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := func(i int) string { return fmt.Sprintf("j_n_%03d", i) }
	for i := range 20 {
		if err := j.PutJob(muster.Job{RunAnswer: muster.RunAnswer{Job: id(i)}, Status: muster.JobFailed}, i < 19); err != nil {
			t.Fatal(err)
		}
	}
	stop(t, j)
	j = opened(t, journal.Config{Path: path})
	for _, i := range []int{20, 15, 3} { // new, and changed, and perhaps not on the disk yet
		if err := j.PutJob(muster.Job{RunAnswer: muster.RunAnswer{Job: id(i)}, Status: muster.JobCancelled}, true); err != nil {
			t.Fatal(err)
		}
	}
	stop := map[string]int{"": -1, id(21): -1, id(20): 1, id(16): 14, id(15): -1, "j_n_0145": 5, id(0): -1, "j_a": -1} // before which one
	for below, first := range map[string]int{"": 20, id(21): 20, id(20): 19, id(16): 15, id(15): 14, "j_n_0145": 14, id(0): -1, "j_a": -1} {
		want := first
		for job, err := range j.Jobs(below) {
			if err != nil || job.Job != id(want) || (job.Status == muster.JobCancelled) != (want == 20 || want == 15 || want == 3) {
				t.Errorf("below %q: %s %s instead of %d, %v", below, job.Job, job.Status, want, err)
			}
			if want--; want == stop[below] {
				break
			}
		}
		if want != stop[below] {
			t.Errorf("below %q it ended before %d", below, want)
		}
	}
}

// BenchmarkAPageOfJobs is the newest ten of a thousand jobs of fifty nodes.
func BenchmarkAPageOfJobs(b *testing.B) {
	j := journal.New(journal.Config{Path: filepath.Join(b.TempDir(), "journal.db"), NoSync: true})
	if err := j.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = j.Stop(b.Context()) }()
	results := map[string]muster.Result{}
	for i := range 50 {
		results[fmt.Sprint("node-", i)] = muster.Result{State: muster.StateOK, Result: json.RawMessage(`{"n":1}`)}
	}
	for i := range 1000 {
		if err := j.PutJob(muster.Job{RunAnswer: muster.RunAnswer{Job: fmt.Sprintf("j_n_%04d", i), Results: results}, Status: muster.JobSucceeded}, i < 999); err != nil {
			b.Fatal(err)
		}
	}
	for name, size := range map[string]int{"ten": 10, "all": 1000} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				n := 0
				for _, err := range j.Jobs("") {
					if n++; err != nil || n == size {
						break
					}
				}
			}
		})
	}
}

func TestAnOutcomeIsToldWithoutWaiting(t *testing.T) {
	j := opened(t, journal.Config{})
	if o, err := j.Outcome("a"); err != nil || o.Known {
		t.Errorf("before it began: %+v, %v", o, err)
	}
	begin(t, j, entry("a"))
	if o, err := j.Outcome("a"); err != nil || !o.Known || o.Result != nil {
		t.Errorf("while it goes on: %+v, %v", o, err)
	}
	j.End("a", done)
	if o, err := j.Outcome("a"); err != nil || !o.Known || o.Result == nil || string(o.Result.Result) != `{"n":1}` {
		t.Errorf("after its end: %+v, %v", o, err)
	}
}
