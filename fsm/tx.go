package fsm

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"muster"
)

// maxNotes is how many lines of history a transaction keeps.
const maxNotes = 200

const noteClaim = "claim"

const codeTransition = "illegal_transition"

// BeginTx is a transaction's first state, if it may begin: index is that of its
// entry, which is its epoch until another master claims it, and at the entry's time,
// from which its deadline counts. Steps must form a graph without cycles, in an
// order in which each stands behind those it needs.
func BeginTx(t muster.Tx, index uint64, at time.Time) (muster.Tx, error) {
	bad := func(field, reason string) (muster.Tx, error) { return muster.Tx{}, muster.FieldError(field, reason) }
	if len(t.Steps) == 0 || len(t.Steps) > muster.MaxTxSteps {
		return bad("steps", "there must be 1 to 64, those of all nodes counted")
	}
	if t.Policy != muster.PolicyBackward && t.Policy != muster.PolicyForward {
		return bad("policy", "must be backward or forward")
	}
	if t.DeadlineMs < 1 {
		return bad("deadline_ms", "must be 1 or more")
	}
	t.Deadline = at.Add(time.Duration(t.DeadlineMs) * time.Millisecond)
	seen := map[string]bool{}
	steps := slices.Clone(t.Steps)
	for i, s := range steps {
		field := "steps." + s.ID
		if s.ID == "" || s.NodeID == "" || s.Run.Action == "" || seen[s.ID] {
			return bad(field, "needs an ID of its own, a node and an action")
		}
		for _, need := range s.Needs {
			if !seen[need] {
				return bad(field+".needs", need+" is no step before it")
			}
		}
		seen[s.ID] = true
		s.Status, s.Outcome, s.Generation, s.Attempts, s.Tries, s.Doubt = muster.StepPending, "", 0, 0, 0, false
		steps[i] = s
	}
	t.Steps, t.Status, t.Back, t.Driver, t.Epoch, t.Error, t.Cause = steps, muster.TxPending, false, "", index, nil, nil
	t.Locks = slices.Compact(slices.Sorted(slices.Values(t.Locks)))
	t.CreatedAt, t.UpdatedAt, t.Index, t.History, t.Forgotten = at, at, index, nil, 0
	return note(t, muster.TxNote{At: at, Event: "begin", By: t.By.Principal}), nil
}

// JustBegun reports whether the last entry of a transaction is the one with which it
// began. Other commands of that entry may have come after; nobody can have made a
// call before the end of it. A claim gives an epoch, too, and leaves a line.
func JustBegun(t muster.Tx) bool {
	return t.Index == t.Epoch && t.Forgotten == 0 && !slices.ContainsFunc(t.History, func(n muster.TxNote) bool { return n.Event == noteClaim })
}

// ClaimTx makes a master the driver of a transaction: from now on only events of
// this epoch, the entry's index, are taken. With a reason it is parked, too.
func ClaimTx(t muster.Tx, driver string, park *muster.ActionError, index uint64, at time.Time) muster.Tx {
	t = own(t, 2)
	t.Epoch, t.Driver, t.Index, t.UpdatedAt = index, driver, index, at
	t = note(t, muster.TxNote{At: at, Event: noteClaim, By: "node:" + driver})
	if park != nil && t.Status.Driven() {
		t.Status, t.Error = muster.TxParked, park
		t = note(t, muster.TxNote{At: at, Event: string(muster.EventPark), Message: park.Message})
	}
	return t
}

// AdvanceTx applies a driver's events, all or none. It is a Conflict if the
// driver's epoch is over, or an event does not follow from the state. The given
// transaction is not changed.
func AdvanceTx(t muster.Tx, epoch uint64, events []muster.TxEvent, index uint64, at time.Time) (muster.Tx, error) {
	if epoch != t.Epoch {
		return t, muster.Errorf(muster.Conflict, "transaction %s is driven by epoch %d, not %d", t.ID, t.Epoch, epoch).WithCode("stale_epoch")
	}
	next := own(t, len(events)+1)
	for _, e := range events {
		if err := step(&next, e, at); err != nil {
			return t, err
		}
		message := ""
		if e.Error != nil {
			message = e.Error.Message
		}
		next = note(next, muster.TxNote{At: at, Event: string(e.Event), Step: e.Step, Message: message})
	}
	next.Index, next.UpdatedAt = index, at
	return settled(next, at), nil
}

// illegal is the refusal of an event that does not follow from the state.
func illegal(t *muster.Tx, e muster.TxEvent, why string) error {
	return muster.Errorf(muster.Conflict, "transaction %s is %s: no %s of %s: %s", t.ID, t.Status, e.Event, cmp.Or(e.Step, "all"), why).WithCode(codeTransition)
}

// step applies one event to steps that are the transaction's own.
func step(t *muster.Tx, e muster.TxEvent, at time.Time) error {
	switch e.Event {
	case muster.EventAbort:
		return abort(t, e)
	case muster.EventPark:
		if t.Status != muster.TxRunning && t.Status != muster.TxCompensating && t.Status != muster.TxPending {
			return illegal(t, e, "it is not under way")
		}
		t.Status, t.Error = muster.TxParked, e.Error
		return nil
	default:
	}
	i := slices.IndexFunc(t.Steps, func(s muster.TxStep) bool { return s.ID == e.Step })
	if i < 0 {
		return illegal(t, e, "there is no such step")
	}
	why := advance(t, &t.Steps[i], e, at)
	if why != "" {
		return illegal(t, e, why)
	}
	return nil
}

// abort turns the direction back. Once the pivot may be done there is no way
// back.
func abort(t *muster.Tx, e muster.TxEvent) error {
	if t.Status != muster.TxPending && t.Status != muster.TxRunning {
		return illegal(t, e, "it does not go forward")
	}
	if why := oneWay(*t); why != "" {
		return illegal(t, e, why)
	}
	turn(t, e.Error)
	return nil
}

// turn has a transaction go back from now on.
func turn(t *muster.Tx, why *muster.ActionError) {
	t.Status, t.Back, t.Error, t.Cause = muster.TxCompensating, true, why, why
}

// oneWay says why a transaction cannot go back, if so.
func oneWay(t muster.Tx) string {
	if t.Policy == muster.PolicyForward {
		return "its policy is forward"
	}
	for _, s := range t.Steps {
		if s.Pivot && s.Status != muster.StepPending && s.Status != muster.StepFailed {
			return "its pivot " + s.ID + " may be done"
		}
	}
	return ""
}

// OneWay reports whether there is no way back: for the policy, or the pivot.
func OneWay(t muster.Tx) bool { return oneWay(t) != "" }

// advance applies an event to a step, or says why not.
func advance(t *muster.Tx, s *muster.TxStep, e muster.TxEvent, at time.Time) (why string) {
	switch e.Event {
	case muster.EventChecked:
		if t.Status != muster.TxPending || s.Status != muster.StepPending || s.Check.Action == "" || s.Checked {
			return "no precheck of it is under way"
		}
		s.Checked = true
		return ""
	case muster.EventStart:
		return start(t, s, e, at)
	case muster.EventUndo:
		return undo(t, s, e, at)
	case muster.EventAgain:
		return again(t, s, e, at)
	default:
	}
	if e.Generation != s.Generation {
		return "it is about another call"
	}
	switch e.Event {
	case muster.EventDone, muster.EventFailed, muster.EventUnknown:
		if s.Status != muster.StepStarting || t.Status.Ended() || t.Status == muster.TxPending {
			return "it is " + string(s.Status)
		}
		if e.Event == muster.EventFailed && s.Doubt {
			return "an earlier call may have done it"
		}
		s.Status = muster.StepStatus(e.Event)
		s.Outcome, s.Error, s.EndedAt, s.NotBefore = s.Status, e.Error, at, time.Time{}
		if e.Event == muster.EventDone {
			s.Result = e.Result
		}
	case muster.EventUndone, muster.EventUndoFailed:
		if s.Status != muster.StepUndoing || t.Status != muster.TxCompensating && t.Status != muster.TxParked {
			return "it is " + string(s.Status)
		}
		s.Status = muster.StepStatus(e.Event)
		s.EndedAt, s.NotBefore = at, time.Time{}
		switch {
		case e.Event == muster.EventUndoFailed || s.Error == nil:
			s.Error = e.Error
		case s.Outcome == muster.StepDone: // it was of an earlier try to undo it
			s.Error = nil
		}
	default:
		return "there is no such event"
	}
	return ""
}

// start is the intent to do a step.
func start(t *muster.Tx, s *muster.TxStep, e muster.TxEvent, at time.Time) string {
	switch {
	case t.Status != muster.TxPending && t.Status != muster.TxRunning:
		return "it does not go forward"
	case e.Generation != s.Generation+1:
		return "it is about another call"
	case !Ready(*t, *s):
		return "its turn has not come"
	}
	t.Status = muster.TxRunning
	s.Status, s.Generation, s.Since, s.NotBefore = muster.StepStarting, e.Generation, at, time.Time{}
	s.Attempts, s.Tries, s.StartedAt = s.Attempts+1, 1, at
	return ""
}

// undo is the intent to undo a step. Of one that is starting, it may overtake the
// start: its generation is higher.
func undo(t *muster.Tx, s *muster.TxStep, e muster.TxEvent, at time.Time) string {
	switch {
	case t.Status != muster.TxCompensating:
		return "its direction is not back"
	case e.Generation != s.Generation+1:
		return "it is about another call"
	case !Due(*t, *s):
		return "its turn has not come"
	}
	if s.Status == muster.StepStarting {
		s.Outcome = muster.StepUnknown
	}
	s.Status, s.Generation, s.Since, s.NotBefore = muster.StepUndoing, e.Generation, at, time.Time{}
	s.Attempts, s.Tries = s.Attempts+1, 1
	return ""
}

// again is the intent to call once more: with the same generation, to hear what
// became of it, or with the next one, to have it done anew.
func again(t *muster.Tx, s *muster.TxStep, e muster.TxEvent, at time.Time) string {
	switch {
	case e.Generation != s.Generation && e.Generation != s.Generation+1:
		return "it is about another call"
	case s.Status == muster.StepStarting && t.Status == muster.TxRunning:
	case s.Status == muster.StepUndoing && t.Status == muster.TxCompensating:
	default:
		return "it is " + string(s.Status)
	}
	if s.Status == muster.StepStarting && e.Generation > s.Generation { // what is waited for now is another call
		s.Since = at
		if e.NotBefore.After(at) {
			s.Since = e.NotBefore
		}
	}
	s.Generation, s.NotBefore, s.Error, s.Doubt = e.Generation, e.NotBefore, e.Error, s.Doubt || e.Doubt
	s.Attempts, s.Tries = s.Attempts+1, s.Tries+1
	return ""
}

// Ready reports whether a step may start: all prechecks have passed, and what it
// needs is done.
func Ready(t muster.Tx, s muster.TxStep) bool {
	if s.Status != muster.StepPending {
		return false
	}
	for _, other := range t.Steps {
		if t.Status == muster.TxPending && other.Check.Action != "" && !other.Checked {
			return false
		}
		if slices.Contains(s.Needs, other.ID) && other.Status != muster.StepDone && other.Status != muster.StepSkipped {
			return false
		}
	}
	return true
}

// Due reports whether a step may be undone now: it has something to undo, and
// nothing that needs it is left.
func Due(t muster.Tx, s muster.TxStep) bool {
	if !s.Undoable() || s.Status == muster.StepUndoing || s.Status == muster.StepUndoFailed {
		return false
	}
	left := map[string]bool{} // what it is needed by, and is still to be undone
	for _, other := range slices.Backward(t.Steps) {
		if other.ID == s.ID {
			return !left[s.ID]
		}
		if left[other.ID] || other.Undoable() || other.Status == muster.StepStarting {
			for _, need := range other.Needs {
				left[need] = true
			}
		}
	}
	return false
}

// settled ends a transaction that has come to its end: also a parked one, if what
// was under way then was the last.
func settled(t muster.Tx, at time.Time) muster.Tx {
	switch {
	case t.Status.Ended():
		return t
	case !t.Back:
		for _, s := range t.Steps {
			if s.Status != muster.StepDone && s.Status != muster.StepSkipped {
				return t
			}
		}
		t.Error = nil
		return ended(t, muster.TxSucceeded, at)
	default:
		for _, s := range t.Steps {
			if s.Undoable() || s.Status == muster.StepStarting {
				return t
			}
		}
		t.Error = t.Cause
		return ended(t, muster.TxRolledBack, at)
	}
}

// ended ends a transaction; the steps must be its own.
func ended(t muster.Tx, status muster.TxStatus, at time.Time) muster.Tx {
	t.Status, t.EndedAt = status, at
	for i, s := range t.Steps {
		if s.Status == muster.StepPending {
			t.Steps[i].Status = muster.StepSkipped
		}
	}
	return note(t, muster.TxNote{At: at, Event: string(status)})
}

// own returns a transaction whose steps and history are its own, with room for so
// many lines: what is done to them leaves the given one as it was.
func own(t muster.Tx, lines int) muster.Tx {
	t.Steps = slices.Clone(t.Steps)
	t.History = append(make([]muster.TxNote, 0, len(t.History)+lines), t.History...)
	return t
}

// note adds a line to the history, which must be the transaction's own. The oldest
// lines go, but never the first.
func note(t muster.Tx, n muster.TxNote) muster.Tx {
	if len(n.Message) > maxMessage {
		n.Message = strings.ToValidUTF8(n.Message[:maxMessage], "") + "…"
	}
	if len(t.History) >= maxNotes {
		t.History = slices.Delete(t.History, 1, 2)
		t.Forgotten++
	}
	t.History = append(t.History, n)
	return t
}

// maxMessage is the longest message in the history, in bytes.
const maxMessage = 200

// OperateTx applies an operator's word. It is a Conflict if the transaction is
// not in a state for it, Invalid if the step is not. To cancel what goes back
// already changes nothing, not even the index.
func OperateTx(t muster.Tx, o TxOperate, by string, index uint64, at time.Time) (muster.Tx, error) {
	if turned(t, o) {
		return t, nil
	}
	next := own(t, 2)
	var err error
	switch o.Command {
	case muster.TxCancel:
		err = cancel(&next, o)
	case muster.TxTryNow:
		err = tryNow(&next, at)
	case muster.TxSkip:
		err = skip(&next, o, at)
	case muster.TxClose:
		if err = needParked(next, "close"); err == nil {
			next.Status, next.EndedAt = muster.TxClosed, at
		}
	default:
		err = muster.FieldError("command", "must be cancel, retry, skip or close")
	}
	if err != nil {
		return t, err
	}
	next.Index, next.UpdatedAt = index, at
	next = note(next, muster.TxNote{At: at, Event: string(o.Command), Step: o.Step, By: by, Message: o.Reason})
	return settled(next, at), nil
}

// turned reports whether an operator cancels what was cancelled, or turned by
// itself, before.
func turned(t muster.Tx, o TxOperate) bool {
	return o.Command == muster.TxCancel && t.Back && (t.Status == muster.TxCompensating || t.Status == muster.TxRolledBack)
}

func needParked(t muster.Tx, word string) error {
	if t.Status == muster.TxParked {
		return nil
	}
	return muster.Errorf(muster.Conflict, "transaction %s is %s; %s is for one that is parked", t.ID, t.Status, word).WithCode("not_parked")
}

// cancel turns the direction back; a transaction whose policy is forward, it
// parks.
func cancel(t *muster.Tx, o TxOperate) error {
	why := &muster.ActionError{Code: "cancelled", Message: "an operator cancelled it"}
	if o.Reason != "" {
		why.Message += ": " + o.Reason
	}
	switch {
	case t.Status == muster.TxParked:
		return muster.Errorf(muster.Conflict, "transaction %s is parked", t.ID).WithCode("parked").WithHint("retry, skip a step, or close it")
	case t.Status.Ended():
		return muster.Errorf(muster.Conflict, "transaction %s has ended: %s", t.ID, t.Status).WithCode("tx_ended")
	case t.Policy == muster.PolicyForward:
		t.Status, t.Error = muster.TxParked, why
	case OneWay(*t):
		return muster.Errorf(muster.Conflict, "transaction %s cannot be cancelled: %s", t.ID, oneWay(*t)).WithCode("past_pivot").
			WithHint("the steps that are left are tried until the deadline")
	default:
		turn(t, why)
	}
	return nil
}

// tryNow has everything tried again at once that failed or waits. The deadline
// is as far away as when it began.
func tryNow(t *muster.Tx, at time.Time) error {
	if t.Status.Ended() {
		return muster.Errorf(muster.Conflict, "transaction %s has ended: %s", t.ID, t.Status).WithCode("tx_ended")
	}
	for i := range t.Steps {
		s := &t.Steps[i]
		s.NotBefore = time.Time{}
		if t.Status != muster.TxParked {
			continue
		}
		s.Since, s.Tries = at, 0
		switch {
		case t.Back && s.Status == muster.StepUndoFailed:
			s.Status = cmp.Or(s.Outcome, muster.StepUnknown)
		case !t.Back && s.Status == muster.StepFailed:
			s.Status, s.Outcome, s.Error = muster.StepPending, "", nil
		case !t.Back && s.Status == muster.StepUnknown:
			s.Status, s.Outcome = muster.StepStarting, "" // asked once more; never done anew
		}
	}
	if t.Status == muster.TxParked {
		resume(t, at)
	}
	return nil
}

// resume has a parked transaction go on in its direction. One of which no step
// has begun starts with its prechecks, all of them: what they saw is old.
func resume(t *muster.Tx, at time.Time) {
	switch {
	case t.Back:
		t.Status = muster.TxCompensating
	case slices.ContainsFunc(t.Steps, func(s muster.TxStep) bool { return s.Status != muster.StepPending || s.Generation > 0 }):
		t.Status = muster.TxRunning
	default:
		t.Status = muster.TxPending
		for i := range t.Steps {
			t.Steps[i].Checked = false
		}
	}
	t.Error = t.Cause
	t.Deadline = at.Add(time.Duration(t.DeadlineMs) * time.Millisecond)
}

// skip counts a step as done, or as undone if the direction is back. When nothing
// else stands in the way, the transaction goes on.
func skip(t *muster.Tx, o TxOperate, at time.Time) error {
	if err := needParked(*t, "skip"); err != nil {
		return err
	}
	i := slices.IndexFunc(t.Steps, func(s muster.TxStep) bool { return s.ID == o.Step })
	if i < 0 {
		return muster.FieldError("step", "transaction "+t.ID+" has no step "+o.Step)
	}
	s := &t.Steps[i]
	if !stuck(*t, *s) {
		return muster.Errorf(muster.Conflict, "step %s is %s: there is nothing to skip", s.ID, s.Status).WithCode("not_stuck")
	}
	s.Status, s.EndedAt, s.NotBefore, s.Outcome = muster.StepSkipped, at, time.Time{}, muster.StepDone
	if t.Back {
		s.Outcome = muster.StepUndone
	}
	for _, other := range t.Steps {
		if stuck(*t, other) {
			return nil
		}
	}
	resume(t, at)
	return nil
}

// stuck reports whether a parked transaction waits for an operator's word on a
// step.
func stuck(t muster.Tx, s muster.TxStep) bool {
	if t.Back {
		return s.Status == muster.StepUndoFailed || s.Status == muster.StepUndoing
	}
	return s.Status == muster.StepFailed || s.Status == muster.StepUnknown || s.Status == muster.StepStarting
}
