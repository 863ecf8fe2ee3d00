package tx

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"muster"
	"muster/fsm"
)

// OpCheck is the operation of a precheck's call; those of others are
// muster.OpDo and muster.OpUndo.
const OpCheck = "check"

// Answer is what came of a call. First says that no other call of its generation
// was made by anybody: so one that was never sent has done nothing.
type Answer struct {
	Step       string
	Op         string
	Generation int
	First      bool
	Result     muster.Result
}

// Rules bound what a driver does.
type Rules struct {
	Parallel int            // steps under way at once
	Draw     func() float64 // from 0 up to 1, for jitter

	Denied *muster.ActionError    // why no step may be begun any more, or anew; nil: they may
	Gone   func(node string) bool // whether a node, by ID, is no longer in the registry; nil: all are
}

// How often and how long is tried, where neither the plan nor a definition says.
const (
	callTries    = 3                     // of a node that cannot be reached
	leastPause   = 50 * time.Millisecond // each try is an entry of the log
	callFirst    = 250 * time.Millisecond
	callMost     = 5 * time.Second
	undoTries    = 10
	undoFor      = 30 * time.Minute
	undoFirst    = time.Second
	undoMost     = time.Minute
	settleFor    = 30 * time.Second // longer than an execution may take, until its outcome is given up
	codeNoResult = "no_result"
	codeNodeGone = "node_gone"
)

// Decide returns what is to be written down next, given what came of calls: first
// results, then what follows from them, up to the intents of the next calls. It
// changes nothing; fsm.AdvanceTx takes all of it. When it is in the log, Calls
// says whom to call.
func Decide(t muster.Tx, answers []Answer, now time.Time, rules Rules) []muster.TxEvent {
	d := decider{t: t, now: now, rules: rules}
	for _, a := range answers {
		d.hear(a)
	}
	for before := -1; before < len(d.events); {
		before = len(d.events)
		switch d.t.Status {
		case muster.TxPending, muster.TxRunning:
			d.forward()
		case muster.TxCompensating:
			d.back()
		default: // it waits for nobody, or for an operator
		}
	}
	return d.events
}

// decider is a transaction as it will be when the events are in the log.
type decider struct {
	t      muster.Tx
	now    time.Time
	rules  Rules
	events []muster.TxEvent
}

// say adds an event if it follows from the state; an answer may be older.
func (d *decider) say(e muster.TxEvent) bool {
	next, err := fsm.AdvanceTx(d.t, d.t.Epoch, []muster.TxEvent{e}, d.t.Index, d.now)
	if err != nil {
		return false
	}
	d.t = next
	d.events = append(d.events, e)
	return true
}

func (d *decider) find(id string) (muster.TxStep, bool) {
	i := slices.IndexFunc(d.t.Steps, func(s muster.TxStep) bool { return s.ID == id })
	if i < 0 {
		return muster.TxStep{}, false
	}
	return d.t.Steps[i], true
}

// hear makes events of an answer.
func (d *decider) hear(a Answer) {
	s, ok := d.find(a.Step)
	if !ok {
		return
	}
	switch {
	case a.Op == OpCheck:
		d.checked(s, a.Result)
	case a.Generation != s.Generation:
	case a.Op == muster.OpDo && s.Status == muster.StepStarting:
		d.did(s, a)
	case a.Op == muster.OpUndo && s.Status == muster.StepUndoing:
		d.undid(s, a)
	}
}

func (d *decider) checked(s muster.TxStep, r muster.Result) {
	if r.Success {
		d.say(muster.TxEvent{Event: muster.EventChecked, Step: s.ID})
		return
	}
	why := fault(r)
	why.Code, why.Message = "precheck", fmt.Sprintf("the precheck of %s: %s", s.ID, why.Message)
	e := muster.TxEvent{Event: muster.EventAbort, Error: why}
	if fsm.OneWay(d.t) {
		e.Event = muster.EventPark
	}
	d.say(e)
}

// did makes events of what came of doing a step.
func (d *decider) did(s muster.TxStep, a Answer) {
	r := a.Result
	e := muster.TxEvent{Step: s.ID, Generation: s.Generation, Error: fault(r)}
	anew := muster.TxEvent{Event: muster.EventAgain, Step: s.ID, Generation: s.Generation + 1, Error: e.Error, NotBefore: d.later(s)}
	failed := muster.EventFailed
	if s.Doubt { // of the call before it nobody knows, and this one does not tell
		failed = muster.EventUnknown
	}
	untilDeadline := (s.Retriable || d.t.Policy == muster.PolicyForward) && d.now.Before(d.t.Deadline)
	may := d.rules.Denied == nil // do it anew
	gone := d.gone(s)
	switch verdict(r, a.First) {
	case good:
		e.Event, e.Result, e.Error = muster.EventDone, r.Result, nil
		if len(r.Result) > muster.MaxTxResult {
			e.Result, e.Error = nil, &muster.ActionError{Code: "result_cut", Message: fmt.Sprintf("its result of %d bytes is not kept", len(r.Result))}
		}
	case notSent:
		e.Event = failed
		if may && !gone && (untilDeadline || d.again(s, "unavailable", callTries)) {
			e = anew
		}
	case bad:
		e.Event = failed
		if may && untilDeadline {
			e = anew
		}
	case busy: // it has done nothing, and will when it has done with others
		e.Event = failed
		if untilDeadline || d.now.Before(s.StartedAt.Add(settleFor)) {
			e = anew
		}
	case silent: // ask again with the same generation: it is done once at most
		e.Event = muster.EventUnknown
		if !gone && (untilDeadline || d.now.Before(s.Since.Add(limit(s.Run)+settleFor))) {
			anew.Generation = s.Generation
			e = anew
		}
	case open:
		e.Event = muster.EventUnknown
		if may && s.Run.Idempotent && (untilDeadline || s.Run.Retry != nil && d.again(s, "timeout", 0)) {
			e = anew
			e.Doubt = true
		}
	}
	d.say(e)
}

// undid makes events of what came of undoing a step.
func (d *decider) undid(s muster.TxStep, a Answer) {
	r := a.Result
	e := muster.TxEvent{Event: muster.EventUndoFailed, Step: s.ID, Generation: s.Generation, Error: fault(r)}
	again := muster.TxEvent{Event: muster.EventAgain, Step: s.ID, Generation: s.Generation, Error: e.Error, NotBefore: d.later(s)}
	inTime := d.now.Before(s.Since.Add(undoFor))
	most := undoTries
	if s.Undo.Retry != nil {
		most = s.Undo.Retry.Attempts
	}
	switch v := verdict(r, false); {
	case v == good:
		e.Event, e.Error = muster.EventUndone, nil
	case final(r):
	case v == notSent, v == silent:
		if inTime {
			e = again
		}
	case s.Tries >= most || !inTime:
	case v == bad, v == busy, s.Undo.Idempotent:
		again.Generation++
		e = again
	}
	d.say(e)
}

// The verdicts over a result.
type judgement int

const (
	good    judgement = iota
	bad               // it was not done
	busy              // neither, but only because there was no place for it
	notSent           // nobody was asked
	silent            // nobody knows, the node may
	open              // the node does not know
)

func verdict(r muster.Result, first bool) judgement {
	switch r.State {
	case muster.StateOK, muster.StateNoop:
		return good
	case muster.StateUnreachable, muster.StateSkipped:
		if first {
			return notSent
		}
		return silent
	case muster.StateFailed, muster.StateDenied, muster.StateInvalid:
		switch {
		case code(r) == muster.CodeJournal && !first, code(r) == muster.CodeStillRunning: // it may have begun before
			return silent
		case !r.Nothing(),
			code(r) == muster.CodeJournalLost && !first, // what it did went with its journal
			code(r) == muster.CodeSuperseded:            // it knows a later call, of which the registry knows nothing
			return open
		case code(r) == muster.CodeQueueFull:
			return busy
		}
		return bad
	case muster.StateTimeout, muster.StateInterrupted, muster.StateCancelled:
		return open
	default:
		if r.Settled {
			return open
		}
		return silent
	}
}

// final reports whether no repetition of an undo can do better.
func final(r muster.Result) bool {
	switch code(r) {
	case muster.CodeJournalLost, muster.CodeNotRemembered, codeNoResult, muster.CodeSuperseded:
		return true
	default:
		return false
	}
}

func code(r muster.Result) string {
	if r.Error == nil {
		return ""
	}
	return r.Error.Code
}

// fault is why a result is not a success, without what it printed: it goes into
// the log.
func fault(r muster.Result) *muster.ActionError {
	f := muster.ActionError{Code: string(r.State), Message: string(r.State)}
	if r.Error != nil {
		f = *r.Error
	}
	f.Message, f.Output = cut(f.Message, maxFault), cut(f.Output, maxFault)
	return &f
}

// maxFault is the longest message, and output, of a fault in the log, in bytes.
const maxFault = 512

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// again reports whether an action's definition, or the default if it says
// nothing, has a step tried once more for a reason.
func (d *decider) again(s muster.TxStep, why string, byDefault int) bool {
	if s.Run.Retry == nil {
		return s.Tries < byDefault
	}
	return s.Tries < s.Run.Retry.Attempts && (len(s.Run.Retry.On) == 0 || slices.Contains(s.Run.Retry.On, why))
}

// later is when a step is tried again: after a pause that doubles from try to
// try.
func (d *decider) later(s muster.TxStep) time.Time {
	first, most, retry := callFirst, callMost, s.Run.Retry
	if s.Retriable || d.t.Policy == muster.PolicyForward {
		most = undoMost
	}
	if s.Status == muster.StepUndoing {
		first, most, retry = undoFirst, undoMost, s.Undo.Retry
	}
	jitter := true
	if retry != nil {
		jitter = retry.Jitter
		if retry.FirstMs > 0 {
			first = time.Duration(retry.FirstMs) * time.Millisecond
		}
		if retry.MaxMs > 0 {
			most = time.Duration(retry.MaxMs) * time.Millisecond
		}
	}
	pause := max(first, leastPause)
	for range min(max(s.Tries-1, 0), 30) {
		pause = min(2*pause, max(first, most, leastPause))
	}
	if jitter && d.rules.Draw != nil {
		pause = pause/2 + time.Duration(float64(pause/2)*d.rules.Draw())
	}
	return d.now.Add(pause).UTC()
}

func limit(a muster.TxAction) time.Duration { return time.Duration(a.LimitMs) * time.Millisecond }

// forward starts what can start, or turns.
func (d *decider) forward() {
	underway := 0
	for _, s := range d.t.Steps {
		if s.Status == muster.StepStarting && forgotten(s, d.now) {
			d.say(muster.TxEvent{Event: muster.EventUnknown, Step: s.ID, Generation: s.Generation, Error: notRemembered()})
		}
	}
	for _, s := range d.t.Steps {
		switch s.Status {
		case muster.StepFailed, muster.StepUnknown:
			d.turn(&muster.ActionError{Code: "step_" + string(s.Status), Message: fmt.Sprintf("step %s %s: %s", s.ID, became(s.Status), message(s.Error))})
			return
		case muster.StepStarting:
			underway++
		default:
		}
	}
	if !d.now.Before(d.t.Deadline) {
		d.turn(&muster.ActionError{Code: "deadline", Message: "its deadline has passed"})
		return
	}
	for _, s := range d.t.Steps {
		if underway >= max(1, d.rules.Parallel) {
			return
		}
		if d.rules.Denied != nil && fsm.Ready(d.t, s) {
			d.turn(d.rules.Denied)
			return
		}
		if fsm.Ready(d.t, s) && d.say(muster.TxEvent{Event: muster.EventStart, Step: s.ID, Generation: s.Generation + 1}) {
			underway++
			if _, err := filled(d.t, s.Run.With); err != nil {
				d.say(muster.TxEvent{Event: muster.EventFailed, Step: s.ID, Generation: s.Generation + 1, Error: noResult(err)})
			}
		}
	}
}

func became(s muster.StepStatus) string {
	if s == muster.StepUnknown {
		return "may have been done"
	}
	return "failed"
}

func message(e *muster.ActionError) string {
	switch {
	case e == nil:
		return "no reason is known"
	case e.Output != "":
		return e.Message + ": " + strings.Join(strings.Fields(e.Output), " ")
	default:
		return e.Message
	}
}

func noResult(err error) *muster.ActionError {
	return &muster.ActionError{Code: codeNoResult, Message: err.Error()}
}

// turn has the transaction go back, or, where there is no way back, parks it when
// nothing is under way any more.
func (d *decider) turn(why *muster.ActionError) {
	if !fsm.OneWay(d.t) {
		d.say(muster.TxEvent{Event: muster.EventAbort, Error: why})
		return
	}
	for _, s := range d.t.Steps {
		if s.Status == muster.StepStarting {
			return
		}
	}
	d.say(muster.TxEvent{Event: muster.EventPark, Error: why})
}

// back undoes what can be undone, the last first, or parks the transaction when
// nothing more can.
func (d *decider) back() {
	underway := 0
	for _, s := range d.t.Steps {
		if s.Status == muster.StepUndoing {
			if why := d.hopeless(s); why != nil {
				d.say(muster.TxEvent{Event: muster.EventUndoFailed, Step: s.ID, Generation: s.Generation, Error: why})
				continue
			}
			underway++
		}
		if s.Status == muster.StepStarting && s.Undo.Action == "" {
			d.say(muster.TxEvent{Event: muster.EventUnknown, Step: s.ID, Generation: s.Generation, Error: d.t.Error})
		}
	}
	for _, s := range slices.Backward(d.t.Steps) {
		if underway >= max(1, d.rules.Parallel) {
			return
		}
		if !fsm.Due(d.t, s) || !d.say(muster.TxEvent{Event: muster.EventUndo, Step: s.ID, Generation: s.Generation + 1}) {
			continue
		}
		underway++
		if why := d.hopeless(s); why != nil {
			underway--
			d.say(muster.TxEvent{Event: muster.EventUndoFailed, Step: s.ID, Generation: s.Generation + 1, Error: why})
		}
	}
	if underway > 0 || d.t.Status != muster.TxCompensating {
		return
	}
	var stuck []string
	for _, s := range d.t.Steps {
		if s.Status == muster.StepUndoFailed {
			stuck = append(stuck, s.ID)
		}
	}
	d.say(muster.TxEvent{Event: muster.EventPark, Error: &muster.ActionError{Code: "undo_failed", Message: "not undone: " + strings.Join(stuck, ", ")}})
}

// hopeless says why a step cannot be undone without asking anybody, if so.
func (d *decider) hopeless(s muster.TxStep) *muster.ActionError {
	if d.gone(s) {
		return &muster.ActionError{Code: codeNodeGone, Message: "its node is no longer in the cluster: another machine under the same name knows nothing of what it did"}
	}
	if s.Outcome != muster.StepDone && forgotten(s, d.now) {
		return notRemembered()
	}
	if _, err := filled(d.t, s.Undo.With); err != nil {
		return noResult(err)
	}
	return nil
}

// gone reports whether a step's node is no longer in the registry.
func (d *decider) gone(s muster.TxStep) bool { return d.rules.Gone != nil && d.rules.Gone(s.NodeID) }

// forgotten reports whether a step began so long ago that its node may know
// nothing of it any more. Whether it was done can then not be asked, and the same
// call again could do it twice.
func forgotten(s muster.TxStep, now time.Time) bool { return now.Sub(s.StartedAt) > muster.TxMemory }

func notRemembered() *muster.ActionError {
	return &muster.ActionError{Code: muster.CodeNotRemembered, Message: fmt.Sprintf("it began more than %v ago: the node may have forgotten what it did", muster.TxMemory)}
}

// filling is parameters with the results of other steps, and what was put in by
// the names of the placeholders.
type filling struct{ full, given muster.Params }

// filled puts results of other steps into parameters. ${result.x} stays: the
// node that undoes a step knows what doing it gave.
func filled(t muster.Tx, with muster.Params) (filling, error) {
	f := filling{muster.Params{}, muster.Params{}}
	for name, value := range with {
		v, err := muster.Fill(value, func(ref string) (json.RawMessage, error) {
			raw, of, err := resultOf(t, ref)
			if of {
				f.given[ref] = raw
			}
			return raw, err
		})
		if err != nil {
			return f, fmt.Errorf("%s: %w", name, err)
		}
		f.full[name] = v
	}
	return f, nil
}

// resultOf is what a placeholder stands for, if it is one of another step.
func resultOf(t muster.Tx, ref string) (raw json.RawMessage, of bool, err error) {
	id, field, ok := stepRef(ref)
	if !ok {
		return json.RawMessage(`"${` + ref + `}"`), false, nil
	}
	for _, s := range t.Steps {
		if s.ID == id || s.Group == id {
			raw, err := muster.FieldOf(s.Result, field)
			if err != nil {
				return nil, false, fmt.Errorf("step %s: %w", id, err)
			}
			return raw, true, nil
		}
	}
	return nil, false, fmt.Errorf("there is no step %s", id)
}
