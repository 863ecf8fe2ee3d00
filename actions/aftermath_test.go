package actions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"muster"
	"muster/actions"
	"muster/actions/journal"
)

const job = "j_id-a_1"

// witnesses are the journals of nodes, by slug; who has none cannot be reached.
type witnesses struct {
	mu       sync.Mutex
	journals map[string]*journal.Journal // guarded by mu
	asked    map[string]int              // guarded by mu
}

func (w *witnesses) Outcome(_ context.Context, n muster.Node, job string) (muster.Outcome, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[n.Slug]++
	if j := w.journals[n.Slug]; j != nil {
		return j.Outcome(job)
	}
	return muster.Outcome{}, muster.Errorf(muster.Unavailable, "it is down")
}

func (w *witnesses) back(slug string, j *journal.Journal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.journals[slug] = j
}

func (w *witnesses) asks(slug string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[slug]
}

// ran is a journal in which the job was begun, and has ended if a result is given.
func ran(t *testing.T, r *muster.Result) *journal.Journal {
	t.Helper()
	j := book(t, filepath.Join(t.TempDir(), "journal.db"))
	if _, err := j.Begin(t.Context(), muster.JournalEntry{Key: job, Job: job, Action: "app.x", Started: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if r != nil {
		j.End(job, *r)
	}
	return j
}

// crashed is a journal after the death of its node, which led jobs on these nodes
// and executed a part of the first.
func crashed(t *testing.T, nodes []muster.Node, more ...string) *journal.Journal {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal.db")
	j := journal.New(journal.Config{Path: path})
	if err := j.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Begin(t.Context(), muster.JournalEntry{Key: job, Job: job, Action: "app.x", Started: time.Now()}); err != nil {
		t.Fatal(err)
	}
	for _, id := range append(more, job) {
		led := muster.Job{RunAnswer: muster.RunAnswer{Job: id, Action: "app.x", Results: map[string]muster.Result{}}, Status: muster.JobRunning, Order: &muster.JobOrder{}}
		for _, n := range nodes {
			led.Pending = append(led.Pending, n.Slug)
			led.Order.Targets = append(led.Order.Targets, muster.JobTarget{Slug: n.Slug, ID: n.ID})
		}
		if err := j.PutJob(led, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	return book(t, path)
}

func TestWhatBecameOfAnInterruptedJobIsAskedOfItsNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 5)
		own := crashed(t, f.nodes)
		goesOn := ran(t, nil)
		w := &witnesses{asked: map[string]int{}, journals: map[string]*journal.Journal{
			"a": own, "b": ran(t, &muster.Result{State: muster.StateOK, Success: true, Result: json.RawMessage(`{"n":1}`)}), "c": goesOn,
			"e": book(t, filepath.Join(t.TempDir(), "journal.db")), // it never began there
		}}
		r := actions.NewRunner(actions.RunnerConfig{Self: "id-a", Jobs: own, Outcomes: w}, f, f.executors["id-a"], f)
		r.Resume(t.Context())
		is := func(when, want string) {
			t.Helper()
			synctest.Wait()
			j, err := r.Job(job)
			if got := told(j); err != nil || got != want || j.Status != muster.JobInterrupted {
				t.Errorf("%s: %s %s, %v, want %s", when, j.Status, got, err, want)
			}
		}
		is("at once", "a:interrupted/interrupted b:ok c:unknown/interrupted d:unknown/interrupted e:unknown/interrupted")
		w.back("d", ran(t, &muster.Result{State: muster.StateOK, Success: true}))
		<-time.After(20 * time.Second)
		is("when d is back", "a:interrupted/interrupted b:ok c:unknown/interrupted d:ok e:unknown/interrupted")
		<-time.After(10 * time.Minute)
		asks := w.asks("e")
		goesOn.End(job, muster.Result{State: muster.StateFailed, Error: &muster.ActionError{Code: "exit"}})
		<-time.After(time.Minute)
		is("when c has ended", "a:interrupted/interrupted b:ok c:failed/exit d:ok e:unknown/interrupted")
		j, err := r.Job(job)
		if err != nil || j.SuccessCount != 2 || j.FailureCount != 3 || j.NodesExecuted != 5 || string(j.Results["b"].Result) != `{"n":1}` || j.Results["b"].Node != "b" {
			t.Errorf("%+v, %v", j, err)
		}
		if now := w.asks("e"); now != asks || asks < 10 || w.asks("b") != 1 {
			t.Errorf("e was asked %d times, then %d, b %d", asks, now, w.asks("b"))
		}
		if err := r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAnInterruptedJobOfWhichAllIsKnownHasEndedAsItDid(t *testing.T) {
	done, failed := &muster.Result{State: muster.StateOK, Success: true}, &muster.Result{State: muster.StateFailed}
	for want, results := range map[string][]*muster.Result{
		muster.JobSucceeded: {done, done}, muster.JobPartial: {done, failed}, muster.JobFailed: {failed, failed},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 3)
			own := crashed(t, f.nodes[1:])
			w := &witnesses{asked: map[string]int{}, journals: map[string]*journal.Journal{"b": ran(t, results[0]), "c": ran(t, results[1])}}
			r := actions.NewRunner(actions.RunnerConfig{Self: "id-a", Jobs: own, Outcomes: w}, f, f.executors["id-a"], f)
			r.Resume(t.Context())
			synctest.Wait()
			var all []string
			for j, err := range own.Jobs("") {
				if all = append(all, j.Status); err != nil {
					t.Error(err)
				}
			}
			if !slices.Equal(all, []string{want}) {
				t.Errorf("%v instead of %s", all, want)
			}
			if err := r.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStopEndsTheAskingForWhatBecameOfJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2)
		w := &witnesses{asked: map[string]int{}}
		r := actions.NewRunner(actions.RunnerConfig{Self: "id-a", Jobs: crashed(t, f.nodes), Outcomes: w}, f, f.executors["id-a"], f)
		r.Resume(t.Context())
		<-time.After(2 * time.Second)
		if err := r.Stop(t.Context()); err != nil || w.asks("b") != 2 {
			t.Errorf("asked %d times, %v", w.asks("b"), err)
		}
		r.Resume(t.Context())
		<-time.After(time.Hour)
		if w.asks("b") != 2 {
			t.Errorf("asked %d times after the stop", w.asks("b"))
		}
	})
}

func TestAnAnswerMissedDoesNotEndTheAskingForWhatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3)
		own, c := crashed(t, f.nodes[1:]), ran(t, nil)
		w := &witnesses{asked: map[string]int{}, journals: map[string]*journal.Journal{"b": ran(t, nil), "c": c}}
		r := actions.NewRunner(actions.RunnerConfig{Self: "id-a", Jobs: own, Outcomes: w}, f, f.executors["id-a"], f)
		r.Resume(t.Context())
		<-time.After(10 * time.Minute)
		w.back("b", nil)
		w.back("c", nil)
		<-time.After(50 * time.Minute)
		w.back("c", c)
		c.End(job, muster.Result{State: muster.StateOK, Success: true})
		<-time.After(time.Minute)
		if j, err := r.Job(job); err != nil || told(j) != "b:unknown/interrupted c:ok" {
			t.Errorf("%s, %v", told(j), err)
		}
		<-time.After(10 * time.Minute)
		asks := w.asks("b")
		<-time.After(time.Hour)
		if now := w.asks("b"); now != asks || asks < 200 {
			t.Errorf("who was not heard of for an hour was asked %d times, then %d", asks, now)
		}
		if err := r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// hung is a fleet of which node b takes calls and never answers.
type hung struct {
	asked atomic.Int32 // node b
}

func (h *hung) Outcome(ctx context.Context, n muster.Node, _ string) (muster.Outcome, error) {
	if n.Slug != "b" {
		return muster.Outcome{Known: true, Result: &muster.Result{State: muster.StateOK, Success: true}}, nil
	}
	h.asked.Add(1)
	<-ctx.Done()
	return muster.Outcome{}, context.Cause(ctx)
}

func TestANodeThatHangsIsAskedForOneJobARoundAndHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h := newFleet(t, 3), &hung{}
		jobs := make([]string, 20)
		for i := range jobs {
			jobs[i] = fmt.Sprintf("%s-%02d", job, i)
		}
		r := actions.NewRunner(actions.RunnerConfig{Self: "id-a", Jobs: crashed(t, f.nodes[1:], jobs...), Outcomes: h}, f, f.executors["id-a"], f)
		r.Resume(t.Context())
		<-time.After(5500 * time.Millisecond) // the first round
		for _, id := range jobs {
			if j, err := r.Job(id); err != nil || told(j) != "b:unknown/interrupted c:ok" {
				t.Errorf("%s: %s, %v", id, told(j), err)
			}
		}
		if n := h.asked.Load(); n != 1 {
			t.Errorf("b was asked %d times", n)
		}
		if err := r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
