package muster

import "time"

// The statuses of a job.
const (
	JobRunning     = "running"
	JobSucceeded   = "succeeded"
	JobPartial     = "partial" // not on every node
	JobFailed      = "failed"  // on none
	JobCancelled   = "cancelled"
	JobInterrupted = "interrupted" // the node that led it went down
)

// Job is a run as the node that leads it keeps it. Results are of those nodes
// that have ended, Pending the slugs of the others.
type Job struct {
	RunAnswer
	Status    string    `json:"status"`
	Pending   []string  `json:"pending,omitempty"`
	Caller    string    `json:"caller"` // principal
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	RetryOf   string    `json:"retry_of,omitempty"` // the job whose failed nodes this one tries again
	Order     *JobOrder `json:"order,omitempty"`
}

// JobOrder is what a job was asked to do, frozen when it began. Params are kept
// if they are known to have no secrets and are short; a digest of them always, which
// says nothing to whoever does not have the journal of the node that leads the job.
type JobOrder struct {
	Targets []JobTarget `json:"targets"` // in their order
	How     Strategy    `json:"how,omitzero"`
	Check   bool        `json:"check,omitempty"`
	Params  Params      `json:"params,omitempty"`
	Digest  string      `json:"params_hmac"` // of the parameters, by the key of the leader's journal, hex
}

// JobTarget is a node that was selected.
type JobTarget struct {
	Slug string `json:"slug"` // as it was then
	ID   string `json:"id"`
}

// Retry asks for a job's action again, on those of its nodes that Only names:
// "failed" (the default: all that did not succeed and were not skipped),
// "unreachable" or "skipped". Params must be said if the job does not keep them.
type Retry struct {
	Only   string `json:"only,omitempty"`
	Params Params `json:"params,omitempty"`
	ID     string `json:"-"` // of the new job; empty: one is drawn
}

// The types of a JobEvent.
const (
	EventState    = "state"    // a node is asked
	EventLog      = "log"      // a program printed something
	EventProgress = "progress" // a program said how far it is
	EventResult   = "result"   // a node has ended
	EventSummary  = "summary"  // the job has ended; nothing follows
	EventResync   = "resync"   // events before this one are not known any more
)

// JobEvent is one thing that happened to a job. Seq rises by one with each; what
// a type does not need is empty.
type JobEvent struct {
	Seq     int64     `json:"seq"`
	At      time.Time `json:"ts"`
	Type    string    `json:"type"`
	Node    string    `json:"node,omitempty"`    // slug
	State   State     `json:"state,omitempty"`   // of state: running
	Stream  string    `json:"stream,omitempty"`  // of log: stdout or stderr
	Text    string    `json:"text,omitempty"`    // of log and progress
	Percent *int      `json:"percent,omitempty"` // of progress
	Result  *Result   `json:"result,omitempty"`
	Job     *Job      `json:"job,omitempty"` // of summary
}

// StateRunning is what a node is in until it has ended. No Result has it.
const StateRunning State = "running"

// JobEvents are those after one that is known. Ended says that the last of them
// is the job's last.
type JobEvents struct {
	Events []JobEvent `json:"events"`
	Ended  bool       `json:"ended"`
}

// Output is what a program printed on one node, without secrets: all of it, or
// its beginning and its end with a line between that says what is missing.
type Output struct {
	Job       string    `json:"job"`
	Action    string    `json:"action"`
	Node      string    `json:"node"` // slug
	Running   bool      `json:"running"`
	Stdout    string    `json:"stdout"`
	Stderr    string    `json:"stderr"`
	Truncated bool      `json:"truncated"`
	Dropped   int64     `json:"dropped_bytes,omitzero"`
	Try       int       `json:"try,omitzero"`       // how often it was started again
	Progress  *Progress `json:"progress,omitempty"` // the latest
}

// Progress is how far a program says it is: a line "::progress 40 text".
type Progress struct {
	Step    int    `json:"step"` // counts what it said
	Percent int    `json:"percent"`
	Text    string `json:"text,omitempty"`
}

// OutputAsk asks for what was printed behind what is known of a try, in bytes of
// the texts; with Wait for as long as nothing has, the program runs and the caller's
// time lasts.
type OutputAsk struct {
	Job    string
	Stdout int
	Stderr int
	Try    int
	Step   int // of progress
	Wait   bool
}
