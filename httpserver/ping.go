package httpserver

import (
	"context"
	"net/http"
	"strconv"

	"muster"
	"muster/httpserver/api"

	"github.com/go-json-experiment/json"
)

// Pinger pings nodes by the node protocol.
type Pinger interface {
	Ping(ctx context.Context, nodes []muster.Node) muster.Pings
}

// Circuits are this node's circuit breakers.
type Circuits interface {
	Circuit(nodeID string) muster.Circuit
	Circuits() map[string]muster.Circuit
}

func (s *Server) pingTable() []Route {
	return []Route{
		{Method: "POST", Path: "/v1/nodes/ping", Scope: muster.ScopeRegistry, Bare: true, Handle: s.pingAll},
		{Method: "POST", Path: "/v1/nodes/{slug}/ping", Scope: muster.ScopeRegistry, Bare: true, Handle: s.pingOne},
	}
}

func (s *Server) pingAll(ctx context.Context, r *Request) (any, error) { return s.ping(ctx, r, "") }

func (s *Server) pingOne(ctx context.Context, r *Request) (any, error) {
	return s.ping(ctx, r, r.Params["slug"])
}

// ping has the master ping a node, or all without a slug: its word counts.
// Without a master this node does, and it counts for nothing but the answer.
func (s *Server) ping(ctx context.Context, r *Request, slug string) (pings muster.Pings, err error) {
	if master := s.cfg.Cluster.Status().Master; master != nil && master.ID != s.cfg.ID && r.Node == "" {
		if n, known := s.cfg.Cluster.Node(master.ID); known {
			return s.pingThere(ctx, r, n)
		}
	}
	var nodes []muster.Node
	for _, n := range s.cfg.Cluster.Nodes() {
		if n.DeletedAt == nil && (slug == "" || n.Slug == slug) {
			nodes = append(nodes, n)
		}
	}
	if len(nodes) == 0 {
		return pings, muster.Errorf(muster.NotFound, "no node %s", slug).WithHint("muster node list shows them")
	}
	return s.cfg.Pinger.Ping(ctx, nodes), nil
}

// pingThere has the master ping, and waits until this node knows what it saw.
func (s *Server) pingThere(ctx context.Context, r *Request, master muster.Node) (pings muster.Pings, err error) {
	got, err := s.sendOn(ctx, master, r.Rights, api.Request{Method: http.MethodPost, Path: r.Path})
	if err != nil {
		return pings, err
	}
	if err := json.Unmarshal(got.Body, &pings); err != nil {
		return pings, muster.Errorf(muster.OutcomeUnknown, "answer of the master: %w", err)
	}
	if index, err := strconv.ParseUint(got.Header.Get("X-Muster-Index"), 10, 64); err == nil {
		return pings, s.cfg.Cluster.WaitIndex(ctx, index)
	}
	return pings, nil
}

// circuit is this node's breaker for a node; nil if there are none.
func (s *Server) circuit(id string) *muster.Circuit {
	if s.cfg.Circuits == nil {
		return nil
	}
	c := s.cfg.Circuits.Circuit(id)
	return &c
}
