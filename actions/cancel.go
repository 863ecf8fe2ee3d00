package actions

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"muster"
)

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
// killed with all its processes; of an interrupted job, what may still run. It
// returns the job as it is then, or Partial with the nodes that could not be
// told. It is NotFound when there is none, a Conflict when it has ended.
func (r *Runner) Cancel(ctx context.Context, by muster.Rights, id string) (muster.Job, error) {
	j, err := r.Job(id)
	if err == nil {
		err = mayRun(by, j.Action)
	}
	if err != nil {
		return muster.Job{}, err
	}
	at := j.Pending
	switch j.Status {
	case muster.JobRunning:
		r.jobs.halt(id)
	case muster.JobInterrupted: // nobody leads what it started elsewhere
		for _, slug := range slices.Sorted(maps.Keys(j.Results)) {
			if j.Results[slug].State == muster.StateUnknown {
				at = append(at, slug)
			}
		}
	}
	if j.Status != muster.JobRunning && len(at) == 0 {
		return muster.Job{}, muster.Errorf(muster.Conflict, "the job has ended: %s", j.Status).WithCode("job_ended")
	}
	if err := r.kill(ctx, by, j, at); err != nil {
		return muster.Job{}, err
	}
	return r.Job(id)
}

// kill has nodes end what they run of a job, all at once.
func (r *Runner) kill(ctx context.Context, by muster.Rights, j muster.Job, at []string) error {
	errs := make([]error, len(at))
	var wg sync.WaitGroup
	for i, slug := range at {
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
	n, there := r.nodeOf(j, slug)
	switch {
	case !there:
		return nil // nobody runs it any more
	case n.ID == r.cfg.Self:
		return r.local.Cancel(by, j.Action, j.Job)
	default:
		return r.remote.Cancel(ctx, n, by, j.Action, j.Job)
	}
}

// nodeOf finds a target of a job: the node that had the slug then.
func (r *Runner) nodeOf(j muster.Job, slug string) (muster.Node, bool) {
	if j.Order != nil {
		for _, t := range j.Order.Targets {
			if t.Slug == slug {
				return r.nodeWith(t.ID)
			}
		}
	}
	return muster.Node{}, false
}

// nodeWith finds a node that is in the registry.
func (r *Runner) nodeWith(id string) (muster.Node, bool) {
	n, known := r.nodes.Node(id)
	return n, known && n.DeletedAt == nil
}
