package actions

import (
	"context"
	"errors"
	"sync"
	"time"

	"muster"
)

// fan is a run under way. Only do touches it, but for resting.
type fan struct {
	r       *Runner
	by      muster.Rights
	job     muster.Execution
	maxFail int // so many failures stop the run
	fails   int
	full    bool                     // the run was stopped by its failures
	denied  error                    // the caller lost the right to go on
	results map[string]muster.Result // by slug
	halted  <-chan struct{}          // closed when the run is cancelled; nil: never
	tell    func(muster.Result)      // hears of each; nil: nobody does
	resting sync.Map                 // slug to muster.Result: what is between two tries, and what came of the last
	began   func(target)             // hears of each that is asked; nil: nobody does
}

// reply is what came of a call.
type reply struct {
	target target
	result muster.Result
}

// do has the targets run the action batch by batch, until all have answered, too
// many have failed or ctx ends.
func (f *fan) do(ctx context.Context, targets []target, how strategy) {
	queue := make([]target, 0, len(targets))
	for _, t := range targets {
		if t.skip != nil {
			f.skip(t, t.skip)
			continue
		}
		queue = append(queue, t)
	}
	for i, batch := range how.cut(queue) {
		if i > 0 && !f.over(ctx) {
			f.rest(ctx, how.pause)
		}
		f.batch(ctx, batch, how.concurrency)
	}
}

// over reports whether no more targets are to be started.
func (f *fan) over(ctx context.Context) bool {
	if f.full || f.denied != nil || ctx.Err() != nil || f.isHalted() {
		return true
	}
	f.full = f.fails >= f.maxFail
	if !f.full && f.r.cfg.Callers != nil {
		f.denied = f.r.cfg.Callers.Allowed(f.by)
	}
	return f.full || f.denied != nil
}

func (f *fan) isHalted() bool {
	select {
	case <-f.halted:
		return true
	default:
		return false
	}
}

// batch starts targets in their order, so many at once, and waits for them. What
// was not started is skipped.
func (f *fan) batch(ctx context.Context, queue []target, concurrency int) {
	replies := make(chan reply, len(queue)) // room for all: nobody waits to hand in a late one
	waiting := map[string]target{}          // by slug
	began := time.Now()
	for {
		for len(queue) > 0 && len(waiting) < concurrency && !f.over(ctx) {
			waiting[queue[0].node.Slug] = queue[0]
			f.start(ctx, queue[0], replies)
			queue = queue[1:]
		}
		if len(waiting) == 0 {
			break
		}
		select {
		case a := <-replies:
			delete(waiting, a.target.node.Slug)
			f.settle(a.target, a.result)
		case <-ctx.Done():
			f.abandon(ctx, waiting, replies, began)
		}
	}
	for _, t := range queue {
		f.skip(t, f.whyNot(ctx))
	}
}

// rest waits, and reports whether ctx and the run let it.
func (f *fan) rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-f.halted:
	case <-ctx.Done():
	}
	return false
}

// localGrace is how long a stopping node waits for its own result: its programs
// are being killed.
const localGrace = 2 * stopGrace

// abandon settles what has answered by now and calls the rest unknown. What this
// node does itself is known soon when it stops.
func (f *fan) abandon(ctx context.Context, waiting map[string]target, replies <-chan reply, began time.Time) {
	stopping := errors.Is(context.Cause(ctx), errStopping)
	grace := time.NewTimer(localGrace)
	defer grace.Stop()
	for len(replies) > 0 || stopping && f.here(waiting) {
		select {
		case a := <-replies:
			delete(waiting, a.target.node.Slug)
			f.settle(a.target, a.result)
		case <-grace.C:
			stopping = false
		}
	}
	for slug, t := range waiting {
		r := noAnswer(ctx)
		if last, rests := f.resting.Load(slug); rests { // nothing goes on there
			r, _ = last.(muster.Result)
		}
		r.DurationMs = time.Since(began).Milliseconds()
		f.settle(t, r)
		delete(waiting, slug)
	}
}

// here reports whether this node is among targets.
func (f *fan) here(targets map[string]target) bool {
	for _, t := range targets {
		if t.node.ID == f.r.cfg.Self {
			return true
		}
	}
	return false
}

// noAnswer is the result of a call that the end of the wait cut off.
func noAnswer(ctx context.Context) muster.Result {
	return muster.Result{State: muster.StateUnknown, Error: &muster.ActionError{
		Code: "no_answer", Message: "no answer yet when " + ending(ctx) + "; it may still be running",
	}}
}

// whyNot says why the rest of the targets were not started.
func (f *fan) whyNot(ctx context.Context) *muster.ActionError {
	if f.full {
		return &muster.ActionError{Code: "max_fail", Message: "not started: as many nodes failed as may fail"}
	}
	if f.denied != nil {
		return &muster.ActionError{Code: muster.CodeOf(f.denied), Message: "not started: " + f.denied.Error()}
	}
	if f.isHalted() {
		return &muster.ActionError{Code: "cancelled", Message: "not started: the job was cancelled"}
	}
	return &muster.ActionError{Code: "not_started", Message: "not started when " + ending(ctx)}
}

func ending(ctx context.Context) string {
	switch {
	case errors.Is(context.Cause(ctx), errStopping):
		return "the node asked was stopped"
	case errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return "the wait ended"
	default:
		return "the caller went away"
	}
}

// startMargin is how long before the end of the wait nothing is started any
// more, so that the answer can still say so.
const startMargin = 200 * time.Millisecond

// start calls a node. What runs here may outlive the run, but not the runner;
// the wait for another node ends with the run. The call has no deadline: one
// would travel with it and end the work there.
func (f *fan) start(ctx context.Context, t target, replies chan<- reply) {
	call, end, err := f.r.running.begin(context.WithoutCancel(ctx), "")
	if err != nil {
		replies <- reply{t, resultOf(notStarted(err), nil, time.Now())}
		return
	}
	if f.began != nil {
		f.began(t)
	}
	by, job, local, remote := f.by, f.job, f.r.local, f.r.remote
	if at, ok := ctx.Deadline(); ok {
		left := time.Until(at)
		job.StartWithinMs = max(1, (left - min(left/10, startMargin)).Milliseconds())
	}
	go func() {
		defer end()
		began := time.Now()
		if t.node.ID == f.r.cfg.Self {
			replies <- reply{t, local.Execute(call, by, job)}
			return
		}
		if err := f.r.bounded(by, t.node, job.Action); err != nil {
			replies <- reply{t, unanswered(err)}
			return
		}
		call, cancel := context.WithCancelCause(call)
		defer cancel(nil)
		defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
		ask := func() muster.Result {
			result, err := remote.Execute(call, t.node, by, job)
			if err != nil {
				result = unanswered(err)
			}
			if err != nil && call.Err() != nil && result.State == muster.StateUnknown {
				result = noAnswer(call)
			}
			return result
		}
		result := ask()
		if again := t.retry; again != nil {
			for tries := 1; result.State == muster.StateUnreachable && tries < again.Attempts; tries++ {
				f.resting.Store(t.node.Slug, result)
				if !f.rest(call, again.pause(tries)) {
					break
				}
				f.resting.Delete(t.node.Slug)
				result = ask()
			}
		}
		result.DurationMs = max(result.DurationMs, time.Since(began).Milliseconds())
		replies <- reply{t, honest(result)}
	}()
}

// unanswered makes a result of a call's error.
func unanswered(err error) muster.Result {
	r := muster.Result{State: muster.StateUnknown, Error: &muster.ActionError{Code: muster.CodeOf(err), Message: err.Error()}}
	if muster.CodeOf(err) == muster.CodeCircuitOpen {
		r.State = muster.StateSkipped
		return r
	}
	switch muster.KindOf(err) {
	case muster.Unavailable, muster.Timeout, muster.NoMaster, muster.Unauthorized:
		r.State = muster.StateUnreachable // Unauthorized: it does not know this node, yet or any more
	case muster.Forbidden:
		r.State = muster.StateDenied
	case muster.Invalid, muster.Malformed, muster.NotFound, muster.TooLarge, muster.Unsupported:
		r.State = muster.StateInvalid
	case muster.Limited, muster.Conflict:
		r.State = muster.StateFailed // refused: nothing was done
	case muster.Internal:
		r.Error.Code = "no_answer"
	default: // it may have been done
	}
	return r
}

// honest makes a node's own word consistent.
func honest(r muster.Result) muster.Result {
	switch r.State {
	case muster.StateOK, muster.StateNoop, muster.StateFailed, muster.StateTimeout, muster.StateUnreachable, muster.StateDenied,
		muster.StateInvalid, muster.StateSkipped, muster.StateCancelled, muster.StateInterrupted, muster.StateUnknown:
	default:
		r.State, r.Error = muster.StateUnknown, &muster.ActionError{Code: "bad_answer", Message: "the node's answer names no known state"}
	}
	r.Success = succeeded(r.State)
	return r
}

func (f *fan) skip(t target, why *muster.ActionError) {
	f.settle(t, muster.Result{State: muster.StateSkipped, Error: why})
}

// settle writes down what became of a target.
func (f *fan) settle(t target, result muster.Result) {
	result.Node, result.NodeName = t.node.Slug, t.node.Name
	f.results[t.node.Slug] = result
	if f.tell != nil {
		f.tell(result)
	}
	if !result.Success && result.State != muster.StateSkipped {
		f.fails++
	}
}
