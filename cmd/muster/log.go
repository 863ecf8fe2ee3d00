package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"muster"
	"muster/httpserver/api"
)

type logCmd struct {
	Node   string        `help:"Only calls to this node." placeholder:"SLUG"`
	Type   string        `help:"search, action, sync or ping." enum:",search,action,sync,ping" default:""`
	Status string        `help:"pending, success or failed." enum:",pending,success,failed" default:""`
	Since  string        `help:"A duration back, like 1h, or a time like 2026-01-02T15:04:05Z. Default: 1h; with --trace all." placeholder:"WHEN"`
	Slow   time.Duration `help:"Only calls that took at least this long."`
	Trace  string        `help:"Only the calls of this trace." placeholder:"ID"`
	Local  bool          `help:"Only the rows of the node that is asked, not those of all nodes."`
	Follow bool          `short:"f" help:"Go on printing what happens, the newest last."`
}

const (
	logSince = "1h"
	logLook  = 500 * time.Millisecond
	logLag   = 3 * time.Second // rows of other nodes, and those of calls that take long, come later
)

// Run prints the request log.
func (c *logCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	filter, err := c.filter(time.Now())
	if err != nil {
		return err
	}
	if c.Follow {
		return c.follow(ctx, io, f, client, filter)
	}
	all, err := c.fetch(ctx, f, client, filter)
	if err != nil {
		return err
	}
	if err := list(f, io, all, all.Requests, func(w *grid) {
		fitted(w, io)
		line(w, "TIME", "NODE", "WAY", "TYPE", "STATUS", "CODE", "MS", "CALLER", "TRACE")
		for _, r := range all.Requests {
			rowLines(w, r)
		}
	}); err != nil {
		return err
	}
	if why := trouble(nil, all.Missing); why != "" {
		return &muster.Error{Kind: muster.Partial, Message: why}
	}
	return nil
}

func (c *logCmd) filter(now time.Time) (f api.RequestFilter, err error) {
	f = api.RequestFilter{
		Node: c.Node, Type: c.Type, Status: c.Status, Slow: c.Slow, Trace: c.Trace, Everyone: !c.Local, Limit: 1000,
	}
	since := c.Since
	if since == "" && c.Trace == "" {
		since = logSince
	}
	if since != "" {
		if f.Since, err = api.Since(since, now); err != nil {
			return f, err
		}
	}
	return f, nil
}

// fetch returns all pages as one.
func (c *logCmd) fetch(ctx context.Context, f *clientFlags, client *api.Client, filter api.RequestFilter) (all api.Requests, err error) {
	all.Requests = []api.Row{}
	for {
		page, err := c.page(ctx, f, client, filter)
		if err != nil {
			return all, err
		}
		all.Requests, all.Dropped = append(all.Requests, page.Requests...), page.Dropped
		for _, slug := range page.Missing {
			if !slices.Contains(all.Missing, slug) {
				all.Missing = append(all.Missing, slug)
			}
		}
		if filter.Cursor = page.Cursor; filter.Cursor == "" {
			return all, nil
		}
	}
}

func (c *logCmd) page(ctx context.Context, f *clientFlags, client *api.Client, filter api.RequestFilter) (api.Requests, error) {
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	return client.Requests(ctx, filter)
}

// follow prints rows as they come, and one that was pending again when it is
// over. It ends with the context, well; when a node does not answer, it says so
// once and goes on.
func (c *logCmd) follow(ctx context.Context, io streams, f *clientFlags, client *api.Client, filter api.RequestFilter) error {
	shown := map[string]api.Row{}
	look := time.NewTicker(logLook)
	defer look.Stop()
	for first, said := true, ""; ; first = false {
		got, err := c.fetch(ctx, f, client, filter)
		switch {
		case ctx.Err() != nil:
			return nil // the caller has seen enough
		case err != nil && (first || !passing(err)):
			return err
		}
		if now := trouble(err, got.Missing); now != said {
			if said = now; now != "" {
				_, _ = fmt.Fprintln(io.err, "error:", now)
			}
		}
		for _, r := range slices.Backward(got.Requests) {
			if old, known := shown[r.ID]; known && old.Status == r.Status {
				continue
			}
			shown[r.ID] = r
			if err := printRow(io, f, r); err != nil {
				return err
			}
		}
		if err == nil {
			filter.Since = window(shown, filter.Since)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// passing reports whether a fault may be over the next time.
func passing(err error) bool {
	kinds := []muster.Kind{muster.Unavailable, muster.Timeout, muster.OutcomeUnknown, muster.NoMaster, muster.Limited}
	return slices.Contains(kinds, muster.KindOf(err))
}

// trouble is why rows may be missing; empty: none are.
func trouble(err error, missing []string) string {
	switch {
	case err != nil:
		return err.Error()
	case len(missing) > 0:
		return "partial: not from " + strings.Join(missing, ", ")
	default:
		return ""
	}
}

// window is from when on rows can still be news, and forgets those before.
func window(shown map[string]api.Row, since time.Time) time.Time {
	newest := since.Add(logLag)
	for _, r := range shown {
		if r.CreatedAt.After(newest) {
			newest = r.CreatedAt
		}
	}
	start := newest.Add(-logLag)
	for _, r := range shown {
		if r.Status == api.RowPending && r.CreatedAt.Before(start) {
			start = r.CreatedAt
		}
	}
	for id, r := range shown {
		if r.CreatedAt.Before(start) {
			delete(shown, id)
		}
	}
	return start
}

func printRow(io streams, f *clientFlags, r api.Row) error {
	if f.Output != "table" {
		enc := json.NewEncoder(io.out)
		enc.SetEscapeHTML(false)
		return enc.Encode(r)
	}
	w := &grid{least: []int{0, 8, 3, 6, 7, 3, 5, 18, 0}} // rows that come one by one line up, too
	fitted(w, io)
	rowLines(w, r)
	return w.print(io.out)
}

// fitted has rows of the log fit a line: long slugs give way first, then callers
// and traces. With -o json all of them are there.
func fitted(w *grid, io streams) {
	const node, caller, trace = 1, 7, 8
	w.width, w.flexible = lineWidth(io.out), []give{{node, 14}, {caller, 8}, {trace, 8}, {node, 4}, {caller, 4}, {trace, 4}}
}

// rowLines adds a row, and below it what went wrong.
func rowLines(w *grid, r api.Row) {
	line(w, clock(r.CreatedAt), plain(r.Node), r.Direction, r.RequestType, r.Status, r.StatusCode, r.DurationMs, plain(r.Caller), r.TraceID)
	if r.ErrorMessage != "" {
		line(w, "    "+flat(r.ErrorMessage))
	}
}
