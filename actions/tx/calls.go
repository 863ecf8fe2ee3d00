package tx

import (
	"fmt"
	"time"

	"muster"
	"muster/fsm"
)

// Order is a call that is to be under way: it may be made only after the intent
// is in the log.
type Order struct {
	Step       string
	Op         string
	Generation int
	NodeID     string
	Limit      time.Duration // how long it is waited for
	Execution  muster.Execution
}

// answerSlack is how much longer than the execution itself a call may take.
const answerSlack = 5 * time.Second

// Untried returns the steps that were started in the entry with which a transaction
// began, if nothing came after it: nobody can have made their calls yet, where this
// is looked at for the first time in a reign, of what is that reign's own to drive.
// What another reign may have called for, be it the same node's, was claimed since.
func Untried(t muster.Tx) (steps []muster.TxStep) {
	if !fsm.JustBegun(t) {
		return nil
	}
	for _, s := range t.Steps {
		if s.Status == muster.StepStarting {
			steps = append(steps, s)
		}
	}
	return steps
}

// Calls returns whom a transaction that is in the log like this has called now.
// wake is when that changes by itself: a pause or the deadline ends; zero: never.
func Calls(t muster.Tx, now time.Time) (orders []Order, wake time.Time) {
	soon := func(at time.Time) {
		if at.After(now) && (wake.IsZero() || at.Before(wake)) {
			wake = at
		}
	}
	if t.Status == muster.TxPending || t.Status == muster.TxRunning {
		soon(t.Deadline)
	}
	for _, s := range t.Steps {
		order, ok := call(t, s)
		if !ok || order.Op != OpCheck && s.Outcome != muster.StepDone && forgotten(s, now) {
			continue
		}
		if now.Before(s.NotBefore) {
			soon(s.NotBefore)
			continue
		}
		orders = append(orders, order)
	}
	return orders, wake
}

// call is the call that a step's state asks for.
func call(t muster.Tx, s muster.TxStep) (Order, bool) {
	o := Order{Step: s.ID, NodeID: s.NodeID, Generation: s.Generation}
	var a muster.TxAction
	switch {
	case t.Status == muster.TxPending && s.Check.Action != "" && !s.Checked:
		o.Op, a = OpCheck, s.Check
	case t.Status == muster.TxRunning && s.Status == muster.StepStarting:
		o.Op, a = muster.OpDo, s.Run
	case t.Status == muster.TxCompensating && s.Status == muster.StepUndoing:
		o.Op, a = muster.OpUndo, s.Undo
	default:
		return o, false
	}
	with, err := filled(t, a.With)
	if err != nil {
		return o, false // Decide has looked at it before
	}
	o.Limit = limit(a) + answerSlack
	o.Execution = muster.Execution{Action: a.Action, Params: with.full, Job: fmt.Sprintf("t_%s.%s.%s.%d", t.ID, s.ID, o.Op, s.Generation), StartWithinMs: settleFor.Milliseconds()}
	if o.Op == OpCheck {
		return o, true
	}
	o.Execution.Tx = &muster.TxOp{Tx: t.ID, Step: s.ID, Op: o.Op, Generation: s.Generation, Epoch: t.Epoch, Journal: s.Journal}
	if o.Op == muster.OpUndo {
		o.Limit += limit(s.Run) // what it undoes may have to end first
		o.Execution.Params, o.Execution.Tx.Given = a.With, with.given
		o.Execution.Tx.Done, o.Execution.Tx.Result, o.Execution.Tx.OnFailed = s.Outcome == muster.StepDone, s.Result, s.OnFailed
	}
	return o, true
}
