package actions

import (
	"context"
	"sync"
	"time"

	"muster"
)

// Outcomes asks nodes what they know of what they began.
type Outcomes interface {
	// Outcome is what a node's journal, this one's too, has of a job.
	Outcome(ctx context.Context, n muster.Node, job string) (muster.Outcome, error)
}

// How long the nodes of an interrupted job are asked what became of it: as long as
// it is known to go on there, and goneFor beyond the last answer that said so; else
// askFor. The pauses double.
const (
	askFor    = 5 * time.Minute
	goneFor   = time.Hour
	askPause  = time.Second
	maxPause  = 15 * time.Second
	askTime   = 5 * time.Second // that one call may take
	askWithin = time.Hour       // jobs that were interrupted longer ago are left
)

// Resume begins to ask the nodes of jobs that were interrupted, when this node went
// down, what became of what they had begun, and writes that down. It does not wait;
// Stop ends it.
func (r *Runner) Resume(ctx context.Context) {
	if r.cfg.Outcomes == nil {
		return
	}
	ctx, end, err := r.running.begin(context.WithoutCancel(ctx), "")
	if err != nil {
		return // it was stopped
	}
	go func() {
		defer end()
		r.resume(ctx)
	}()
}

// open are the targets of interrupted jobs of which it is not known what became of
// them.
type open struct {
	job    muster.Job
	at     []muster.JobTarget
	heard  map[string]muster.Outcome // of the last round, by slug
	goesOn map[string]time.Time      // when it was last heard to go on, by slug; not if it is known that it does not
}

func (r *Runner) resume(ctx context.Context) {
	left := r.interrupted()
	began, pause := time.Now(), askPause
	for len(left) > 0 {
		var next []open
		silent := map[string]bool{} // nodes that did not answer in this round, by ID
		for _, o := range left {
			r.hear(ctx, &o, silent)
			if o.settle(time.Since(began) < askFor) {
				if err := r.cfg.Jobs.PutJob(o.job, false); err != nil {
					r.cfg.Log.Error("job cannot be written down", "job", o.job.Job, "status", o.job.Status, "error", err)
				}
			}
			if len(o.at) > 0 {
				next = append(next, o)
			}
		}
		left = next
		if len(left) == 0 || !rest(ctx, pause) {
			return
		}
		pause = min(2*pause, maxPause)
	}
}

// interrupted lists the jobs whose nodes are to be asked.
func (r *Runner) interrupted() (all []open) {
	for j, err := range r.cfg.Jobs.Jobs("") {
		if err != nil {
			r.cfg.Log.Error("jobs cannot be read", "error", err)
			return all
		}
		risk, known := r.local.risk(j.Action)
		if j.Status != muster.JobInterrupted || j.Order == nil || time.Since(j.EndedAt) > askWithin || known && risk == muster.RiskRead {
			continue // of what only reads there is nothing in any journal
		}
		o := open{job: j, goesOn: map[string]time.Time{}}
		for _, t := range j.Order.Targets {
			if forsaken(j.Results[t.Slug]) {
				o.at = append(o.at, t)
			}
		}
		if len(o.at) > 0 {
			all = append(all, o)
		}
	}
	return all
}

// forsaken reports whether a result only says that its job's leader went down.
func forsaken(r muster.Result) bool {
	return r.State == muster.StateUnknown && r.Error != nil && oneOf(r.Error.Code, "interrupted", "no_answer")
}

// hear asks the open targets of a job, so many at once; those that are silent it
// leaves out, and adds to them who does not answer.
func (r *Runner) hear(ctx context.Context, o *open, silent map[string]bool) {
	o.heard = map[string]muster.Outcome{}
	var mu sync.Mutex // guards o.heard
	var wg sync.WaitGroup
	turns := make(chan struct{}, r.cfg.MaxParallel)
	for _, t := range o.at {
		n, there := r.nodeWith(t.ID)
		if !there || silent[t.ID] {
			continue
		}
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			ctx, cancel := context.WithTimeout(ctx, askTime)
			defer cancel()
			told, err := r.cfg.Outcomes.Outcome(ctx, n, o.job.Job)
			if err != nil {
				r.cfg.Log.Debug("a node does not say what became of a job", "job", o.job.Job, "node", n.Slug, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			o.heard[t.Slug] = told
		})
	}
	wg.Wait()
	for _, t := range o.at {
		if _, heard := o.heard[t.Slug]; !heard {
			silent[t.ID] = true
		}
	}
}

// settle puts in what was heard, and reports whether that is anything. What goes on,
// and while there is time what was not heard of, stays open.
func (o *open) settle(more bool) (changed bool) {
	var at []muster.JobTarget
	for _, t := range o.at {
		told, heard := o.heard[t.Slug]
		switch {
		case heard && told.Known:
			o.goesOn[t.Slug] = time.Now()
		case heard:
			delete(o.goesOn, t.Slug)
		}
		switch {
		case heard && told.Result != nil:
			was, is := o.job.Results[t.Slug], honest(*told.Result)
			is.Node, is.NodeName = was.Node, was.NodeName
			o.job.Results[t.Slug] = is
			changed = true
		case more || time.Since(o.goesOn[t.Slug]) < goneFor:
			at = append(at, t)
		}
	}
	o.at = at
	if !changed {
		return false
	}
	o.job.RunAnswer = answer(muster.Execution{Job: o.job.Job, Action: o.job.Action}, o.job.Results)
	for _, r := range o.job.Results {
		if forsaken(r) || r.State == muster.StateSkipped && r.Error != nil && r.Error.Code == "not_started" {
			return true // what was interrupted stays so
		}
	}
	o.job.Status = statusOf(o.job.RunAnswer)
	return true
}

// statusOf is how a job ended by itself.
func statusOf(a muster.RunAnswer) string {
	switch {
	case a.Success:
		return muster.JobSucceeded
	case a.SuccessCount > 0:
		return muster.JobPartial
	default:
		return muster.JobFailed
	}
}
