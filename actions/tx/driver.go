package tx

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"muster"
)

// Log is where the master writes transactions down. Each call returns when the
// entry is applied here; a Conflict says that it was refused, any other error that
// nobody knows whether it is in the log.
type Log interface {
	ClaimTxs(ctx context.Context) error
	AdvanceTx(ctx context.Context, id string, epoch uint64, events []muster.TxEvent) error
	PurgeTxs(ctx context.Context, before time.Time) error
}

// Book is this node's copy of the transactions.
type Book interface {
	OpenTxs() []muster.Tx
	Tx(id string) (muster.Tx, bool)
	Node(id string) (muster.Node, bool)
	Changed() <-chan struct{} // closed at the next change
}

// Hands have nodes do their parts. The end of ctx ends the wait, not the work.
type Hands interface {
	// At has a node execute something. Unreachable says that this call did nothing,
	// unknown that it may have.
	At(ctx context.Context, nodeID string, by muster.Rights, x muster.Execution) muster.Result

	// EndAt has a node end what it executes of a job.
	EndAt(ctx context.Context, nodeID string, by muster.Rights, action, job string) error
}

// Callers knows who may still call.
type Callers interface {
	Allowed(by muster.Rights) error
}

// Config is what a Driver needs to know.
type Config struct {
	Self     string       // node ID
	Parallel int          // steps of one transaction under way at once; 0: 10
	Callers  Callers      // nil: all may go on
	Log      *slog.Logger // nil: no log
}

// Driver leads all open transactions while this node is the master.
type Driver struct {
	cfg   Config
	log   Log
	book  Book
	hands Hands
}

// NewDriver makes a driver; Lead has it work.
func NewDriver(cfg Config, log Log, book Book, hands Hands) *Driver {
	if cfg.Parallel == 0 {
		cfg.Parallel = 10
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Driver{cfg: cfg, log: log, book: book, hands: hands}
}

const (
	againAfter   = 100 * time.Millisecond // an entry that could not be written
	refusedAfter = 5 * time.Millisecond   // an entry that an operator's word was faster than
	endWait      = 5 * time.Second        // for a node to end what it executes
	purgeEvery   = time.Hour
	keepEnded    = 7 * 24 * time.Hour
)

// Lead drives transactions from the moment this node became the master until ctx
// ends, which is when it is deposed. All that it began has returned then. What is
// in the registry must be all that earlier masters wrote.
func (d *Driver) Lead(ctx context.Context) {
	for len(d.book.OpenTxs()) > 0 {
		err := d.log.ClaimTxs(ctx)
		if err == nil {
			break
		}
		d.cfg.Log.Warn("claim transactions", "error", err)
		if !pause(ctx, againAfter) {
			return
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { d.purge(ctx) })
	runs := runs{live: map[string]*run{}, had: map[string]bool{}}
	for {
		changed, ended := d.book.Changed(), runs.ended()
		open := d.book.OpenTxs()
		runs.tellOthers(open)
		for _, t := range open {
			if d.others(t) {
				continue
			}
			if r, mine := runs.of(t); mine {
				wg.Go(func() {
					d.drive(ctx, r)
					runs.over(r)
				})
			}
		}
		select {
		case <-changed:
		case <-ended: // perhaps it has to be begun again
		case <-ctx.Done():
			return
		}
	}
}

// Opening is what the driver would say first of a transaction that is about to
// begin: which steps are started, if that is all there is to say. Whoever leads puts
// it into the log with the beginning, in one entry.
func (d *Driver) Opening(t muster.Tx) []muster.TxEvent {
	events := Decide(t, nil, time.Now(), d.rules(t))
	if _, rest := split(events); len(rest) > 0 {
		return nil
	}
	for _, e := range events {
		if e.Event != muster.EventStart {
			return nil
		}
	}
	return events
}

// others reports whether another node drives a transaction: this one was deposed,
// and does not know it yet. A call for what another wrote down would be one that
// the other cannot know of.
func (d *Driver) others(t muster.Tx) bool { return t.Driver != "" && t.Driver != d.cfg.Self }

// purge has what ended long ago forgotten.
func (d *Driver) purge(ctx context.Context) {
	for pause(ctx, purgeEvery) {
		if err := d.log.PurgeTxs(ctx, time.Now().Add(-keepEnded)); err != nil {
			d.cfg.Log.Warn("forget old transactions", "error", err)
		}
	}
}

// pause passes time, and reports whether ctx still holds then.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// runs are the transactions that are driven.
type runs struct {
	mu   sync.Mutex
	live map[string]*run // guarded by mu
	had  map[string]bool // guarded by mu; open ones that had a run in this reign
	wake chan struct{}   // guarded by mu; closed when one is over
}

// run is one transaction that is driven.
type run struct {
	id      string
	news    chan struct{} // has room for one: the transaction changed
	index   uint64        // of the change last told; guarded by runs.mu
	answers chan Answer
	calls   map[string]*made // under way, by operation, step and generation
	own     map[string]bool  // generations whose intent this run wrote, before their first call
	told    muster.TxStatus  // what the log was last told of
}

// made is a call under way.
type made struct {
	order Order
	end   context.CancelFunc
}

// of tells the run of a transaction that it changed. mine is true if there is none
// and one is needed: then the caller has to begin the one returned.
func (s *runs) of(t muster.Tx) (r *run, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r = s.live[t.ID]
	switch {
	case r == nil && t.Status.Driven():
		r = &run{id: t.ID, news: make(chan struct{}, 1), index: t.Index, answers: make(chan Answer, 4*len(t.Steps)+4), calls: map[string]*made{}, own: map[string]bool{}}
		s.live[t.ID] = r
		if !s.had[t.ID] {
			r.opened(t)
		}
		s.had[t.ID] = true
		return r, true
	case r == nil || r.index == t.Index:
		return r, false
	}
	r.index = t.Index
	select {
	case r.news <- struct{}{}:
	default:
	}
	return r, false
}

// tellOthers tells the runs of transactions that are not open any more, an operator
// ended them, and forgets those that are over.
func (s *runs) tellOthers(open []muster.Tx) {
	ids := make(map[string]bool, len(open))
	for _, t := range open {
		ids[t.ID] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.live {
		if ids[id] {
			continue
		}
		select {
		case r.news <- struct{}{}:
		default:
		}
	}
	maps.DeleteFunc(s.had, func(id string, _ bool) bool { return !ids[id] })
}

func (s *runs) over(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, r.id)
	if s.wake != nil {
		close(s.wake)
		s.wake = nil
	}
}

// ended returns a channel that is closed when the next run is over.
func (s *runs) ended() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wake == nil {
		s.wake = make(chan struct{})
	}
	return s.wake
}

// drive leads one transaction until nothing is left to do, it is another's, or
// ctx ends.
func (d *Driver) drive(ctx context.Context, r *run) {
	var wg sync.WaitGroup
	defer wg.Wait()
	calls, cancel := context.WithCancel(ctx)
	defer cancel()
	var heard []Answer
	if t, ok := d.book.Tx(r.id); ok {
		r.told = t.Status // what it was before is not this run's to tell
	}
	for {
		t, mine := d.read(r)
		if !mine || t.Status.Ended() || !t.Status.Driven() && len(r.calls) == 0 && len(heard) == 0 {
			d.abandon(ctx, &wg, t, r)
			return
		}
		now := time.Now()
		if events := Decide(t, heard, now, d.rules(t)); len(events) > 0 {
			first, rest := split(events)
			if err := d.log.AdvanceTx(ctx, t.ID, t.Epoch, first); err != nil {
				if !d.mine(ctx, t, err) {
					return
				}
				continue // decide anew, with what was heard
			}
			r.wrote(t, first)
			if len(rest) > 0 {
				continue
			}
			if t, mine = d.read(r); !mine {
				return
			}
		}
		orders, wake := Calls(t, now)
		for _, o := range orders {
			d.call(calls, &wg, t, r, o)
		}
		d.abandon(ctx, &wg, t, r)
		heard = r.wait(ctx, wake)
		if ctx.Err() != nil {
			return
		}
	}
}

// read gives a run's transaction as it is now, if it is still this node's to drive.
func (d *Driver) read(r *run) (t muster.Tx, mine bool) {
	t, ok := d.book.Tx(r.id)
	if !ok || d.others(t) {
		return t, false
	}
	d.tell(t, r)
	return t, true
}

// tell has the log say, once, that a transaction waits for an operator, or that it
// was rolled back.
func (d *Driver) tell(t muster.Tx, r *run) {
	if t.Status == r.told {
		return
	}
	r.told = t.Status
	switch t.Status {
	case muster.TxParked:
		d.cfg.Log.Warn("transaction is parked and waits for an operator", "tx", t.ID, "name", t.Name, "steps", stuck(t), "reason", message(t.Error))
	case muster.TxRolledBack:
		d.cfg.Log.Info("transaction was rolled back", "tx", t.ID, "name", t.Name, "reason", message(t.Error))
	default:
	}
}

// stuck says of each step of a parked transaction that has begun, and stands in the
// way, how and why.
func stuck(t muster.Tx) []string {
	var steps []string
	for _, do := range t.Answer().Sheet {
		if do.Status != muster.StepPending {
			steps = append(steps, fmt.Sprintf("%s on %s: %s: %s", do.Step, do.Node, do.Status, message(do.Why)))
		}
	}
	return steps
}

// rules are those for a transaction now.
func (d *Driver) rules(t muster.Tx) Rules {
	rules := Rules{Parallel: d.cfg.Parallel, Draw: rand.Float64, Gone: d.gone}
	if d.cfg.Callers == nil {
		return rules
	}
	if err := d.cfg.Callers.Allowed(t.By); err != nil {
		rules.Denied = &muster.ActionError{Code: muster.CodeOf(err), Message: "its caller may not go on: " + err.Error()}
	}
	return rules
}

// gone reports whether a node left the registry: what it did, nobody knows but it.
func (d *Driver) gone(id string) bool {
	n, known := d.book.Node(id)
	return !known || n.DeletedAt != nil
}

// mine reports whether this node still drives a transaction whose entry was not
// taken. When nobody knows whether it is in the log, no call may leave: the run
// ends, and begins anew with what the registry has, if this node still leads.
func (d *Driver) mine(ctx context.Context, t muster.Tx, err error) bool {
	if muster.KindOf(err) == muster.Conflict && muster.CodeOf(err) != "stale_epoch" {
		return pause(ctx, refusedAfter)
	}
	if ctx.Err() == nil {
		d.cfg.Log.Warn("write down a transaction", "tx", t.ID, "error", err)
		pause(ctx, againAfter)
	}
	return false
}

// split cuts events so that the first of them are one entry.
func split(events []muster.TxEvent) (first, rest []muster.TxEvent) {
	size := 0
	for i, e := range events {
		raw, err := json.Marshal(e)
		if size += len(raw) + 1; err != nil || size > muster.MaxTxEntry-1024 && i > 0 {
			return events[:i], events[i:]
		}
	}
	return events, nil
}

func callKey(op, step string, generation int) string {
	return fmt.Sprintf("%s %d %s", op, generation, step)
}

// opened remembers which calls nobody can have made yet when the first run of a
// reign begins.
func (r *run) opened(t muster.Tx) {
	for _, s := range Untried(t) {
		r.own[callKey(muster.OpDo, s.ID, s.Generation)] = true
	}
}

// wrote remembers which calls nobody can have made yet; t is the transaction
// before.
func (r *run) wrote(t muster.Tx, events []muster.TxEvent) {
	for _, e := range events {
		fresh := e.Event == muster.EventStart
		for _, s := range t.Steps {
			fresh = fresh || e.Event == muster.EventAgain && s.ID == e.Step && s.Status == muster.StepStarting && e.Generation > s.Generation
		}
		if fresh {
			r.own[callKey(muster.OpDo, e.Step, e.Generation)] = true
		}
	}
}

// call makes a call, unless it is under way. ctx ends with the run.
func (d *Driver) call(ctx context.Context, wg *sync.WaitGroup, t muster.Tx, r *run, o Order) {
	key := callKey(o.Op, o.Step, o.Generation)
	if r.calls[key] != nil || o.Op == OpCheck && len(r.calls) >= d.cfg.Parallel { // when one has answered, the next goes
		return
	}
	limited, cancel := context.WithTimeout(ctx, o.Limit)
	r.calls[key] = &made{o, cancel}
	first := r.own[key]
	r.own[key] = false
	wg.Go(func() {
		result := d.hands.At(limited, o.NodeID, t.By, o.Execution)
		select {
		case r.answers <- Answer{Step: o.Step, Op: o.Op, Generation: o.Generation, First: first, Result: result}:
		case <-ctx.Done(): // the run is over, and hears nobody any more
		}
	})
}

// wait waits for answers, for a change from outside, for a time, or for the end.
func (r *run) wait(ctx context.Context, wake time.Time) (heard []Answer) {
	var alarm <-chan time.Time
	if !wake.IsZero() {
		timer := time.NewTimer(time.Until(wake))
		defer timer.Stop()
		alarm = timer.C
	}
	select {
	case a := <-r.answers:
		heard = append(heard, a)
	case <-r.news:
	case <-alarm:
	case <-ctx.Done():
	}
	for len(r.answers) > 0 {
		heard = append(heard, <-r.answers)
	}
	for _, a := range heard {
		key := callKey(a.Op, a.Step, a.Generation)
		if m := r.calls[key]; m != nil {
			m.end()
			delete(r.calls, key)
		}
	}
	return heard
}

// abandon gives up calls that nobody waits for any more. What does a step that
// nothing will undo is ended where it runs; of one that is undone, the undo sees
// to that.
func (d *Driver) abandon(ctx context.Context, wg *sync.WaitGroup, t muster.Tx, r *run) {
	for key, m := range r.calls {
		s, wanted := asker(t, m.order)
		if wanted {
			continue
		}
		m.end()
		delete(r.calls, key)
		if m.order.Op == muster.OpDo && (s.Undo.Action == "" || t.Status.Ended()) {
			wg.Go(func() { d.end(ctx, t, m.order) })
		}
	}
}

func (d *Driver) end(ctx context.Context, t muster.Tx, o Order) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWait)
	defer cancel()
	if err := d.hands.EndAt(ctx, o.NodeID, t.By, o.Execution.Action, o.Execution.Job); err != nil {
		d.cfg.Log.Warn("end a step", "tx", t.ID, "step", o.Step, "error", err)
	}
}

// asker is the step that a call is for, and whether it still waits for the answer.
func asker(t muster.Tx, o Order) (s muster.TxStep, waits bool) {
	i := slices.IndexFunc(t.Steps, func(s muster.TxStep) bool { return s.ID == o.Step })
	if i < 0 {
		return s, false
	}
	s = t.Steps[i]
	switch {
	case t.Status.Ended():
	case o.Op == OpCheck:
		waits = t.Status == muster.TxPending && !s.Checked
	case o.Op == muster.OpDo:
		waits = s.Status == muster.StepStarting && s.Generation == o.Generation
	default:
		waits = s.Status == muster.StepUndoing && s.Generation == o.Generation
	}
	return s, waits
}
