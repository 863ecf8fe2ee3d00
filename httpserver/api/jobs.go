package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"muster"
)

// Jobs is a page of jobs, the newest first, and the slugs of the nodes that were
// not heard.
type Jobs struct {
	Jobs    []muster.Job `json:"jobs"`
	Missing []string     `json:"missing,omitempty"`
	Cursor  string       `json:"cursor,omitempty"`
}

// JobFilter says which jobs are wanted; what is empty does not matter.
type JobFilter struct {
	Node     string // that leads them; empty: the one asked
	Everyone bool   // all nodes' jobs
	Status   string
	Action   string
	Limit    int // 0: 100
	Cursor   string
}

func (f JobFilter) query() string {
	scope, limit := "", ""
	if f.Everyone {
		scope = "cluster"
	}
	if f.Limit > 0 {
		limit = strconv.Itoa(f.Limit)
	}
	return query("node", f.Node, "scope", scope, "status", f.Status, "action", f.Action, "limit", limit, "cursor", f.Cursor)
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

// RetryJob begins a job's action again on nodes where it did not succeed; the same
// key begins it once.
func (c *Client) RetryJob(ctx context.Context, id string, again muster.Retry, key string) (j muster.Job, err error) {
	return j, c.Do(ctx, http.MethodPost, "/v1/jobs/"+url.PathEscape(id)+"/retry", again, &j, HeaderIdempotency, key)
}

// JobOutput returns what a job's program printed at a node. It is NotFound when
// that node has nothing.
func (c *Client) JobOutput(ctx context.Context, id, slug string) (o muster.Output, err error) {
	return o, c.Do(ctx, http.MethodGet, "/v1/jobs/"+url.PathEscape(id)+"/output/"+url.PathEscape(slug), nil, &o)
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

// Outcome is what the journal of the node that is asked has of a job. The node that
// leads the job asks it.
func (c *Client) Outcome(ctx context.Context, job string) (o muster.Outcome, err error) {
	return o, c.Do(ctx, http.MethodGet, PathOutcome+query("job", job), nil, &o)
}

// Lead asks the node that leads a job for it: to begin it, if it did not.
type Lead struct {
	Job string `json:"job"`
	muster.Run
}

// pollWait is how long a node that is asked to wait for news does so.
const pollWait = 10 * time.Second

// OutputPath asks a node what a program prints there.
func OutputPath(a muster.OutputAsk) string {
	number := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	wait := ""
	if a.Wait {
		wait = strconv.FormatInt(pollWait.Milliseconds(), 10)
	}
	return PathOutput + query("job", a.Job, "stdout", number(a.Stdout), "stderr", number(a.Stderr), "try", number(a.Try), "step", number(a.Step), "wait_ms", wait)
}

// OwnOutput returns what a job's program prints at the node that is asked. Nodes
// ask it.
func (c *Client) OwnOutput(ctx context.Context, a muster.OutputAsk) (o muster.Output, err error) {
	return o, c.Do(ctx, http.MethodGet, OutputPath(a), nil, &o)
}

// EventsPath asks the node that leads a job what happened after an event.
func EventsPath(job string, after int64, wait time.Duration) string {
	return PathEvents + query("job", job, "after", strconv.FormatInt(after, 10), "wait_ms", strconv.FormatInt(wait.Milliseconds(), 10))
}

// OwnJobs returns a page of the jobs that the node asked leads. Nodes ask it.
func (c *Client) OwnJobs(ctx context.Context, f JobFilter) (page Jobs, err error) {
	f.Everyone, f.Node = false, ""
	return page, c.Do(ctx, http.MethodGet, PathJobs+f.query(), nil, &page)
}

// Jobs returns jobs, page by page.
func (c *Client) Jobs(ctx context.Context, f JobFilter) (all Jobs, err error) {
	all.Jobs = []muster.Job{}
	for f.Limit = 1000; ; {
		var page Jobs
		if err := c.Do(ctx, http.MethodGet, "/v1/jobs"+f.query(), nil, &page); err != nil {
			return all, err
		}
		all.Jobs = append(all.Jobs, page.Jobs...)
		for _, slug := range page.Missing {
			if !slices.Contains(all.Missing, slug) {
				all.Missing = append(all.Missing, slug)
			}
		}
		if f.Cursor = page.Cursor; f.Cursor == "" {
			return all, nil
		}
	}
}
