package muster

import (
	"encoding/json"
	"strings"
	"time"
)

// Bounds of transactions.
const (
	MaxTxSteps   = 64
	MaxTxEntry   = 32 << 10 // bytes of one entry of the log
	MaxTxResult  = 4 << 10  // bytes of a step's result that are kept
	MaxOpenTxs   = 500
	MaxEndedTxs  = 1000
	MaxEndedSize = 16 << 20 // bytes of all that have ended

	// TxMemory is how long a node remembers at least what it did for a
	// transaction. Later nobody may conclude from its silence that it did nothing.
	TxMemory = 48 * time.Hour
)

// The policies of a transaction: what happens when a step fails.
const (
	PolicyBackward = "backward" // the steps before it are undone
	PolicyForward  = "forward"  // it is tried again until the deadline; nothing is undone
)

// TxStatus is how a transaction is.
type TxStatus string

// The statuses of a transaction.
const (
	TxPending      TxStatus = "pending"
	TxRunning      TxStatus = "running"
	TxCompensating TxStatus = "compensating"
	TxSucceeded    TxStatus = "succeeded"
	TxRolledBack   TxStatus = "rolled_back"
	TxParked       TxStatus = "parked" // it waits for an operator, and keeps its locks
	TxClosed       TxStatus = "closed" // an operator gave it up
)

// Ended reports whether nothing more happens: not even an operator changes it.
func (s TxStatus) Ended() bool { return s == TxSucceeded || s == TxRolledBack || s == TxClosed }

// Driven reports whether the master has something to do.
func (s TxStatus) Driven() bool { return s == TxPending || s == TxRunning || s == TxCompensating }

// StepStatus is how a step of a transaction is.
type StepStatus string

// The statuses of a step.
const (
	StepPending    StepStatus = "pending"
	StepStarting   StepStatus = "starting" // it may have begun
	StepDone       StepStatus = "done"
	StepFailed     StepStatus = "failed"  // it said so, or was refused
	StepUnknown    StepStatus = "unknown" // it may have been done
	StepUndoing    StepStatus = "undoing"
	StepUndone     StepStatus = "undone"
	StepUndoFailed StepStatus = "undo_failed"
	StepSkipped    StepStatus = "skipped" // never begun, or an operator's word
)

// Tx is a transaction as the registry keeps it. Steps and history of one that is
// stored are never changed in place.
type Tx struct {
	ID         string       `json:"id"`
	Name       string       `json:"name,omitempty"`
	Key        string       `json:"key,omitempty"`
	By         Rights       `json:"by"` // the caller's, with which steps run
	Policy     string       `json:"policy"`
	Deadline   time.Time    `json:"deadline,omitzero"` // by the clock of the master that began it, or had it go on
	DeadlineMs int64        `json:"deadline_ms"`
	Locks      []string     `json:"locks,omitempty"` // sorted
	Status     TxStatus     `json:"status"`
	Back       bool         `json:"back,omitempty"` // its direction is back: also while it is parked
	Epoch      uint64       `json:"epoch"`          // index of the entry that gave it its driver
	Driver     string       `json:"driver"`         // node ID; empty: nobody has written anything down of it yet
	Steps      []TxStep     `json:"steps"`
	Error      *ActionError `json:"error,omitempty"` // why it did not succeed, or is parked
	Cause      *ActionError `json:"cause,omitempty"` // why its direction is back
	History    []TxNote     `json:"history"`
	Forgotten  int          `json:"forgotten,omitempty"` // notes that are no longer there
	CreatedAt  time.Time    `json:"created_at"`
	UpdatedAt  time.Time    `json:"updated_at"`
	EndedAt    time.Time    `json:"ended_at,omitzero"`
	Index      uint64       `json:"index"` // of the last entry that changed it
}

// TxStep is a step on one node. What it runs, and with which parameters, is fixed
// when the transaction begins; placeholders in them are filled in when it starts.
type TxStep struct {
	ID      string   `json:"id"`
	Group   string   `json:"group,omitempty"` // the plan's step, if that has several nodes
	NodeID  string   `json:"node_id"`
	Node    string   `json:"node"`    // slug when it began
	Journal string   `json:"journal"` // ID of the journal that the node had then
	Run     TxAction `json:"run"`
	Undo    TxAction `json:"undo,omitzero"` // no action: there is none
	Check   TxAction `json:"precheck,omitzero"`
	Needs   []string `json:"needs,omitempty"`

	OnFailed  bool `json:"on_failed,omitempty"` // undone also when it failed
	Pivot     bool `json:"pivot,omitempty"`     // once it may be done, there is no way back
	Retriable bool `json:"retriable,omitempty"` // tried again until the deadline

	Status     StepStatus      `json:"status"`
	Checked    bool            `json:"checked,omitempty"`    // its precheck passed
	Outcome    StepStatus      `json:"outcome,omitempty"`    // of doing it: done, failed or unknown; of one skipped: what the operator saw to, done or undone
	Doubt      bool            `json:"doubt,omitempty"`      // a call before the last may have done it, whatever the last comes to
	Generation int             `json:"generation,omitempty"` // of the last call: a node does none that is older than one it knows
	Attempts   int             `json:"attempts,omitempty"`   // calls since it began, of doing and of undoing
	Tries      int             `json:"tries,omitempty"`      // of them, those of what goes on
	Since      time.Time       `json:"since,omitzero"`       // when what goes on began: the call, or all the undoing
	NotBefore  time.Time       `json:"not_before,omitzero"`  // of the next call
	Result     json.RawMessage `json:"result,omitempty"`
	Error      *ActionError    `json:"error,omitempty"`
	StartedAt  time.Time       `json:"started_at,omitzero"`
	EndedAt    time.Time       `json:"ended_at,omitzero"`
}

// TxAction is what a step runs, with what was known of the action when the
// transaction began.
type TxAction struct {
	Action     string   `json:"action"`
	With       Params   `json:"with,omitempty"`
	Digest     string   `json:"digest,omitempty"` // of the definition
	Risk       Risk     `json:"risk,omitempty"`
	Idempotent bool     `json:"idempotent,omitempty"`
	LimitMs    int64    `json:"limit_ms,omitempty"` // one execution takes no longer
	Retry      *TxRetry `json:"retry,omitempty"`
}

// TxRetry says how often and when a transaction tries an action again.
type TxRetry struct {
	Attempts int      `json:"attempts"`
	FirstMs  int64    `json:"first_ms,omitempty"`
	MaxMs    int64    `json:"max_ms,omitempty"`
	Jitter   bool     `json:"jitter,omitempty"`
	On       []string `json:"on,omitempty"` // unavailable, timeout; empty: both
}

// TxNote is one line of a transaction's history.
type TxNote struct {
	At      time.Time `json:"at"`
	Event   string    `json:"event"`
	Step    string    `json:"step,omitempty"`
	By      string    `json:"by,omitempty"` // principal: of what an operator did
	Message string    `json:"message,omitempty"`
}

// TxEventKind names what a driver writes down of a transaction.
type TxEventKind string

// The events of a driver. EventStart, EventUndo and EventAgain are intents: they
// are in the log before a call is made.
const (
	EventChecked    TxEventKind = "checked"     // a precheck passed
	EventStart      TxEventKind = "start"       // a step is about to be done
	EventDone       TxEventKind = "done"        // it was
	EventFailed     TxEventKind = "failed"      // it was not
	EventUnknown    TxEventKind = "unknown"     // nobody can say
	EventAbort      TxEventKind = "abort"       // the direction is back from now on
	EventUndo       TxEventKind = "undo"        // a step is about to be undone
	EventUndone     TxEventKind = "undone"      // it was
	EventUndoFailed TxEventKind = "undo_failed" // it could not be
	EventAgain      TxEventKind = "again"       // what goes on is tried once more
	EventPark       TxEventKind = "park"        // an operator is needed
)

// TxEvent is one event. Generation is that of the call it is about.
type TxEvent struct {
	Event      TxEventKind     `json:"event"`
	Step       string          `json:"step,omitempty"`
	Generation int             `json:"generation,omitempty"`
	Result     json.RawMessage `json:"result,omitempty"`
	Error      *ActionError    `json:"error,omitempty"`
	NotBefore  time.Time       `json:"not_before,omitzero"` // of EventAgain
	Doubt      bool            `json:"doubt,omitempty"`     // of EventAgain: the call before it may have done the step
}

// TxCommand is an operator's word.
type TxCommand string

// The commands of an operator.
const (
	TxCancel TxCommand = "cancel" // undo what was done
	TxTryNow TxCommand = "retry"  // try at once what failed
	TxSkip   TxCommand = "skip"   // count a step as done, or as undone
	TxClose  TxCommand = "close"  // give a parked one up
)

// The operations of a TxOp.
const (
	OpDo   = "do"
	OpUndo = "undo"
)

// Codes of what a node says to a call of a transaction.
const (
	CodeJournal       = "journal"         // its journal cannot be written, or read
	CodeJournalLost   = "journal_lost"    // its journal is not the one that the step was begun with
	CodeNotRemembered = "not_remembered"  // it knows nothing of what it is to undo
	CodeSuperseded    = "superseded"      // it knows a later call
	CodeStillRunning  = "still_running"   // what it is to undo goes on
	CodeQueueFull     = "queue_full"      // as many wait for the action as may
	CodeNothingToUndo = "nothing_to_undo" // it was never begun, or failed
)

// TxOp makes an execution part of a transaction. A node does at most one
// execution of a generation, and none of a generation below one it knows.
type TxOp struct {
	Tx         string `json:"tx"`
	Step       string `json:"step"`
	Op         string `json:"op"` // do or undo
	Generation int    `json:"generation"`
	Epoch      uint64 `json:"epoch"`
	Journal    string `json:"journal"` // ID of the journal that remembers the step

	// For undo: whether the driver knows that it was done, what it gave, and
	// whether one that failed is undone, too.
	Done     bool            `json:"done,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	OnFailed bool            `json:"on_failed,omitempty"`

	// Given is what placeholders of an undo's parameters stand for, by name, but
	// for ${result.FIELD}, which the node fills in: all at once, for what is filled
	// in may look like a placeholder.
	Given Params `json:"given,omitempty"`
}

// TxAnswer is a transaction as callers see it.
type TxAnswer struct {
	ID             string       `json:"id"`
	Name           string       `json:"name,omitempty"`
	Status         TxStatus     `json:"status"`
	Policy         string       `json:"policy"`
	Deadline       time.Time    `json:"deadline,omitzero"`
	Locks          []string     `json:"locks,omitempty"`
	Caller         string       `json:"caller"`
	Steps          []StepAnswer `json:"steps"`
	Error          *ActionError `json:"error,omitempty"`
	Cause          *ActionError `json:"cause,omitempty"` // why it turned back, if error says something else
	RolledBack     []string     `json:"rolled_back"`
	NotCompensated []string     `json:"not_compensated"`
	Sheet          []TxTodo     `json:"sheet,omitempty"` // of a parked one: what an operator has to look at
	Driver         string       `json:"driver"`
	Epoch          uint64       `json:"epoch"`
	History        []TxNote     `json:"history"`
	Forgotten      int          `json:"history_dropped,omitempty"`
	CreatedAt      time.Time    `json:"created_at"`
	EndedAt        time.Time    `json:"ended_at,omitzero"`
}

// StepAnswer is a step as callers see it.
type StepAnswer struct {
	ID        string          `json:"id"`
	Node      string          `json:"node"`
	Action    string          `json:"action"`
	Undo      string          `json:"undo,omitempty"`
	Needs     []string        `json:"needs,omitempty"`
	Status    StepStatus      `json:"status"`
	Attempts  int             `json:"attempts"`
	Checked   bool            `json:"checked,omitempty"` // its precheck passed; of a plan, its dry run
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *ActionError    `json:"error,omitempty"`
	NotBefore time.Time       `json:"next_attempt_at,omitzero"`
	StartedAt time.Time       `json:"started_at,omitzero"`
	EndedAt   time.Time       `json:"ended_at,omitzero"`
}

// TxTodo is a line of a hand-off sheet: a step that nobody but an operator can
// bring to an end.
type TxTodo struct {
	Step   string       `json:"step"`
	Node   string       `json:"node"`
	Status StepStatus   `json:"status"`
	Did    StepStatus   `json:"did"` // what doing it came to
	Why    *ActionError `json:"why,omitempty"`
	Action string       `json:"action"` // what is to be run by hand
	With   Params       `json:"with,omitempty"`
}

// Undoable reports whether a step is still to be undone, if the direction is
// back.
func (s TxStep) Undoable() bool {
	if s.Undo.Action == "" {
		return false
	}
	switch s.Status {
	case StepStarting, StepDone, StepUnknown, StepUndoing, StepUndoFailed:
		return true
	case StepFailed:
		return s.OnFailed
	default:
		return false
	}
}

// left reports whether a step may have left something that nothing takes back.
func (s TxStep) left() bool {
	switch s.Status {
	case StepDone, StepUnknown, StepStarting:
		return s.Undo.Action == "" && s.Run.Risk != RiskRead
	case StepUndoing, StepUndoFailed:
		return true
	case StepSkipped:
		return s.Outcome == StepDone // by hand: nobody knows how it is undone
	default:
		return false
	}
}

// Answer is the transaction as callers see it.
func (t Tx) Answer() TxAnswer {
	a := TxAnswer{
		ID: t.ID, Name: t.Name, Status: t.Status, Policy: t.Policy, Deadline: t.Deadline, Locks: t.Locks, Caller: t.By.Principal,
		Steps: []StepAnswer{}, Error: t.Error, RolledBack: []string{}, NotCompensated: []string{}, Driver: t.Driver, Epoch: t.Epoch,
		History: append([]TxNote{}, t.History...), Forgotten: t.Forgotten, CreatedAt: t.CreatedAt, EndedAt: t.EndedAt,
	}
	if t.Cause != nil && (t.Error == nil || *t.Cause != *t.Error) {
		a.Cause = t.Cause
	}
	for _, s := range t.Steps {
		a.Steps = append(a.Steps, StepAnswer{
			ID: s.ID, Node: s.Node, Action: s.Run.Action, Undo: s.Undo.Action, Needs: s.Needs, Status: s.Status, Attempts: s.Attempts, Checked: s.Checked,
			Result: s.Result, Error: s.Error, NotBefore: s.NotBefore, StartedAt: s.StartedAt, EndedAt: s.EndedAt,
		})
		if s.Status == StepUndone {
			a.RolledBack = append(a.RolledBack, s.ID)
		}
		if t.Back && s.left() {
			a.NotCompensated = append(a.NotCompensated, s.ID)
		}
		if t.Status == TxParked {
			a.Sheet = append(a.Sheet, t.todo(s)...)
		}
	}
	return a
}

// todo is a step's line of the hand-off sheet, if it has one.
func (t Tx) todo(s TxStep) []TxTodo {
	do := TxTodo{Step: s.ID, Node: s.Node, Status: s.Status, Did: s.Outcome, Why: s.Error, Action: s.Run.Action, With: s.Run.With}
	if s.Status == StepStarting {
		do.Did = StepUnknown
	}
	switch {
	case t.Back && s.Undoable():
		do.Action, do.With = s.Undo.Action, t.known(s, s.Undo.With)
		return []TxTodo{do}
	case !t.Back && s.Status != StepDone && s.Status != StepSkipped: // those too whose turn has not come
		do.With = t.known(s, s.Run.With)
		return []TxTodo{do}
	default:
		return nil
	}
}

// known are the parameters of a step, or of its undo, with the results that are
// known filled in. What is not known stays as it is in the plan.
func (t Tx) known(s TxStep, with Params) Params {
	out := Params{}
	for name, value := range with {
		full, err := Fill(value, func(ref string) (json.RawMessage, error) { return t.valueOf(s, ref) })
		if err != nil {
			full = value
		}
		out[name] = full
	}
	return out
}

// valueOf is what a placeholder in the parameters of a step stands for.
func (t Tx) valueOf(s TxStep, ref string) (json.RawMessage, error) {
	if field, ok := strings.CutPrefix(ref, "result."); ok {
		return FieldOf(s.Result, field)
	}
	for _, other := range t.Steps {
		if field, ok := strings.CutPrefix(ref, "steps."+other.ID+".result."); ok {
			return FieldOf(other.Result, field)
		}
	}
	return nil, Errorf(Invalid, "there is no %s", ref)
}

// TxPlan asks for a transaction.
type TxPlan struct {
	Name       string     `json:"name,omitempty"`
	Key        string     `json:"key,omitempty"` // the same thing as the header Idempotency-Key
	Policy     string     `json:"policy,omitempty"`
	DeadlineMs int64      `json:"deadline_ms,omitempty"` // default 10 minutes
	Locks      []string   `json:"locks,omitempty"`
	Steps      []PlanStep `json:"steps"`
	Rehearse   bool       `json:"rehearse,omitempty"` // have nodes do the dry runs of steps that declare one
}

// PlanStep is a step as it is asked for. Without Needs it waits for the step
// before it.
type PlanStep struct {
	ID        string    `json:"id"`
	On        Selector  `json:"on"`
	Run       string    `json:"run"`
	With      Params    `json:"with,omitempty"`
	Undo      *TxCall   `json:"undo,omitempty"` // nil: as the action's definition has it
	Needs     *[]string `json:"needs,omitempty"`
	Precheck  *TxCall   `json:"precheck,omitempty"`
	Pivot     bool      `json:"pivot,omitempty"`
	Retriable bool      `json:"retriable,omitempty"`
}

// TxCall names an action and its parameters.
type TxCall struct {
	Run  string `json:"run"`
	With Params `json:"with,omitempty"`
}

// TxOrder is what an operator has to say of a transaction.
type TxOrder struct {
	Command TxCommand `json:"-"`
	Step    string    `json:"step,omitempty"` // to skip
	Reason  string    `json:"reason,omitempty"`
}
