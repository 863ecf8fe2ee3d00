package tx_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"muster"
	"muster/actions/tx"
	"muster/fsm"
)

// master is a node that leads, or believes it does: what tx.Driver does, moment
// by moment.
type master struct {
	w      *sim
	name   string
	dead   bool                 // it does nothing any more
	paused time.Time            // until then, neither
	frozen map[string]muster.Tx // what it knew when it was deposed; nil: it sees what is new
	runs   map[string]*run
	had    map[string]bool // transactions that had a run in this reign
	lost   int             // entries that were not taken
}

// run is one transaction that a master drives.
type run struct {
	m       *master
	id      string
	ready   bool            // it will look
	writing *entry          // on its way to the log
	heard   []tx.Answer     // not yet decided upon
	calls   map[string]bool // under way
	own     map[string]bool // generations whose intent this run wrote, before their first call
	over    bool
}

// entry is what a master wants to be in the log.
type entry struct {
	body fsm.TxAdvance
	done func(error)
	over bool
}

// crown makes a new master after a while: it claims, and looks.
func (w *sim) crown(after time.Duration) {
	w.after(after, func() {
		if w.lead != nil {
			return
		}
		if w.odds(10) {
			w.restore()
		}
		m := &master{w: w, name: fmt.Sprint("m", len(w.lords)), runs: map[string]*run{}, had: map[string]bool{}}
		w.lords = append(w.lords, m)
		w.lead = m
		if len(w.open()) > 0 {
			body := fsm.TxClaim{Driver: m.name}
			if !w.calm && w.odds(3) {
				body.Park = &muster.ActionError{Code: "restored", Message: "restored"}
			}
			w.do(w.write(fsm.OpTxClaim, "", body))
			w.say("%s claims, park: %v", m.name, body.Park != nil)
		}
		m.look()
	})
}

// restore has the new master begin with a snapshot of the registry.
func (w *sim) restore() {
	picture, err := w.reg.Snapshot()
	w.do(err)
	var disk sink
	w.do(picture.Persist(&disk))
	w.reg = fsm.Machine{Registry: fsm.New()}
	w.do(w.reg.Restore(io.NopCloser(&disk.Buffer)))
	w.count["snapshots"]++
}

// sink is where a snapshot is kept.
type sink struct{ bytes.Buffer }

// ID names nothing.
func (*sink) ID() string { return "" }

// Close has nothing to close.
func (*sink) Close() error { return nil }

// Cancel has nothing to forget.
func (*sink) Cancel() error { return nil }

// depose ends a reign: by death, or so that the old master does not know it yet.
func (w *sim) depose() {
	m := w.lead
	if m == nil || w.calm {
		return
	}
	w.count["deposed"]++
	w.lead = nil
	keep := w.rng.IntN(3) // of what is on its way, so many entries are in the log
	for _, p := range w.txs {
		r := m.runs[p.id]
		if r == nil || r.writing == nil {
			continue
		}
		e := r.writing
		if keep > 0 {
			keep--
			w.say("%s: the last entry is in the log: %v", m.name, w.apply(m, e))
		}
		e.over = true
		w.after(w.within(5*time.Second), func() { e.done(muster.Errorf(muster.OutcomeUnknown, "leadership lost")) })
	}
	switch w.rng.IntN(4) {
	case 0:
		m.dead = true
		w.say("%s dies", m.name)
	case 1:
		w.say("%s is deposed and sees what is new", m.name)
	case 2:
		m.paused = w.now.Add(w.within(60 * time.Second))
		fallthrough
	default:
		m.frozen = map[string]muster.Tx{}
		for _, t := range w.open() {
			m.frozen[t.ID] = t
		}
		w.say("%s is deposed, sees nothing new, and is stopped until %v", m.name, m.paused.Sub(w.txs[0].born))
	}
	w.after(w.within(90*time.Second), func() {
		if !m.dead {
			w.say("%s gives up", m.name)
			m.dead = true
		}
	})
	w.crown(w.within(5 * time.Second))
}

// after has a master do something, when it is not stopped.
func (m *master) after(d time.Duration, do func()) {
	m.w.after(d, func() {
		switch {
		case m.dead:
		case m.w.now.Before(m.paused):
			m.after(m.paused.Sub(m.w.now), do)
		default:
			do()
		}
	})
}

func (m *master) open() (open []muster.Tx) {
	if m.frozen == nil {
		return m.w.open()
	}
	for _, p := range m.w.txs {
		if t, ok := m.frozen[p.id]; ok {
			open = append(open, t)
		}
	}
	return open
}

func (m *master) tx(id string) (muster.Tx, bool) {
	if m.frozen == nil {
		return m.w.tx(id)
	}
	t, ok := m.frozen[id]
	return t, ok
}

func (m *master) others(t muster.Tx) bool { return t.Driver != "" && t.Driver != m.name }

// look has all that is open driven.
func (m *master) look() {
	for _, t := range m.open() {
		r := m.runs[t.ID]
		if r == nil && m.others(t) {
			continue
		}
		if r == nil && t.Status.Driven() {
			r = &run{m: m, id: t.ID, calls: map[string]bool{}, own: map[string]bool{}}
			m.runs[t.ID] = r
			if !m.had[t.ID] {
				for _, s := range tx.Untried(t) {
					r.own[callKey(muster.OpDo, s.ID, s.Generation)] = true
				}
			}
			m.had[t.ID] = true
		}
		if r != nil {
			r.wake(m.w.within(20 * time.Millisecond))
		}
	}
}

func (r *run) wake(d time.Duration) {
	if r.ready {
		return
	}
	r.ready = true
	r.m.after(d, func() {
		r.ready = false
		if !r.over && r.writing == nil {
			r.drive()
		}
	})
}

func (r *run) end() {
	r.over = true
	delete(r.m.runs, r.id)
}

// drive decides what is next, writes it down and makes the calls that follow.
func (r *run) drive() {
	w := r.m.w
	t, ok := r.m.tx(r.id)
	if !ok || r.m.others(t) || !t.Status.Driven() && len(r.calls) == 0 && len(r.heard) == 0 {
		r.end()
		return
	}
	events := w.decide(t, r.heard)
	if len(events) > 0 {
		if w.without == noIntent {
			if next, err := fsm.AdvanceTx(t, t.Epoch, events, t.Index, w.now); err == nil {
				orders, _ := tx.Calls(next, w.now)
				r.call(orders)
			}
		}
		r.write(t, events)
		return
	}
	r.heard = nil
	orders, wake := tx.Calls(t, w.now)
	r.call(orders)
	r.abandon(t)
	if !wake.IsZero() {
		r.m.after(wake.Sub(w.now), func() { r.wake(0) })
	}
}

// decide is tx.Decide, but for a trial that takes unknown steps for failed ones.
func (w *sim) decide(t muster.Tx, heard []tx.Answer) []muster.TxEvent {
	rules := tx.Rules{Parallel: 3, Draw: w.rng.Float64}
	events := tx.Decide(t, heard, w.now, rules)
	if w.without != noUnknown {
		return events
	}
	var out []muster.TxEvent
	add := func(e muster.TxEvent) {
		if next, err := fsm.AdvanceTx(t, t.Epoch, []muster.TxEvent{e}, t.Index, w.now); err == nil {
			t, out = next, append(out, e)
		}
	}
	for _, e := range events {
		switch e.Event {
		case muster.EventUnknown:
			e.Event = muster.EventFailed
		case muster.EventAbort:
			for _, s := range t.Steps {
				add(muster.TxEvent{Event: muster.EventFailed, Step: s.ID, Generation: s.Generation})
			}
		default:
		}
		add(e)
	}
	return out
}

// write has events put into the log; what nobody knows to be there ends the run.
func (r *run) write(t muster.Tx, events []muster.TxEvent) {
	w, m, decided := r.m.w, r.m, len(r.heard)
	e := &entry{body: fsm.TxAdvance{ID: t.ID, Epoch: t.Epoch, Driver: m.name, Events: events}}
	e.done = func(err error) {
		e.over = true
		m.after(0, func() {
			r.writing = nil
			switch {
			case err == nil:
				r.wrote(t, events)
				r.heard = r.heard[decided:]
				r.wake(0)
			case muster.KindOf(err) == muster.Conflict && muster.CodeOf(err) != "stale_epoch":
				r.wake(0)
			default:
				r.end()
				m.lost++
				m.dead = m.dead || m.lost > 3 // it has noticed
				m.after(100*time.Millisecond, m.look)
			}
		})
	}
	r.writing = e
	w.after(w.within(50*time.Millisecond), func() {
		switch {
		case e.over:
		case m == w.lead:
			e.done(w.apply(m, e))
		case m.frozen != nil && w.lead != nil && w.odds(50): // from a term that is over
			w.count["late entries"]++
			e.done(w.apply(m, e))
		default:
			e.done(muster.Errorf(muster.NotMaster, "not the master"))
		}
	})
}

func (w *sim) apply(m *master, e *entry) error {
	err := w.write(fsm.OpTxAdvance, "", e.body)
	if w.trace != nil {
		line := make([]string, 0, len(e.body.Events))
		for _, v := range e.body.Events {
			line = append(line, fmt.Sprint(v.Event, " ", v.Step, " ", v.Generation))
		}
		t, _ := w.tx(e.body.ID)
		w.say("%s writes of %s: %s: %v; it is %s", m.name, e.body.ID, strings.Join(line, ", "), err, t.Status)
	}
	if m == w.lead {
		m.look()
	}
	return err
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

func callKey(op, step string, generation int) string {
	return fmt.Sprint(op, " ", generation, " ", step)
}

// call makes those calls that are not under way.
func (r *run) call(orders []tx.Order) {
	for _, o := range orders {
		key := callKey(o.Op, o.Step, o.Generation)
		if r.calls[key] {
			continue
		}
		r.calls[key] = true
		first := r.own[key] || r.m.w.without == noDoubt
		r.own[key] = false
		r.m.send(o, func(result muster.Result) {
			if !r.calls[key] {
				return
			}
			delete(r.calls, key)
			r.heard = append(r.heard, tx.Answer{Step: o.Step, Op: o.Op, Generation: o.Generation, First: first, Result: result})
			r.wake(0)
		})
	}
}

// abandon gives up calls that nobody waits for any more.
func (r *run) abandon(t muster.Tx) {
	for _, s := range t.Steps {
		for g := range s.Generation + 1 {
			doing, undoing, checking := callKey(muster.OpDo, s.ID, g), callKey(muster.OpUndo, s.ID, g), callKey(tx.OpCheck, s.ID, g)
			last := g == s.Generation
			if r.calls[doing] && (!last || s.Status != muster.StepStarting) {
				delete(r.calls, doing)
				if s.Undo.Action == "" {
					r.m.w.stop(s, fmt.Sprintf("t_%s.%s.%s.%d", t.ID, s.ID, muster.OpDo, g))
				}
			}
			if !last || s.Status != muster.StepUndoing {
				delete(r.calls, undoing)
			}
			if t.Status != muster.TxPending || s.Checked {
				delete(r.calls, checking)
			}
		}
	}
}

// stop has a node end an execution, if the word gets there.
func (w *sim) stop(s muster.TxStep, job string) {
	w.after(w.within(5*time.Second), func() {
		for _, n := range w.nodes {
			if k := n.works[job]; k != nil && "id-"+n.slug == s.NodeID && w.odds(70) {
				w.say("%s is to end %s", n.slug, job)
				k.cancelled = true
			}
		}
	})
}

// signed is how long a call may be on its way, with the leeway of clocks.
const signed = 90 * time.Second

// send makes a call. What is lost, late, twice or in another order is the
// network's; it says unreachable only of what nobody got.
func (m *master) send(o tx.Order, answer func(muster.Result)) {
	w := m.w
	n := w.nodes[int(o.NodeID[len(o.NodeID)-1]-'a')]
	heard, sent := false, w.now
	hear := func(r muster.Result) {
		m.after(w.within(50*time.Millisecond), func() {
			if !heard {
				heard = true
				answer(r)
			}
		})
	}
	deliver := func(after time.Duration, alone, answers bool) {
		w.after(after, func() {
			switch {
			case w.now.Sub(sent) > signed: // its signature is not taken any more
			case !alone && n.began.After(sent): // nor one from before the node began, unless it is signed anew
			case n.up:
				w.arrive(n, o.Execution, alone, func(r muster.Result) {
					if answers {
						hear(r)
					}
				})
			case alone:
				hear(said(muster.StateUnreachable, "refused"))
			}
		})
	}
	w.say("%s calls %s for %s", m.name, n.slug, o.Execution.Job)
	m.after(o.Limit, func() { hear(said(muster.StateUnknown, "no_answer")) })
	soon := w.within(100 * time.Millisecond)
	fate := w.rng.IntN(100)
	switch {
	case w.calm:
		deliver(soon, true, true)
	case fate < 10:
		hear(said(muster.StateUnreachable, "refused"))
	case fate < 16: // lost
	case fate < 24:
		deliver(soon, true, false)
	case fate < 32:
		deliver(soon, false, true)
		deliver(w.within(60*time.Second), false, w.odds(50))
	case fate < 42:
		deliver(w.within(120*time.Second), true, true)
	case fate < 46:
		hear(said(muster.StateUnknown, "no_answer"))
		deliver(w.within(60*time.Second), false, false)
	default:
		deliver(soon, true, true)
	}
}
