package actions

import (
	"context"
	"time"

	"muster"
)

// Claims are the idempotency keys of runs, in the whole cluster.
type Claims interface {
	// ClaimRun makes a key stand for a job, unless it stands for one already: then
	// it returns that one. A key that was another request's is a Conflict.
	ClaimRun(ctx context.Context, w muster.Write, job string) (string, error)
}

// claimTime is how long the master is waited for.
const claimTime = 10 * time.Second

// routeRun is what keys of runs are for, by whichever path they came.
const routeRun = "run"

// claim gives a run that has a key its job, or returns the job that the key stands
// for already. Without a key it touches nothing.
func (r *Runner) claim(ctx context.Context, by muster.Rights, run *muster.Run) (first string, err error) {
	if run.Key == "" {
		return "", nil
	}
	if r.cfg.Claims == nil {
		return "", muster.FieldError("key", "this node keeps none").WithCode("unsupported")
	}
	ctx, cancel := context.WithTimeout(ctx, claimTime)
	defer cancel()
	run.Job = r.NewJob()
	w := muster.Write{By: by, Route: routeRun, Key: run.Key, Digest: run.Digest}
	first, err = r.cfg.Claims.ClaimRun(ctx, w, run.Job)
	if first == run.Job {
		first = ""
	}
	return first, err
}

// earlier is the job that a key stands for: as it is, if this node leads it, or
// its ID alone.
func (r *Runner) earlier(id string) muster.Job {
	if j, err := r.Job(id); err == nil {
		return j
	}
	return muster.Job{RunAnswer: muster.RunAnswer{Job: id}}
}
