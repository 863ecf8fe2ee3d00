package muster

import (
	"encoding/json"
	"slices"
)

// Params are an action's parameters by name.
type Params map[string]json.RawMessage

// Run asks for an action on one, several or all nodes.
type Run struct {
	Action    string   `json:"action"`
	Params    Params   `json:"params,omitempty"`
	On        Selector `json:"on,omitzero"`
	How       Strategy `json:"how,omitzero"`
	TimeoutMs int      `json:"timeout_ms,omitempty"` // ends the wait, not the work
	Key       string   `json:"key,omitempty"`        // the same thing as the header Idempotency-Key
	Check     bool     `json:"check,omitempty"`
	Wait      *bool    `json:"wait,omitempty"` // default true
	ID        string   `json:"-"`              // of its job; empty: one is drawn
}

// Selector says where an action runs. Nodes and All stand alone; Where,
// Capability and Type are ANDed; then Exclude, then Sample or Percent.
type Selector struct {
	Nodes      *[]string  `json:"nodes,omitempty"` // slugs or IDs
	All        bool       `json:"all,omitempty"`
	Where      string     `json:"where,omitempty"` // over metadata: k=v, k!=v, k in (a,b), joined by &&
	Capability Capability `json:"capability,omitempty"`
	Type       NodeType   `json:"type,omitempty"`
	Sample     *int       `json:"sample,omitempty"`  // 1 or more
	Percent    *float64   `json:"percent,omitempty"` // above 0, at most 100
	Seed       *int64     `json:"seed,omitempty"`
	Exclude    []string   `json:"exclude,omitempty"`
}

// Strategy says in which order an action runs on many nodes.
type Strategy struct {
	Mode        string            `json:"mode,omitempty"`        // parallel (default) | serial | rolling
	Concurrency int               `json:"concurrency,omitempty"` // default 10
	Batches     []json.RawMessage `json:"batches,omitempty"`     // counts or "25%"
	Pause       string            `json:"pause,omitempty"`
	MaxFail     json.RawMessage   `json:"max_fail,omitempty"` // count or "10%"; reached is enough
	OnFail      string            `json:"on_fail,omitempty"`  // stop (default) | continue
}

// State is what became of an action on one node.
type State string

// The states. Only StateOK and StateNoop are successes.
const (
	StateOK          State = "ok"
	StateNoop        State = "noop"        // nothing had to be done
	StateFailed      State = "failed"      // it ran, and said so
	StateTimeout     State = "timeout"     // it was killed at its limit
	StateUnreachable State = "unreachable" // the node could not be asked
	StateDenied      State = "denied"      // the caller may not
	StateInvalid     State = "invalid"     // unknown action or bad parameters there
	StateSkipped     State = "skipped"     // not started; Result.Error says why
	StateCancelled   State = "cancelled"
	StateInterrupted State = "interrupted" // the node went down meanwhile
	StateUnknown     State = "unknown"     // it was asked, but no answer came
)

// Result is an action's outcome on one node.
type Result struct {
	Node       string          `json:"node"`      // slug
	NodeName   string          `json:"node_name"` // name
	Success    bool            `json:"success"`
	State      State           `json:"state"`
	Result     json.RawMessage `json:"result,omitzero"`
	Error      *ActionError    `json:"error,omitempty"`
	Leaked     int             `json:"leaked_children,omitzero"` // processes that left the program's group
	DurationMs int64           `json:"duration_ms"`

	// Settled says, of a step of a transaction, that it is in the node's journal: the
	// same call will never get another answer.
	Settled bool `json:"settled,omitempty"`
}

// ActionError says why an action did not succeed.
type ActionError struct {
	Code     string `json:"code"` // e.g. exit, timeout, unknown_action, maintenance
	Message  string `json:"message"`
	ExitCode *int   `json:"exit_code,omitempty"`
	Signal   string `json:"signal,omitempty"`
	Output   string `json:"output,omitempty"` // the last of what it printed
	Leaked   int    `json:"leaked_children,omitzero"`
}

// RunAnswer is what came of a run on all its nodes. Success is true only if
// every selected node ran it and succeeded.
type RunAnswer struct {
	Job           string            `json:"job"` // j_<node ID>_<UUIDv7>
	Success       bool              `json:"success"`
	Action        string            `json:"action"`
	NodesExecuted int               `json:"nodes_executed"`
	SuccessCount  int               `json:"success_count"`
	FailureCount  int               `json:"failure_count"`
	SkippedCount  int               `json:"skipped_count"`
	Results       map[string]Result `json:"results"` // by slug
}

// ActionInfo describes an action to callers: all but how it is done.
type ActionInfo struct {
	Action  string          `json:"action"`
	Version string          `json:"version"`
	Digest  string          `json:"digest"` // SHA-256 of the canonical definition, hex
	Title   string          `json:"title"`
	Risk    Risk            `json:"risk"`
	Params  json.RawMessage `json:"params"` // name to type, as in the definition
	Result  json.RawMessage `json:"result"`
	Nodes   []string        `json:"nodes"` // slugs that have this version

	Check  bool            `json:"check"`           // it declares a dry run
	Limits json.RawMessage `json:"limits,omitzero"` // as in the definition, with what it leaves out

	// What a transaction goes by; Retry also who asks a node that cannot be reached.
	Idempotent bool     `json:"idempotent"` // may be run again when the outcome is unknown
	Undo       *TxUndo  `json:"undo,omitempty"`
	Retry      *TxRetry `json:"retry,omitempty"`
	LimitMs    int64    `json:"limit_ms,omitempty"` // one execution takes no longer
}

// TxUndo is how a definition says that its action is taken back. Its parameters
// may hold ${result.x} and ${x}.
type TxUndo struct {
	Action   string `json:"action"`
	Params   Params `json:"params,omitempty"`
	OnFailed bool   `json:"on_failed,omitempty"`
}

// Execution asks one node to run an action now. Rights are the original
// caller's.
type Execution struct {
	Action string `json:"action"`
	Params Params `json:"params,omitempty"`
	Job    string `json:"job"`
	Check  bool   `json:"check,omitempty"`
	// StartWithinMs is how long it may wait for its turn, from when it arrives:
	// after that nobody waits for it any more. 0: as long as it takes.
	StartWithinMs int64 `json:"start_within_ms,omitzero"`
	// Tx is what it is of a transaction. Its job then names transaction, step,
	// operation and generation.
	Tx *TxOp `json:"tx,omitempty"`
}

// Nothing reports that an action which did not succeed did nothing: it said so
// itself, or was not begun. A program that a signal ended, or whose result is not
// what was promised, may have done its work.
func (r Result) Nothing() bool {
	switch r.State {
	case StateDenied, StateInvalid:
		return true
	case StateFailed:
		return r.Error == nil || !slices.Contains([]string{"signal", "bad_result", "result_too_large", "panic"}, r.Error.Code)
	default:
		return false
	}
}
