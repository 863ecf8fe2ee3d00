package httpserver

import (
	"context"
	"strconv"
	"time"

	"muster"
	"muster/httpserver/api"

	"github.com/google/uuid"
)

// Requests is the request log: of this node, and of all. SuccessRate is the
// percentage of successes among the calls to a node in the last hour that this
// node knows of; nil without any.
type Requests interface {
	List(ctx context.Context, f api.RequestFilter) (api.Requests, error)
	ListAll(ctx context.Context, f api.RequestFilter) (api.Requests, error)
	SuccessRate(nodeID string) *float64
}

// watchTable is what tells how the node does.
func (s *Server) watchTable() []Route {
	filter := []string{"node", "type", "status", "since", "slow_ms", "trace", "limit", "cursor"}
	metrics := muster.ScopeRead
	if s.cfg.MetricsOpen {
		metrics = muster.ScopePublic
	}
	return []Route{
		{Method: "GET", Path: "/v1/requests", Scope: muster.ScopeRead, Query: append([]string{"scope"}, filter...), Handle: s.listRequests},
		{Method: "GET", Path: api.PathRequests, Scope: muster.ScopeNode, Query: filter, Handle: s.ownRequests},
		{Method: "GET", Path: "/metrics", Scope: metrics, Handle: s.metrics},
	}
}

func (s *Server) listRequests(ctx context.Context, r *Request) (any, error) {
	if err := oneOf(r.Query, "scope", "local", "cluster"); err != nil {
		return nil, err
	}
	f, err := s.requestFilter(r)
	if err != nil {
		return nil, err
	}
	f.Everyone = r.Query.Get("scope") == "cluster"
	switch {
	case s.cfg.Requests == nil:
		return nil, noRequests()
	case f.Everyone:
		return s.cfg.Requests.ListAll(ctx, f)
	default:
		return s.cfg.Requests.List(ctx, f)
	}
}

// ownRequests is this node's part of a list that another node makes. The
// rights of the one who asked for it are checked here again.
func (s *Server) ownRequests(ctx context.Context, r *Request) (any, error) {
	if err := need(r.Rights, muster.ScopeRead); err != nil {
		return nil, err
	}
	f, err := s.requestFilter(r)
	if err != nil {
		return nil, err
	}
	if s.cfg.Requests == nil {
		return nil, noRequests()
	}
	return s.cfg.Requests.List(ctx, f)
}

func noRequests() error { return muster.Errorf(muster.NotFound, "this node keeps no request log") }

// requestFilter reads which rows are wanted, and adds whose the caller may see:
// all for admins, else the caller's own and those about the caller's node.
func (s *Server) requestFilter(r *Request) (f api.RequestFilter, err error) {
	q := r.Query
	f = api.RequestFilter{Node: q.Get("node"), Type: q.Get("type"), Status: q.Get("status"), Trace: q.Get("trace"), Cursor: q.Get("cursor")}
	if f.Limit, err = pageLimit(q); err != nil {
		return f, err
	}
	if err := oneOf(q, "type", api.TypeSearch, api.TypeAction, api.TypeSync, api.TypePing); err != nil {
		return f, err
	}
	if err := oneOf(q, "status", api.RowPending, api.RowSuccess, api.RowFailed); err != nil {
		return f, err
	}
	if q.Has("since") {
		if f.Since, err = api.Since(q.Get("since"), time.Now()); err != nil {
			return f, err
		}
	}
	if q.Has("slow_ms") {
		ms, err := strconv.ParseUint(q.Get("slow_ms"), 10, 31)
		if err != nil {
			return f, muster.FieldError("slow_ms", "must be a whole number, not below 0")
		}
		f.Slow = time.Duration(ms) * time.Millisecond
	}
	if q.Has("cursor") && uuid.Validate(f.Cursor) != nil {
		return f, muster.FieldError("cursor", "is not one that was given")
	}
	if !r.Rights.May(muster.ScopeAdmin) {
		f.Principal, f.Own = r.Rights.Principal, r.Rights.NodeID
	}
	return f, nil
}

func (s *Server) successRate(nodeID string) *float64 {
	if s.cfg.Requests == nil {
		return nil
	}
	return s.cfg.Requests.SuccessRate(nodeID)
}

func (s *Server) metrics(context.Context, *Request) (any, error) {
	if s.cfg.Metrics == nil {
		return nil, muster.Errorf(muster.NotFound, "this node has no metrics")
	}
	raw, err := s.cfg.Metrics()
	return text{"text/plain; version=0.0.4; charset=utf-8", raw}, err
}
