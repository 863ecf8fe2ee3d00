package actions

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"muster"
)

// maxJobs is how many jobs a node leads at once.
const maxJobs = 100

// Jobs keeps jobs, also when the process dies.
type Jobs interface {
	// PutJob writes down how a job is.
	PutJob(j muster.Job) error

	// Job returns one. It is NotFound when there is none.
	Job(id string) (muster.Job, error)

	// Jobs returns all, the newest first.
	Jobs() ([]muster.Job, error)
}

// jobs are those under way.
type jobs struct {
	mu   sync.Mutex
	live map[string]*muster.Job // by ID; guarded by mu
}

// add takes a job in, unless there are too many.
func (s *jobs) add(j *muster.Job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.live) >= maxJobs {
		return muster.Errorf(muster.Limited, "this node leads %d jobs already", maxJobs).WithCode("too_many_jobs")
	}
	if s.live == nil {
		s.live = map[string]*muster.Job{}
	}
	s.live[j.Job] = j
	return nil
}

// note writes down what became of one target.
func (s *jobs) note(j *muster.Job, result muster.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.Results[result.Node] = result
	j.Pending = slices.DeleteFunc(slices.Clone(j.Pending), func(slug string) bool { return slug == result.Node })
}

// show returns a copy of a job under way, with its counts as they are.
func (s *jobs) show(id string) (muster.Job, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, ok := s.live[id]
	if !ok {
		return muster.Job{}, false
	}
	shown := *j
	shown.RunAnswer = answer(muster.Execution{Job: j.Job, Action: j.Action}, maps.Clone(j.Results))
	shown.Success = false
	return shown, true
}

func (s *jobs) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, id)
}

// Begin has an action run on the nodes selected, which are frozen now, and does
// not wait: the job goes on until all have answered. Errors are those of Run,
// and Limited.
func (r *Runner) Begin(ctx context.Context, by muster.Rights, run muster.Run) (muster.Job, error) {
	how, targets, err := r.plan(by, run)
	if err != nil {
		return muster.Job{}, err
	}
	ctx, end, err := r.running.begin(context.WithoutCancel(ctx))
	if err != nil {
		return muster.Job{}, muster.Errorf(muster.Unavailable, "%w", err)
	}
	f := r.fan(by, run, how, targets)
	j := &muster.Job{Status: muster.JobRunning, Caller: by.Principal, StartedAt: time.Now().UTC()}
	j.RunAnswer = answer(f.job, map[string]muster.Result{})
	for _, t := range targets {
		j.Pending = append(j.Pending, t.node.Slug)
	}
	began := *j
	began.Results = map[string]muster.Result{} // its own: the job goes on
	if err = r.jobs.add(j); err == nil {
		err = r.cfg.Jobs.PutJob(began)
	}
	if err != nil {
		r.jobs.remove(j.Job)
		end()
		return muster.Job{}, err
	}
	f.tell = func(result muster.Result) { r.jobs.note(j, result) }
	go func() {
		defer end()
		f.do(ctx, targets, how)
		r.finish(ctx, j, f)
	}()
	return began, nil
}

// finish writes down how a job ended.
func (r *Runner) finish(ctx context.Context, j *muster.Job, f *fan) {
	ended := muster.Job{RunAnswer: answer(f.job, f.results), Caller: j.Caller, StartedAt: j.StartedAt, EndedAt: time.Now().UTC()}
	switch {
	case errors.Is(context.Cause(ctx), errStopping):
		ended.Status = muster.JobInterrupted
	case ended.Success:
		ended.Status = muster.JobSucceeded
	case ended.SuccessCount > 0:
		ended.Status = muster.JobPartial
	default:
		ended.Status = muster.JobFailed
	}
	if err := r.cfg.Jobs.PutJob(ended); err != nil {
		r.cfg.Log.Error("job cannot be written down", "job", j.Job, "status", ended.Status, "error", err)
	}
	r.jobs.remove(j.Job)
}

// Job returns a job that this node leads or led. It is NotFound when there is
// none.
func (r *Runner) Job(id string) (muster.Job, error) {
	if j, ok := r.jobs.show(id); ok {
		return j, nil
	}
	return r.cfg.Jobs.Job(id)
}

// Jobs returns the jobs that this node leads or led, the newest first.
func (r *Runner) Jobs() ([]muster.Job, error) {
	all, err := r.cfg.Jobs.Jobs()
	for i, j := range all {
		if live, ok := r.jobs.show(j.Job); ok {
			all[i] = live
		}
	}
	return all, err
}
