package httpserver

import (
	"context"
	"strconv"
	"strings"

	"muster"
	"muster/httpserver/api"
)

// Curation is what keeps the registry in order.
type Curation interface {
	Curator
	Bulk
	Finder
}

// Curator changes nodes that are there.
type Curator interface {
	UpdateNode(ctx context.Context, w muster.Write, e muster.Edit, change muster.NodeChange) (muster.Node, error)
	DeleteNode(ctx context.Context, w muster.Write, e muster.Edit) (muster.Node, error)
	RestoreNode(ctx context.Context, w muster.Write, slug string) (muster.Node, error)
}

// Bulk changes many nodes at once, or says what it would do. SyncNodes may
// return a plan and an error: what would be done, and why it was not.
type Bulk interface {
	SyncNodes(ctx context.Context, w muster.Write, s muster.Sync, apply bool) (muster.SyncPlan, error)
	CleanupNodes(ctx context.Context, w muster.Write, what muster.Cleanup, apply bool) (muster.CleanupPlan, error)
}

// Finder finds nodes by what they are called and what they can do.
type Finder interface {
	Find(slug string) (muster.Node, bool) // not among deleted ones
	Capable(c muster.Capability) []muster.Node
}

func (s *Server) curateTable() []Route {
	return []Route{
		{Method: "PATCH", Path: "/v1/nodes/{slug}", Scope: muster.ScopeRegistry, Write: true, Handle: s.updateNode},
		{Method: "DELETE", Path: "/v1/nodes/{slug}", Scope: muster.ScopeRegistry, Write: true, Handle: s.deleteNode},
		{Method: "POST", Path: "/v1/nodes/{slug}/restore", Scope: muster.ScopeRegistry, Write: true, Bare: true, Handle: s.restoreNode},
		{Method: "POST", Path: "/v1/nodes/sync", Scope: muster.ScopeRegistry, Write: true, Handle: s.syncNodes},
		{Method: "POST", Path: "/v1/nodes/cleanup", Scope: muster.ScopeRegistry, Write: true, Handle: s.cleanupNodes},
		{Method: "GET", Path: "/v1/stats", Scope: muster.ScopeRead, Query: []string{"consistency", "min_index"}, Handle: s.stats},
	}
}

// edit is the node that a request is about, and the index of its record that
// If-Match gives: a number, in quotes or not.
func (r *Request) edit() (muster.Edit, error) {
	e := muster.Edit{Slug: r.Params["slug"]}
	text := strings.TrimSpace(r.Match)
	if text == "" || text == "*" {
		return e, nil
	}
	if inner, ok := strings.CutPrefix(text, `"`); ok {
		text = strings.TrimSuffix(inner, `"`)
	}
	index, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return e, muster.FieldError(api.HeaderMatch, "must be the index of a node's record")
	}
	e.Seen = &index
	return e, nil
}

func (s *Server) updateNode(ctx context.Context, r *Request) (any, error) {
	var change api.NodePatch
	if err := api.Decode(r.Body, &change); err != nil {
		return nil, err
	}
	bad := complaints{}
	bad.node(change.NodeChange)
	bad.distant(s.cfg.Distant, change.URL)
	if text := change.Credential; text != nil {
		bad.when(*text == "" || !goodCredential(*text), "credential", "must be 1 to 4096 printable ASCII characters without spaces")
	}
	if err := bad.err("the change has invalid fields"); err != nil {
		return nil, err
	}
	e, err := r.edit()
	if err != nil {
		return nil, err
	}
	e.Credential = change.Credential
	return s.cfg.Cluster.UpdateNode(ctx, r.write(), e, change.NodeChange)
}

func (s *Server) deleteNode(ctx context.Context, r *Request) (any, error) {
	e, err := r.edit()
	if err != nil {
		return nil, err
	}
	n, err := s.cfg.Cluster.DeleteNode(ctx, r.write(), e)
	return api.Deleted{Success: true, Node: n}, err
}

func (s *Server) restoreNode(ctx context.Context, r *Request) (any, error) {
	return s.cfg.Cluster.RestoreNode(ctx, r.write(), r.Params["slug"])
}

const maxCleanupDays = 3650

func (s *Server) cleanupNodes(ctx context.Context, r *Request) (any, error) {
	ask := api.CleanupRequest{Days: 14, Statuses: []muster.Status{muster.StatusError, muster.StatusInactive}}
	if len(r.Body) > 0 {
		if err := api.Decode(r.Body, &ask); err != nil {
			return nil, err
		}
	}
	bad := complaints{}
	bad.when(ask.Days < 0 || ask.Days > maxCleanupDays, "days", "must be from 0 to 3650")
	bad.when(len(ask.Statuses) == 0, "statuses", "at least one is needed")
	for _, status := range ask.Statuses {
		bad.when(status.Color() == "gray" && status != muster.StatusInactive, "statuses", strconv.Quote(string(status))+" is no status")
	}
	if err := bad.err("the clean-up has invalid fields"); err != nil {
		return nil, err
	}
	what := muster.Cleanup{Days: ask.Days, Statuses: ask.Statuses}
	return s.cfg.Cluster.CleanupNodes(ctx, r.write(), what, ask.Apply)
}

func (s *Server) stats(ctx context.Context, r *Request) (any, error) {
	if err := s.fresh(ctx, r.Query); err != nil {
		return nil, err
	}
	return count(s.cfg.Cluster.Nodes()), nil
}

// count sums up the nodes that are not deleted. The mean response time is that of
// the active ones whose time is known.
func count(nodes []muster.Node) api.Stats {
	sum := api.Stats{ByType: map[muster.NodeType]int{}, ByCapability: map[muster.Capability]int{}}
	total, known := 0.0, 0
	for _, n := range nodes {
		if n.DeletedAt != nil {
			continue
		}
		sum.Total++
		sum.ByType[n.Type]++
		for _, word := range n.Capabilities {
			sum.ByCapability[word]++
		}
		if n.Healthy {
			sum.Healthy++
		}
		if n.Status == muster.StatusActive && n.AvgResponseTime != nil {
			total, known = total+*n.AvgResponseTime, known+1
		}
		switch n.Status {
		case muster.StatusActive:
			sum.Active++
		case muster.StatusInactive:
			sum.Inactive++
		case muster.StatusMaintenance:
			sum.Maintenance++
		case muster.StatusError:
			sum.Error++
		}
	}
	if known > 0 {
		mean := total / float64(known)
		sum.AvgResponseTime = &mean
	}
	return sum
}

func (s *Server) syncNodes(ctx context.Context, r *Request) (any, error) {
	var ask api.SyncRequest
	if err := api.Decode(r.Body, &ask); err != nil {
		return nil, err
	}
	if ask.Nodes == nil {
		return nil, muster.FieldError("nodes", "must be a list of nodes")
	}
	return s.cfg.Cluster.SyncNodes(ctx, r.write(), readRows(ask, s.cfg.Distant), ask.Apply)
}
