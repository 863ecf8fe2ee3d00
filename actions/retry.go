package actions

import (
	"context"

	"muster"
)

// Retry runs the action of a job that has ended again, as it was asked for, on
// those of its frozen nodes that the retry names; the new job names the old one.
// A node that is gone is skipped. It is NotFound when there is no such job, a
// Conflict while it runs or when no node is left to try, Invalid when the
// parameters must be said, or are others than before.
func (r *Runner) Retry(ctx context.Context, by muster.Rights, id string, again muster.Retry) (muster.Job, error) {
	if again.ID != "" {
		if j, err := r.Job(again.ID); muster.KindOf(err) != muster.NotFound {
			if err == nil && again.Params != nil {
				err = r.sameParams(j, again.Params)
			}
			return j, err
		}
	}
	old, err := r.Job(id)
	if err == nil {
		err = mayRun(by, old.Action)
	}
	if err != nil {
		return muster.Job{}, err
	}
	run, targets, err := r.again(old, again)
	if err != nil {
		return muster.Job{}, err
	}
	how, err := r.judge(by, run)
	if err != nil {
		return muster.Job{}, err
	}
	for _, t := range targets {
		if t.skip == nil && !by.Reaches(t.node.Metadata) {
			return muster.Job{}, muster.OutOfReach(t.node.Slug)
		}
	}
	if err := r.foresee(by, run, targets); err != nil {
		return muster.Job{}, err
	}
	j, err := r.begin(ctx, by, run, plan{how: how, targets: targets, alone: true, retryOf: id})
	if err != nil {
		return muster.Job{}, err
	}
	return r.jobs.show(j), nil
}

// again is a job's run for those of its targets that are to be tried again.
func (r *Runner) again(old muster.Job, again muster.Retry) (run muster.Run, targets []target, err error) {
	switch {
	case !oneOf(again.Only, "", "failed", "unreachable", "skipped"):
		return run, nil, muster.FieldError("only", "must be failed, unreachable or skipped")
	case old.Status == muster.JobRunning:
		return run, nil, muster.Errorf(muster.Conflict, "the job still runs").WithCode("job_running").WithHint("wait for its end, or cancel it")
	case old.Order == nil:
		return run, nil, muster.Errorf(muster.Conflict, "what the job was asked to do is not known any more").WithCode("job_unknown")
	}
	for _, t := range old.Order.Targets {
		if wanted(old.Results[t.Slug], again.Only) {
			targets = append(targets, r.aimAgain(t))
		}
	}
	if len(targets) == 0 {
		return run, nil, muster.Errorf(muster.Conflict, "no node of the job is left to try again").WithCode("nothing_to_retry")
	}
	run = muster.Run{Action: old.Action, How: old.Order.How, Check: old.Order.Check, Params: old.Order.Params, ID: again.ID}
	switch {
	case again.Params != nil && r.cfg.Seal.digest(again.Params) != old.Order.Digest:
		return run, nil, muster.FieldError("params", "are others than those of the job").WithHint("leave them out, or start a new run")
	case again.Params != nil:
		run.Params = again.Params
	case r.cfg.Seal.digest(old.Order.Params) != old.Order.Digest:
		return run, nil, muster.FieldError("params", "must be said again: the job does not keep them, for they may be secret or are long")
	}
	return run, targets, nil
}

// wanted reports whether a node is to be tried again.
func wanted(r muster.Result, only string) bool {
	switch only {
	case "unreachable":
		return r.State == muster.StateUnreachable
	case "skipped":
		return r.State == muster.StateSkipped
	default:
		return !r.Success && r.State != muster.StateSkipped
	}
}

// aimAgain is a frozen target as it is now.
func (r *Runner) aimAgain(t muster.JobTarget) target {
	n, there := r.nodeWith(t.ID)
	if !there {
		return target{
			node: muster.Node{ID: t.ID, Slug: t.Slug, Name: t.Slug},
			skip: &muster.ActionError{Code: "gone", Message: "the node is not in the registry any more"},
		}
	}
	return aim(n)
}
