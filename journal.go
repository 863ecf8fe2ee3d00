package muster

import "time"

// JournalEntry is one execution in the journal of the node that does it: who had
// what done, and what became of it. Values of parameters are not in it.
type JournalEntry struct {
	Key     string    `json:"key"` // of the execution; a node begins it once
	Job     string    `json:"job"`
	Action  string    `json:"action"`
	Version string    `json:"version"`
	Digest  string    `json:"digest"`      // of the definition
	Params  string    `json:"params_hmac"` // of the parameters, by the key of this node's journal, hex
	Check   bool      `json:"check,omitempty"`
	Caller  string    `json:"caller"` // principal
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	Result  Result    `json:"result,omitzero"`         // zero while it goes on
	Cut     string    `json:"result_sha256,omitempty"` // of a result that was too long to keep, hex

	Tx      *TxOp `json:"tx,omitempty"`      // what it is of a transaction
	Refused bool  `json:"refused,omitempty"` // of a step: it was never begun

	// For undoing a step: of how many executions it is known that they did it, and
	// why it could not be undone if there were something to undo.
	Seen    int   `json:"-"`
	Unready error `json:"-"`
}

// SameRequest reports whether two entries ask for the same thing for the same
// caller.
func (e JournalEntry) SameRequest(o JournalEntry) bool {
	return e.Key == o.Key && e.Action == o.Action && e.Params == o.Params && e.Check == o.Check && e.Caller == o.Caller
}

// Outcome is what a node's journal knows of what it executed of a job.
type Outcome struct {
	Known  bool    `json:"known"`            // it was begun there, and written down
	Result *Result `json:"result,omitempty"` // nil while it goes on
}
