package actions

import (
	"context"
	"errors"
	"fmt"
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
	live map[string]*job // by ID; guarded by mu
}

// job is one under way.
type job struct {
	muster.Job
	halt   chan struct{} // closed when it is cancelled
	halted bool          // guarded by jobs.mu
}

// add takes a job in, unless there are too many.
func (s *jobs) add(j *job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.live) >= maxJobs {
		return muster.Errorf(muster.Limited, "this node leads %d jobs already", maxJobs).WithCode("too_many_jobs")
	}
	if s.live == nil {
		s.live = map[string]*job{}
	}
	s.live[j.Job.Job] = j
	return nil
}

// note writes down what became of one target.
func (s *jobs) note(j *job, result muster.Result) {
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
	shown := j.Job
	shown.RunAnswer = answer(muster.Execution{Job: j.Job.Job, Action: j.Action}, maps.Clone(j.Results))
	shown.Success = false
	return shown, true
}

func (s *jobs) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, id)
}

// Begin has an action run on the nodes selected, which are frozen now, and does
// not wait: the job goes on until all have answered. Where the run's key stands for
// a job already, nothing is begun and that one returned, with its ID alone if
// another node leads it. Errors are those of Run, Limited, and a Conflict for a key
// of another run.
func (r *Runner) Begin(ctx context.Context, by muster.Rights, run muster.Run) (muster.Job, error) {
	how, targets, err := r.plan(by, run)
	if err != nil {
		return muster.Job{}, err
	}
	if first, err := r.claim(ctx, by, &run); err != nil || first != "" {
		return r.earlier(first), err
	}
	ctx, end, err := r.running.begin(context.WithoutCancel(ctx), "")
	if err != nil {
		return muster.Job{}, muster.Errorf(muster.Unavailable, "%w", err)
	}
	f := r.fan(by, run, how, targets)
	j := &job{Job: muster.Job{Status: muster.JobRunning, Caller: by.Principal, StartedAt: time.Now().UTC()}, halt: make(chan struct{})}
	j.RunAnswer = answer(f.job, map[string]muster.Result{})
	for _, t := range targets {
		j.Pending = append(j.Pending, t.node.Slug)
	}
	began := j.Job
	began.Results = map[string]muster.Result{} // its own: the job goes on
	if err = r.jobs.add(j); err == nil {
		err = r.cfg.Jobs.PutJob(began)
	}
	if err != nil {
		r.jobs.remove(f.job.Job)
		end()
		return muster.Job{}, err
	}
	f.halted = j.halt
	f.tell = func(result muster.Result) { r.jobs.note(j, result) }
	go func() {
		defer end()
		f.do(ctx, targets, how)
		r.finish(ctx, j, f)
	}()
	return began, nil
}

// finish writes down how a job ended.
func (r *Runner) finish(ctx context.Context, j *job, f *fan) {
	ended := muster.Job{RunAnswer: answer(f.job, f.results), Caller: j.Caller, StartedAt: j.StartedAt, EndedAt: time.Now().UTC()}
	switch {
	case errors.Is(context.Cause(ctx), errStopping):
		ended.Status = muster.JobInterrupted
	case f.isHalted():
		ended.Status = muster.JobCancelled
	case ended.Success:
		ended.Status = muster.JobSucceeded
	case ended.SuccessCount > 0:
		ended.Status = muster.JobPartial
	default:
		ended.Status = muster.JobFailed
	}
	if err := r.cfg.Jobs.PutJob(ended); err != nil {
		r.cfg.Log.Error("job cannot be written down", "job", f.job.Job, "status", ended.Status, "error", err)
	}
	r.jobs.remove(f.job.Job)
}

// halt keeps a job from starting anything more.
func (s *jobs) halt(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j, ok := s.live[id]; ok && !j.halted {
		j.halted = true
		close(j.halt)
	}
}

// Cancel ends a job on all nodes: nothing more is started, and what runs is
// killed with all its processes. It returns the job as it is then, or Partial with
// the nodes that could not be told. It is NotFound when there is none, a Conflict
// when it has ended.
func (r *Runner) Cancel(ctx context.Context, by muster.Rights, id string) (muster.Job, error) {
	j, err := r.Job(id)
	if err == nil {
		err = mayRun(by, j.Action)
	}
	if err != nil {
		return muster.Job{}, err
	}
	if j.Status != muster.JobRunning {
		return muster.Job{}, muster.Errorf(muster.Conflict, "the job has ended: %s", j.Status).WithCode("job_ended")
	}
	r.jobs.halt(id)
	if err := r.kill(ctx, by, j); err != nil {
		return muster.Job{}, err
	}
	return r.Job(id)
}

// kill has the nodes that a job still runs on end it, all at once.
func (r *Runner) kill(ctx context.Context, by muster.Rights, j muster.Job) error {
	errs := make([]error, len(j.Pending))
	var wg sync.WaitGroup
	for i, slug := range j.Pending {
		wg.Go(func() {
			if err := r.killAt(ctx, by, slug, j); err != nil {
				errs[i] = fmt.Errorf("%s: %w", slug, err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return muster.Errorf(muster.Partial, "not told: %w", err).WithCode("not_told")
	}
	return nil
}

func (r *Runner) killAt(ctx context.Context, by muster.Rights, slug string, j muster.Job) error {
	nodes := r.nodes.Nodes()
	i := slices.IndexFunc(nodes, func(n muster.Node) bool { return n.Slug == slug && n.DeletedAt == nil })
	switch {
	case i < 0:
		return nil // nobody runs it any more
	case nodes[i].ID == r.cfg.Self:
		return r.local.Cancel(by, j.Action, j.Job)
	default:
		return r.remote.Cancel(ctx, nodes[i], by, j.Action, j.Job)
	}
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
