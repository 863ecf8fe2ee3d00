package tx_test

import (
	"context"
	"slices"
	"time"

	"muster"
	"muster/actions/tx"
)

// work is one execution of a step at a node: what actions.Executor does, moment
// by moment, so that anything can happen between.
type work struct {
	w         *sim
	n         *simNode
	life      int
	x         muster.Execution
	tell      func(muster.Result)
	cancelled bool
	entry     muster.JournalEntry
}

// deed is what became of a step in the world.
type deed struct {
	step  muster.TxStep
	begun int            // times that doing it was begun
	did   int            // times that it took effect
	undid int            // times that it was taken back
	times map[string]int // effects by job
	stand bool           // it took effect, and was not taken back since
	over  bool           // its compensation is over: nothing may come any more
}

// passed is a context that has ended: a journal asked with it does not wait.
var passed = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

func said(s muster.State, code string) muster.Result {
	r := muster.Result{State: s, Success: s == muster.StateOK || s == muster.StateNoop}
	if code != "" {
		r.Error = &muster.ActionError{Code: code, Message: code}
	}
	return r
}

// arrive begins what a call asks for. Only one that is alone may find a journal
// that fails: the same call again would be refused for its jti.
func (w *sim) arrive(n *simNode, x muster.Execution, alone bool, tell func(muster.Result)) {
	k := &work{w: w, n: n, life: n.life, x: x, tell: func(r muster.Result) {
		w.say("%s answers %s: %s %v", n.slug, x.Job, r.State, code(r))
		tell(r)
	}}
	w.say("%s gets %s", n.slug, x.Job)
	switch {
	case x.Tx == nil:
		k.tell(said([]muster.State{muster.StateOK, muster.StateOK, muster.StateOK, muster.StateFailed}[w.rng.IntN(4)], ""))
	case n.journal.ID() != x.Tx.Journal && w.without != noName:
		k.tell(said(muster.StateFailed, muster.CodeJournalLost))
	case alone && !w.calm && w.odds(2):
		k.tell(said(muster.StateFailed, muster.CodeJournal))
	default:
		k.entry = muster.JournalEntry{Key: x.Job, Job: x.Job, Action: x.Action, Caller: "operator", Started: w.now.UTC(), Tx: x.Tx}
		k.recall()
	}
}

func code(r muster.Result) string {
	if r.Error == nil {
		return ""
	}
	return r.Error.Code
}

// later goes on after a while, if the process still lives then.
func (k *work) later(d time.Duration, do func()) {
	k.w.after(d, func() {
		if k.n.up && k.n.life == k.life {
			do()
		}
	})
}

// known answers from the journal, or reports that the call is new. While another
// one executes the same, it waits.
func (k *work) known(r *muster.Result, err error, again func()) bool {
	switch {
	case r != nil && k.w.without == noDedupe && k.x.Tx.Op == muster.OpDo:
		k.later(k.w.within(time.Second), k.effect)
	case r != nil:
		d := k.w.deed(k.x)
		d.over = d.over || k.x.Tx.Op == muster.OpUndo && r.State == muster.StateNoop
		k.tell(*r)
	case err == nil:
		return false
	case muster.CodeOf(err) == muster.CodeSuperseded && k.w.without == noBarrier && k.x.Tx.Op == muster.OpDo:
		k.later(k.w.within(time.Second), k.effect)
	case muster.KindOf(err) == muster.Internal: // the end of the wait
		if k.w.without == noDedupe {
			k.later(k.w.within(time.Second), k.effect)
			break
		}
		k.later(100*time.Millisecond, again)
	default:
		k.tell(said(muster.StateFailed, muster.CodeOf(err)))
	}
	return true
}

func (k *work) recall() {
	r, err := k.w.book(k.n).Recall(passed, k.entry)
	if k.known(r, err, k.recall) {
		return
	}
	if k.x.Tx.Op == muster.OpUndo {
		k.stop()
		return
	}
	k.later(k.w.within(2*time.Second), k.begin)
}

// stop ends what still does the step that is to be undone, and waits for it.
func (k *work) stop() {
	known, err := k.w.book(k.n).Step(k.x.Tx.Tx, k.x.Tx.Step)
	if err != nil {
		k.tell(said(muster.StateFailed, muster.CodeOf(err)))
		return
	}
	k.entry.Seen = 0
	for _, did := range known {
		if did.Tx.Op != muster.OpDo {
			continue
		}
		k.entry.Seen++
		if did.Ended.IsZero() {
			if other := k.n.works[did.Job]; other != nil {
				other.cancelled = true
				k.later(100*time.Millisecond, k.stop)
				return
			}
		}
	}
	k.later(k.w.within(2*time.Second), k.begin)
}

// begin writes down that it starts.
func (k *work) begin() {
	switch {
	case !k.w.calm && k.w.odds(3):
		k.entry.Unready = muster.Errorf(muster.Forbidden, "not any more")
	case !k.w.calm && k.w.odds(2), k.cancelled, k.w.now.Sub(k.entry.Started) > 30*time.Second: // nobody waits for it any more
		k.entry.Unready = muster.Errorf(muster.Limited, "too late")
	}
	r, err := k.w.book(k.n).Begin(passed, k.entry)
	if k.known(r, err, k.begin) {
		return
	}
	k.w.deed(k.x).begun += btoi(k.x.Tx.Op == muster.OpDo)
	k.n.works[k.x.Job] = k
	k.later(k.w.within(6*time.Second), k.effect)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (w *sim) deed(x muster.Execution) *deed { return w.steps[x.Tx.Tx+" "+x.Tx.Step] }

// effect is when the action changes the world, or does not.
func (k *work) effect() {
	w := k.w
	r := said(muster.StateOK, "")
	acts := true
	switch {
	case k.cancelled:
		r, acts = said(muster.StateCancelled, "cancelled"), w.odds(50)
	case w.calm:
	case w.odds(8):
		r, acts = said(muster.StateFailed, "exit"), k.x.Action == "sim.part" && w.odds(50)
	case w.odds(5):
		r, acts = said(muster.StateTimeout, "timeout"), w.odds(50)
	case w.odds(2):
		r, acts = said(muster.StateFailed, "signal"), w.odds(50)
	}
	if acts {
		w.act(k.x)
	}
	k.later(w.within(time.Second), func() {
		if k.n.works[k.x.Job] != k { // without dedupe or barrier: it is in no journal
			k.tell(r)
			return
		}
		if k.cancelled && r.State == muster.StateOK && w.odds(50) {
			r = said(muster.StateCancelled, "cancelled")
		}
		delete(k.n.works, k.x.Job)
		k.tell(k.w.book(k.n).End(k.x.Job, r))
	})
}

// act changes the world, and looks whether it may.
func (w *sim) act(x muster.Execution) {
	d := w.deed(x)
	t, _ := w.tx(x.Tx.Tx)
	p := w.played(x.Tx.Tx)
	w.say("EFFECT of %s", x.Job)
	w.count[x.Tx.Op]++
	d.times[x.Job]++
	if d.times[x.Job] > 1 {
		w.wrong("%s took effect twice", x.Job)
	}
	if t.Status.Ended() && !p.closed && !p.skipped[x.Tx.Step] && !d.mayStand(t) {
		w.wrong("%s took effect when its transaction was %s", x.Job, t.Status)
	}
	if x.Tx.Op == muster.OpDo {
		d.did++
		d.stand = true
		if d.over {
			w.wrong("%s took effect after its compensation", x.Job)
		}
		if d.did > 1 && !d.step.Run.Idempotent && !d.step.OnFailed {
			w.wrong("%s is not idempotent, and took effect %d times", x.Job, d.did)
		}
		for _, need := range d.step.Needs {
			bare := t.Back && (d.step.Undo.Action == "" || p.skipped[x.Tx.Step]) // late, and nothing takes it back: it is said to be left
			if !bare && !w.steps[x.Tx.Tx+" "+need].stand && !p.skipped[need] {
				w.wrong("%s took effect before %s, which it needs", x.Job, need)
			}
		}
		return
	}
	d.undid++
	d.stand, d.over = false, true
	if d.begun == 0 {
		w.wrong("%s undid what was never begun", x.Job)
	}
	if d.undid > 1 && !d.step.Undo.Idempotent && !p.retried {
		w.wrong("%s is not idempotent, and took effect %d times", x.Job, d.undid)
	}
	for _, s := range t.Steps {
		other := w.steps[x.Tx.Tx+" "+s.ID]
		if slices.Contains(s.Needs, x.Tx.Step) && other.stand && s.Undo.Action != "" && !p.skipped[s.ID] {
			w.wrong("%s undid what %s needs, which stands", x.Job, s.ID)
		}
	}
}

// mayStand reports whether a transaction that was rolled back says that this may
// be left.
func (d *deed) mayStand(t muster.Tx) bool {
	return t.Status == muster.TxRolledBack && slices.Contains(t.Answer().NotCompensated, d.step.ID)
}

func (w *sim) played(id string) *played {
	for _, p := range w.txs {
		if p.id == id {
			return p
		}
	}
	return nil
}

// judge looks at what is left when nothing happens any more.
func (w *sim) judge() {
	held := map[string]string{}
	for _, p := range w.txs {
		t, ok := w.tx(p.id)
		if !ok {
			if p.begun {
				w.wrong("%s is gone", p.id)
			}
			continue
		}
		w.count[string(t.Status)]++
		switch t.Status {
		case muster.TxSucceeded, muster.TxRolledBack, muster.TxClosed:
		case muster.TxParked:
			for _, lock := range t.Locks {
				held[lock] = p.id
			}
		default:
			w.wrong("%s is %s for ever", p.id, t.Status)
		}
		a := t.Answer()
		for _, s := range t.Steps {
			w.judgeStep(p, t, a, s)
		}
	}
	for _, lock := range []string{"x", "y"} {
		w.judgeLock(lock, held[lock])
	}
}

func (w *sim) judgeStep(p *played, t muster.Tx, a muster.TxAnswer, s muster.TxStep) {
	d := w.steps[p.id+" "+s.ID]
	onSheet := false
	for _, todo := range a.Sheet {
		onSheet = onSheet || todo.Step == s.ID
	}
	switch {
	case p.skipped[s.ID]:
	case t.Status == muster.TxSucceeded && !d.stand:
		w.wrong("%s succeeded, but %s does not stand", p.id, s.ID)
	case t.Status == muster.TxRolledBack && d.stand && !slices.Contains(a.NotCompensated, s.ID):
		w.wrong("%s was rolled back, but %s stands", p.id, s.ID)
	case t.Status == muster.TxParked && t.Back && d.stand && !onSheet && !slices.Contains(a.NotCompensated, s.ID):
		w.wrong("%s is parked going back, %s stands and is not on the sheet", p.id, s.ID)
	case t.Status == muster.TxParked && !t.Back && d.stand && !onSheet && s.Status != muster.StepDone:
		w.wrong("%s is parked going forward, %s stands, is %s, and is not on the sheet", p.id, s.ID, s.Status)
	case t.Status == muster.TxParked && s.Status == muster.StepDone && !d.stand:
		w.wrong("%s is parked, %s is done, but does not stand", p.id, s.ID)
	case s.Status == muster.StepUndone && d.stand:
		w.wrong("%s: %s is undone, but stands", p.id, s.ID)
	}
	if t.Status == muster.TxParked && len(a.Sheet) == 0 && len(a.NotCompensated) == 0 {
		w.wrong("%s is parked, and its sheet is empty", p.id)
	}
}

// judgeLock has a transaction take a lock that must be free, or held.
func (w *sim) judgeLock(lock, holder string) {
	if w.lax != nil || !w.odds(20) {
		return
	}
	probe := tx.Plan{ID: "probe-" + lock, Locks: []string{lock}, Steps: []tx.Step{step("s", "a", runs("sim.do"))}}
	probe.Steps[0].Undo.Run = "sim.undo"
	t, err := tx.Resolve(probe, w.skills(), operator())
	if err == nil {
		err = w.write("tx.begin", "", map[string]any{"tx": t})
	}
	if locked := muster.CodeOf(err) == "locked"; locked != (holder != "") || err != nil && !locked {
		w.wrong("the lock %s, which %q should hold: %v", lock, holder, err)
	}
}
