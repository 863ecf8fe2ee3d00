package actions

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"muster"
)

const (
	maxJobs     = 100 // that a node leads at once without anybody waiting
	recentJobs  = 50  // that have ended and whose events are still told one by one
	maxParams   = 4 << 10
	maxLive     = 1000     // that a node leads at once, waited for or not
	recentBytes = 16 << 20 // of the results of those that have ended, but for the latest
)

// Jobs keeps jobs, also when the process dies.
type Jobs interface {
	// PutJob writes down how a job is: before it returns, or else soon.
	PutJob(j muster.Job, soon bool) error

	// Job returns one. It is NotFound when there is none.
	Job(id string) (muster.Job, error)

	// Jobs yields those with IDs below one, or all if it is empty, the newest first,
	// and reads no more than is taken. An error is the last thing.
	Jobs(below string) iter.Seq2[muster.Job, error]
}

// jobs are those under way, and the last ones that have ended.
type jobs struct {
	mu     sync.Mutex
	live   map[string]*job // by ID; guarded by mu
	alone  int             // of those under way nobody waits for; guarded by mu
	recent []*job          // that have ended, the latest last; guarded by mu
	bytes  int             // of their results; guarded by mu
}

// job is one that is led here.
type job struct {
	id         string
	muster.Job               // guarded by jobs.mu
	halt       chan struct{} // closed when it is cancelled
	halted     bool          // guarded by jobs.mu
	alone      bool          // nobody waits for it; guarded by jobs.mu
	over       chan struct{} // closed when it has ended and that is written down, or on its way there
	news       *news
	by         muster.Rights // of who began it
	book       sync.Mutex    // held while the job is written down
	bytes      int           // of the results of one that has ended; guarded by jobs.mu
}

// add takes a job in, unless there are too many; one with this ID that is there
// already is returned instead.
func (s *jobs) add(j *job) (known *job, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.findLocked(j.id); known != nil {
		return known, nil
	}
	if j.alone && s.alone >= maxJobs {
		return nil, muster.Errorf(muster.Limited, "this node leads %d jobs already that nobody waits for", maxJobs).WithCode("too_many_jobs")
	}
	if len(s.live) >= maxLive {
		return nil, muster.Errorf(muster.Limited, "this node leads %d jobs already", maxLive).WithCode("too_many_jobs")
	}
	if s.live == nil {
		s.live = map[string]*job{}
	}
	s.live[j.id] = j
	if j.alone {
		s.alone++
	}
	return nil, nil
}

func (s *jobs) findLocked(id string) *job {
	if j := s.live[id]; j != nil {
		return j
	}
	for _, j := range s.recent {
		if j.id == id {
			return j
		}
	}
	return nil
}

func (s *jobs) find(id string) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.findLocked(id)
}

// note writes down what became of one target.
func (s *jobs) note(j *job, result muster.Result) {
	s.mu.Lock()
	j.Results[result.Node] = result
	j.Pending = slices.DeleteFunc(j.Pending, func(slug string) bool { return slug == result.Node })
	s.mu.Unlock()
	j.news.add(muster.JobEvent{Type: muster.EventResult, Node: result.Node, Result: &result})
}

// show returns a copy of a job, with its counts as they are.
func (s *jobs) show(j *job) muster.Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	shown := j.Job
	shown.Pending = slices.Clone(j.Pending)
	if shown.Status == muster.JobRunning {
		shown.RunAnswer = answer(muster.Execution{Job: j.id, Action: j.Action}, maps.Clone(j.Results))
		shown.Success = false
	}
	return shown
}

// forsake says that nobody waits for a job any more.
func (s *jobs) forsake(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !j.alone && s.live[j.id] == j {
		j.alone = true
		s.alone++
	}
}

func (s *jobs) waitedFor(j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !j.alone
}

// end takes a job out of those under way.
func (s *jobs) end(j *job, ended muster.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.Job = ended
	s.dropLocked(j)
	for _, r := range ended.Results {
		j.bytes += len(r.Result)
	}
	s.recent, s.bytes = append(s.recent, j), s.bytes+j.bytes
	for len(s.recent) > recentJobs || s.bytes > recentBytes && len(s.recent) > 1 {
		s.bytes -= s.recent[0].bytes
		s.recent[0] = nil
		s.recent = s.recent[1:]
	}
}

// drop forgets a job that did not begin.
func (s *jobs) drop(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked(j)
}

func (s *jobs) dropLocked(j *job) {
	delete(s.live, j.id)
	if j.alone {
		s.alone--
	}
}

// Begin has an action run on the nodes selected, which are frozen now, and does
// not wait: the job goes on until all have answered. A job with the run's ID that
// is known here is returned as it is. Errors are those of Run, and Limited.
func (r *Runner) Begin(ctx context.Context, by muster.Rights, run muster.Run) (muster.Job, error) {
	if j, known, err := r.known(run.ID, run.Params); known || err != nil {
		return j, err
	}
	how, targets, err := r.plan(by, run)
	if err != nil {
		return muster.Job{}, err
	}
	j, err := r.begin(ctx, by, run, plan{how: how, targets: targets, alone: true})
	if err != nil {
		return muster.Job{}, err
	}
	return r.jobs.show(j), nil
}

// known returns the job with an ID that was begun before. It is a Conflict if that
// was with other parameters: what the key of a run stands for does not tell those
// that are secret.
func (r *Runner) known(id string, params muster.Params) (j muster.Job, known bool, err error) {
	if id == "" {
		return j, false, nil
	}
	j, err = r.Job(id)
	switch {
	case muster.KindOf(err) == muster.NotFound:
		return j, false, nil
	case err != nil:
		return j, false, err
	}
	return j, true, r.sameParams(j, params)
}

func (r *Runner) sameParams(j muster.Job, params muster.Params) error {
	if j.Order == nil || j.Order.Digest == r.cfg.Seal.digest(params) {
		return nil
	}
	return muster.Errorf(muster.Conflict, "this Idempotency-Key was used with other parameters").
		WithCode("idempotency_key_reused").WithHint("send the same body, or a new key")
}

// plan is what a job is to do.
type plan struct {
	how     strategy
	targets []target
	alone   bool   // nobody waits for it
	retryOf string // another job
}

// begin starts a job, or returns the one that has its ID; other parameters are a
// Conflict.
func (r *Runner) begin(ctx context.Context, by muster.Rights, run muster.Run, p plan) (*job, error) {
	ctx, end, err := r.running.begin(context.WithoutCancel(ctx), "")
	if err != nil {
		return nil, muster.Errorf(muster.Unavailable, "%w", err)
	}
	f := r.fan(by, run, p.how, p.targets)
	j := &job{id: f.job.Job, halt: make(chan struct{}), over: make(chan struct{}), alone: p.alone, by: by}
	j.news = newNews(j.over)
	j.news.follow = func(t muster.JobTarget) { r.follow(ctx, j, t) }
	j.Job = muster.Job{Status: muster.JobRunning, Caller: by.Principal, StartedAt: time.Now().UTC(), RetryOf: p.retryOf, Order: r.order(run, p)}
	j.RunAnswer = answer(f.job, map[string]muster.Result{})
	for _, t := range p.targets {
		j.Pending = append(j.Pending, t.node.Slug)
	}
	known, err := r.jobs.add(j)
	if known != nil {
		err = r.sameParams(r.jobs.show(known), run.Params)
	}
	if known != nil || err != nil {
		end()
		return known, err
	}
	// Who waits hears of a failure of the node itself; of what nobody waits for,
	// or what may be asked for again, it must be known that it began.
	if err := r.cfg.Jobs.PutJob(r.jobs.show(j), !p.alone && run.ID == ""); err != nil && (p.alone || run.ID != "") {
		r.jobs.drop(j)
		close(j.over)
		end()
		return nil, err
	}
	f.halted = j.halt
	f.tell = func(result muster.Result) { r.jobs.note(j, result) }
	f.began = j.news.began
	go func() {
		defer end()
		f.do(ctx, p.targets, p.how)
		r.finish(ctx, j, f)
	}()
	return j, nil
}

// order is what a job was asked, as far as it is kept.
func (r *Runner) order(run muster.Run, p plan) *muster.JobOrder {
	o := &muster.JobOrder{How: run.How, Check: run.Check, Digest: r.cfg.Seal.digest(run.Params)}
	if len(paramsJSON(run.Params)) <= maxParams && r.open(run) {
		o.Params = run.Params
	}
	for _, t := range p.targets {
		o.Targets = append(o.Targets, muster.JobTarget{Slug: t.node.Slug, ID: t.node.ID})
	}
	return o
}

// open reports whether it is known that none of the parameters is a secret, here or
// of another node's version.
func (r *Runner) open(run muster.Run) bool {
	if len(run.Params) == 0 {
		return true // most runs, and what is declared need not be read
	}
	for _, v := range r.versions(run.Action) {
		var declared map[string]Param
		if json.Unmarshal(v.Params, &declared) != nil {
			return false
		}
		for param := range run.Params {
			if declared[param].Secret {
				return false
			}
		}
	}
	return r.local.open(run.Action, run.Params)
}

// open reports whether it is known that none of the parameters is a secret.
func (e *Executor) open(name string, params muster.Params) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.set[name]
	if a == nil {
		return len(params) == 0
	}
	for param := range params {
		if p, declared := a.Params[param]; !declared || p.Secret {
			return false
		}
	}
	return true
}

// finish writes down how a job ended.
func (r *Runner) finish(ctx context.Context, j *job, f *fan) {
	ended := r.jobs.show(j)
	ended.RunAnswer, ended.Pending, ended.EndedAt = answer(f.job, f.results), nil, time.Now().UTC()
	switch {
	case errors.Is(context.Cause(ctx), errStopping):
		ended.Status = muster.JobInterrupted
	case f.isHalted():
		ended.Status = muster.JobCancelled
	default:
		ended.Status = statusOf(ended.RunAnswer)
	}
	// What is told of an end stays true after a crash; but a run that only reads,
	// and that somebody waits for, does not wait for the disk.
	risk, known := r.local.risk(ended.Action)
	j.book.Lock()
	err := r.cfg.Jobs.PutJob(ended, known && risk == muster.RiskRead && r.jobs.waitedFor(j))
	r.jobs.end(j, ended)
	j.book.Unlock()
	if err != nil {
		r.cfg.Log.Error("job cannot be written down", "job", f.job.Job, "status", ended.Status, "error", err)
	}
	close(j.over)
	j.news.close(muster.JobEvent{Type: muster.EventSummary, Job: &ended})
}

// wait returns a job when it has ended, or as it is at the end of ctx: then that
// it goes on is written down.
func (r *Runner) wait(ctx context.Context, j *job) muster.Job {
	select {
	case <-j.over:
		return r.jobs.show(j)
	default:
	}
	select {
	case <-j.over:
		return r.jobs.show(j)
	case <-ctx.Done():
	}
	r.jobs.forsake(j)
	j.book.Lock()
	defer j.book.Unlock()
	shown := r.jobs.show(j)
	if shown.Status != muster.JobRunning {
		return shown
	}
	if err := r.cfg.Jobs.PutJob(shown, false); err != nil {
		r.cfg.Log.Error("job cannot be written down", "job", shown.Job, "status", shown.Status, "error", err)
	}
	return shown
}

// Job returns a job that this node leads or led. It is NotFound when there is
// none.
func (r *Runner) Job(id string) (muster.Job, error) {
	if j := r.jobs.find(id); j != nil {
		return r.jobs.show(j), nil
	}
	return r.cfg.Jobs.Job(id)
}

// Jobs yields the jobs that this node leads or led, the newest first, from those on
// that began with or before a job, whose ever it is, or all if that is empty. Their
// orders have no parameters. An error is the last thing.
func (r *Runner) Jobs(from string) iter.Seq2[muster.Job, error] {
	below := ""
	if from != "" {
		_, id, _ := strings.Cut(strings.TrimPrefix(from, "j_"), "_")
		below = "j_" + r.cfg.Self + "_" + id + "\x00"
	}
	return func(yield func(muster.Job, error) bool) {
		for j, err := range r.cfg.Jobs.Jobs(below) {
			if live := r.jobs.find(j.Job); live != nil {
				j = r.jobs.show(live)
			}
			if o := j.Order; o != nil {
				short := *o
				short.Params = nil
				j.Order = &short
			}
			if !yield(j, err) {
				return
			}
		}
	}
}

// unkept keeps no jobs.
type unkept struct{}

// PutJob does nothing.
func (unkept) PutJob(muster.Job, bool) error { return nil }

// Job knows none.
func (unkept) Job(id string) (muster.Job, error) {
	return muster.Job{}, muster.Errorf(muster.NotFound, "no job %q", id)
}

// Jobs knows none.
func (unkept) Jobs(string) iter.Seq2[muster.Job, error] {
	return func(func(muster.Job, error) bool) {}
}
