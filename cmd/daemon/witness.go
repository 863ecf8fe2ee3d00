package daemon

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"muster"
	"muster/actions"
	"muster/httpserver/api"
	"muster/httpserver/reqlog"
)

// requestsTime is how long a node may take to list its rows.
const requestsTime = 3 * time.Second

// startRequests opens the request log, which sees all calls from the first on.
func (d *Daemon) startRequests(ctx context.Context) error {
	d.requests = reqlog.New(reqlog.Config{
		Path: filepath.Join(d.cfg.DataDir, "requests.db"), Self: d.id.ID, Log: d.log,
		Slug: d.reg.Slug, Secrets: d.secretParams,
	})
	if err := d.requests.Start(ctx); err != nil {
		return err
	}
	d.onStop("request log", d.requests.Stop)
	return nil
}

// record sees every call at the wire, in and out.
func (d *Daemon) record(c api.Call) {
	d.requests.Record(c)
	if c.Pending {
		return
	}
	d.meters.Call(c)
	d.log.Debug("call", "direction", c.Direction, "method", c.Method, "path", c.Path, "status", c.Status, "caller", c.Caller,
		"request_id", c.RequestID, "trace_id", c.TraceID, "duration_ms", c.Duration.Milliseconds(), "error", c.Err)
}

// secretParams names the secret parameters of an action of this node.
func (d *Daemon) secretParams(action string) (names []string, known bool) {
	executor := d.executor.Load()
	if executor == nil {
		return nil, false
	}
	return executor.SecretParams(action)
}

// forget removes the rows of nodes that have left the registry for good, until
// ctx ends. It begins when this copy of the registry is whole.
func (d *Daemon) forget(ctx context.Context) {
	select {
	case <-d.member.Entered():
	case <-ctx.Done():
		return
	}
	before := map[string]bool{"": true} // look once at the start: this node may have been down
	for {
		changed := d.reg.Changed()
		now := d.reg.NodeIDs()
		if gone(before, now) {
			if err := d.requests.Keep(ctx, func(id string) bool { return now[id] }); err != nil && ctx.Err() == nil {
				d.log.Warn("rows of removed nodes stay in the request log", "error", err)
			}
		}
		before = now
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		select { // many changes come at once
		case <-time.After(forgetPause):
		case <-ctx.Done():
			return
		}
	}
}

const forgetPause = time.Second

// gone reports whether one that was there is not there now.
func gone(before, now map[string]bool) bool {
	for id := range before {
		if !now[id] {
			return true
		}
	}
	return false
}

// requests is the request log of this node and of all.
type requests struct {
	*reqlog.Log
	self  string
	nodes actions.Nodes
	wire  *wire
}

// ListAll merges the rows of all agents, page by page: IDs are in order of
// time, so each node goes on behind the same one.
func (r requests) ListAll(ctx context.Context, f api.RequestFilter) (api.Requests, error) {
	ctx, cancel := context.WithTimeout(ctx, requestsTime)
	defer cancel()
	page, err := r.List(ctx, f)
	if err != nil {
		return page, err
	}
	more := page.Cursor != ""
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, n := range r.nodes.Nodes() {
		if n.ID == r.self || n.DeletedAt != nil || n.Kind != muster.KindAgent || n.Observed == muster.ObservedLeft {
			continue
		}
		wg.Go(func() {
			got, err := r.wire.at(n, muster.RightsOf(ctx)).OwnRequests(ctx, f)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				page.Missing = append(page.Missing, n.Slug)
				return
			}
			page.Requests, page.Dropped = append(page.Requests, got.Requests...), page.Dropped+got.Dropped
			more = more || got.Cursor != ""
		})
	}
	wg.Wait()
	return firstPage(page, f.Limit, more), nil
}

// firstPage is the newest rows of a merge. More says that a node has further
// ones behind those it gave.
func firstPage(page api.Requests, limit int, more bool) api.Requests {
	slices.SortFunc(page.Requests, func(a, b api.Row) int { return strings.Compare(b.ID, a.ID) })
	slices.Sort(page.Missing)
	page.Cursor = ""
	if len(page.Requests) > limit {
		page.Requests, more = page.Requests[:limit], true
	}
	if more {
		page.Cursor = page.Requests[len(page.Requests)-1].ID
	}
	return page
}
