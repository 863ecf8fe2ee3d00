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

// Job is a run that nobody waits for, kept by the node that leads it. Results
// are of those nodes that have ended, Pending the slugs of the others.
type Job struct {
	RunAnswer
	Status    string    `json:"status"`
	Pending   []string  `json:"pending,omitempty"`
	Caller    string    `json:"caller"` // principal
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
}
