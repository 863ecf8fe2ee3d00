package actions

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"muster"
)

// Steps is a journal that knows which executions belong to a step of a
// transaction.
type Steps interface {
	// ID names the journal: a node that lost its journal has another one.
	ID() string

	// Step returns the executions of a step, in the order in which they began.
	Step(tx, step string) ([]muster.JournalEntry, error)
}

// step does what an execution is to a step of a transaction: it does it, or takes
// it back. Whatever comes of it is in the journal before it is told, refusals
// too, so that the same call again never gets another answer; only what is late,
// or cannot be written down, is refused without a trace.
func (e *Executor) step(ctx context.Context, by muster.Rights, x muster.Execution, began time.Time) muster.Result {
	if e.cfg.Journal == nil || e.cfg.Steps == nil || e.cfg.Steps.ID() != x.Tx.Journal {
		return resultOf(refused(muster.Errorf(muster.Conflict, "the journal that step %s began with is not here any more", x.Tx.Step).
			WithCode(muster.CodeJournalLost)), nil, began)
	}
	mine := e.entry(by, &action{Definition: Definition{Action: x.Action}}, x)
	op := *x.Tx
	op.Result, op.Given = nil, nil // they can be long, and are for the call alone
	mine.Tx = &op
	if known, err := e.cfg.Journal.Recall(ctx, mine); known != nil || err != nil {
		return settled(known, err, began)
	}
	var missing error
	if x.Tx.Op == muster.OpUndo {
		done, seen, err := e.undoing(ctx, x)
		if err != nil {
			return repeated(nil, err, began)
		}
		mine.Seen = seen
		x.Params, missing = withResult(x.Params, done, x.Tx.Given)
	}
	a, c, err := e.admit(by, x)
	if missing != nil {
		err = missing
	}
	if err != nil {
		return e.decline(ctx, mine, err, began)
	}
	mine.Version, mine.Digest = a.Version, a.digest
	c.tx = x.Tx
	leave, err := e.turn(ctx, a, c)
	if err != nil {
		return e.decline(ctx, mine, err, began)
	}
	defer leave()
	if known, err := e.cfg.Journal.Begin(ctx, mine); known != nil || err != nil {
		return settled(known, err, began)
	}
	r := e.cfg.Journal.End(mine.Key, resultOf(e.perform(ctx, a, c), c.hide, began))
	return settled(&r, nil, began)
}

// settled is what became of a call of a step, which does not change any more if it
// is known.
func settled(known *muster.Result, err error, began time.Time) muster.Result {
	r := repeated(known, err, began)
	r.Settled = known != nil
	return r
}

// decline writes down that a call of a step is not begun, unless the journal
// knows that there was nothing to do.
func (e *Executor) decline(ctx context.Context, mine muster.JournalEntry, why error, began time.Time) muster.Result {
	mine.Unready = why
	if known, err := e.cfg.Journal.Begin(context.WithoutCancel(ctx), mine); known != nil || err != nil {
		return settled(known, err, began)
	}
	r := e.cfg.Journal.End(mine.Key, resultOf(refused(why), nil, began))
	return settled(&r, nil, began)
}

// undoing ends what still does the step, waits for that, and returns what doing
// it gave: as the journal has it, or else as the driver knows it. seen is how many
// executions did it, or tried.
func (e *Executor) undoing(ctx context.Context, x muster.Execution) (done json.RawMessage, seen int, err error) {
	known, err := e.cfg.Steps.Step(x.Tx.Tx, x.Tx.Step)
	if err != nil {
		return nil, 0, err
	}
	done = x.Tx.Result
	for _, did := range known {
		if did.Tx.Op != muster.OpDo {
			continue
		}
		seen++
		outcome := &did.Result
		if did.Ended.IsZero() {
			e.running.cancel(callName(did.Action, did.Job))
			if outcome, err = e.cfg.Journal.Recall(ctx, did); err != nil {
				return nil, 0, err
			}
		}
		if outcome != nil && outcome.Success && outcome.Result != nil {
			done = outcome.Result
		}
	}
	return done, seen, nil
}

// withResult fills ${result.x}, and what is given, into the parameters of an undo.
// missing says that something cannot be filled in, which matters only if there is
// something to undo.
func withResult(with muster.Params, done json.RawMessage, given muster.Params) (full muster.Params, missing error) {
	full = make(muster.Params, len(with))
	for name, value := range with {
		filled, err := muster.Fill(value, func(ref string) (json.RawMessage, error) {
			if raw, ok := given[ref]; ok {
				return raw, nil
			}
			field, ok := strings.CutPrefix(ref, "result.")
			if !ok {
				return nil, errors.New("nobody said what ${" + ref + "} stands for")
			}
			return muster.FieldOf(done, field)
		})
		if err != nil {
			filled = value
			missing = muster.Errorf(muster.Invalid, "%s: its undo needs what doing the step gave: %w", name, err).WithCode("no_result")
		}
		full[name] = filled
	}
	return full, missing
}

// txEnv tells a program which call of which transaction it serves. MUSTER_JOB is
// of this call alone: an application can keep it beside what it changed.
func txEnv(op *muster.TxOp) []string {
	words := opWords(op)
	env := make([]string, 0, len(words))
	for name, value := range words {
		env = append(env, "MUSTER_"+strings.ToUpper(name)+"="+value)
	}
	return env
}

// opWords are what names a call of a transaction, for programs and applications.
func opWords(op *muster.TxOp) map[string]string {
	if op == nil {
		return nil
	}
	return map[string]string{
		"Tx": op.Tx, "Step": op.Step, "Op": op.Op, "Generation": strconv.Itoa(op.Generation), "Epoch": strconv.FormatUint(op.Epoch, 10),
	}
}

// Pick returns the nodes that a selector names, in its order, those that would be
// skipped too. Errors are those of Run.
func (r *Runner) Pick(on muster.Selector, by muster.Rights) ([]muster.Node, error) {
	targets, err := pick(on, r.nodes.Nodes(), by)
	nodes := make([]muster.Node, len(targets))
	for i, t := range targets {
		nodes[i] = t.node
	}
	return nodes, err
}

// At has one node execute something, this one too. Its result is the node's own,
// or says that nothing was done by this call (unreachable), or that nobody knows
// (unknown). The end of ctx ends the wait, not the work.
func (r *Runner) At(ctx context.Context, nodeID string, by muster.Rights, x muster.Execution) muster.Result {
	n, ok := r.nodeWith(nodeID)
	if !ok {
		return muster.Result{State: muster.StateUnreachable, Error: &muster.ActionError{Code: "node_gone", Message: "its node is no longer there"}}
	}
	if nodeID == r.cfg.Self {
		return r.here(ctx, by, x)
	}
	result, err := r.remote.Execute(ctx, n, by, x)
	if err == nil {
		return honest(result)
	}
	result = unanswered(err)
	if result.State != muster.StateUnknown {
		result.State = muster.StateUnreachable // refused on the way: the executor never had it
	}
	return result
}

// here executes something on this node, which goes on when ctx ends.
func (r *Runner) here(ctx context.Context, by muster.Rights, x muster.Execution) muster.Result {
	call, end, err := r.running.begin(context.WithoutCancel(ctx), "")
	if err != nil {
		return muster.Result{State: muster.StateUnreachable, Error: &muster.ActionError{Code: "stopping", Message: err.Error()}}
	}
	done := make(chan muster.Result, 1)
	go func() {
		defer end()
		done <- r.local.Execute(call, by, x)
	}()
	select {
	case result := <-done:
		return result
	case <-ctx.Done():
		return noAnswer(ctx)
	}
}

// EndAt has one node end what it executes of a job.
func (r *Runner) EndAt(ctx context.Context, nodeID string, by muster.Rights, action, job string) error {
	n, ok := r.nodeWith(nodeID)
	switch {
	case !ok:
		return nil // nobody runs it any more
	case nodeID == r.cfg.Self:
		return r.local.Cancel(by, action, job)
	default:
		return r.remote.Cancel(ctx, n, by, action, job)
	}
}
