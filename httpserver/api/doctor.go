package api

import (
	"context"
	"net/http"
	"time"
)

// PathDoctor is where a node tells what it finds wrong.
const PathDoctor = "/v1/doctor"

// How a finding can be.
const (
	FindingOK   = "ok"
	FindingWarn = "warn" // works, but not for long or not for all
	FindingFail = "fail"
)

// Finding is one thing that was looked at.
type Finding struct {
	Node    string `json:"node"`           // slug of the node that looked
	Check   string `json:"check"`          // what at: secret, identity, disk, master, contact, lag, voters, quorum, ports, alive, http, gossip, raft, clock, external
	Peer    string `json:"peer,omitempty"` // slug of the node that was looked at, if it is another one
	Status  string `json:"status"`         // ok | warn | fail
	Finding string `json:"finding"`
	Remedy  string `json:"remedy"` // what to do; empty if all is well
}

// Findings are those of one node.
type Findings struct {
	Findings []Finding `json:"findings"`
}

// Ahead is how far the clock of a node was ahead of this one, by its health,
// when that was asked for and how long it took: half of took is how far off that
// may be.
func (h Health) Ahead(sent time.Time, took time.Duration) time.Duration {
	return h.Timestamp.Sub(sent.Add(took / 2)).Round(time.Millisecond)
}

// Doctor has a node look at itself and at how it reaches the others; an empty
// slug is the node asked.
func (c *Client) Doctor(ctx context.Context, node string) (f Findings, err error) {
	return f, c.Do(ctx, http.MethodGet, PathDoctor+query("node", node), nil, &f)
}
