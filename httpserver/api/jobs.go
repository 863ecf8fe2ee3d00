package api

import (
	"context"
	"net/http"
	"net/url"

	"muster"
)

// Jobs is a page of the jobs that one node leads or led, the newest first.
type Jobs struct {
	Jobs   []muster.Job `json:"jobs"`
	Cursor string       `json:"cursor,omitempty"`
}

// Begin starts a run and does not wait for it.
func (c *Client) Begin(ctx context.Context, r muster.Run) (j muster.Job, err error) {
	no := false
	r.Wait = &no
	return j, c.Do(ctx, http.MethodPost, "/v1/run", r, &j)
}

// Job returns how a job is. It is NotFound when there is none, and Unavailable
// while the node that leads it cannot be reached.
func (c *Client) Job(ctx context.Context, id string) (j muster.Job, err error) {
	return j, c.Do(ctx, http.MethodGet, "/v1/jobs/"+url.PathEscape(id), nil, &j)
}

// CancelJob ends a job on all nodes. It is a Conflict when it has ended.
func (c *Client) CancelJob(ctx context.Context, id string) (j muster.Job, err error) {
	return j, c.Do(ctx, http.MethodPost, "/v1/jobs/"+url.PathEscape(id)+"/cancel", nil, &j)
}

// Cancellation says whose executions a node is to kill.
type Cancellation struct {
	Action string `json:"action"`
	Job    string `json:"job"`
}

// Cancel has the node that is asked kill what it executes of a job. Nodes ask it.
func (c *Client) Cancel(ctx context.Context, what Cancellation) error {
	return c.Do(ctx, http.MethodPost, PathCancel, what, nil)
}

// Jobs returns the jobs of a node, page by page; an empty node is the one asked.
func (c *Client) Jobs(ctx context.Context, node string) (all Jobs, err error) {
	for {
		var page Jobs
		if err := c.Do(ctx, http.MethodGet, "/v1/jobs"+query("limit", "1000", "node", node, "cursor", all.Cursor), nil, &page); err != nil {
			return all, err
		}
		all.Jobs, all.Cursor = append(all.Jobs, page.Jobs...), page.Cursor
		if page.Cursor == "" {
			return all, nil
		}
	}
}
