package httpserver

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"muster"
	"muster/httpserver/api"
)

func (s *Server) self() muster.Node {
	if n, ok := s.cfg.Cluster.Node(s.cfg.ID); ok {
		return n
	}
	return muster.Node{ID: s.cfg.ID, Name: s.cfg.Name, Type: muster.TypeChild, Capabilities: []muster.Capability{}}
}

func (s *Server) slug() string { return s.cfg.Cluster.Sight().Self }

func (s *Server) health(context.Context, *Request) (any, error) {
	self := s.self()
	cluster := s.cfg.Cluster.Status()
	h := api.Health{
		Status: "healthy", Ready: true, Degraded: []string{}, ID: self.ID, Name: self.Name, Slug: self.Slug,
		Version: muster.Version, Capabilities: self.Capabilities, Type: self.Type, Cluster: cluster.ClusterID, Timestamp: time.Now().UTC(),
	}
	if cluster.Master != nil {
		h.Master = cluster.Master.Slug
	} else {
		h.Degraded = append(h.Degraded, "no_master")
	}
	if waiting := s.cfg.Waiting(); len(waiting) > 0 {
		h.Status, h.Ready, h.Checks = "unhealthy", false, waiting
		return status{http.StatusServiceUnavailable, h}, nil
	}
	return h, nil
}

func (s *Server) healthz(context.Context, *Request) (any, error) {
	return map[string]string{"status": "alive"}, nil
}

func (s *Server) readyz(_ context.Context, r *Request) (any, error) {
	if what := r.Query.Get("for"); r.Query.Has("for") && what != "write" {
		return nil, muster.FieldError("for", "must be write")
	}
	if waiting := s.cfg.Waiting(); len(waiting) > 0 {
		what := make([]string, 0, len(waiting))
		for part, why := range waiting {
			what = append(what, part+": "+why)
		}
		slices.Sort(what)
		return nil, muster.Errorf(muster.Unavailable, "not ready: %s", strings.Join(what, "; ")).WithCode("not_ready").
			WithHint("it goes on trying by itself; check --join and that a member is up")
	}
	if r.Query.Get("for") == "write" && s.cfg.Cluster.Status().Master == nil {
		return nil, muster.Errorf(muster.NoMaster, "there is no master now").WithHint("a majority of voters must be up")
	}
	return map[string]string{"status": "ready"}, nil
}

func (s *Server) nodeStatus(_ context.Context, r *Request) (any, error) {
	self := s.self()
	if n, ok := s.cfg.Cluster.Node(r.Rights.NodeID); ok {
		self = n
	}
	return map[string]any{
		"node": self, "caller": r.Rights.Principal, "cluster": s.cfg.Cluster.Status(),
		"health": map[string]any{
			"is_healthy": self.Healthy, "avg_response_time": self.AvgResponseTime,
			"ping_failures": self.PingFailures, "last_ping_at": self.LastPingAt, "success_rate": s.successRate(self.ID),
		},
		"circuit_breaker": s.circuit(self.ID), "load": s.load(self),
	}, nil
}

// load is how much a node has to do, and its share: of this one the requests
// under way, the one that asks among them; what others do is not known here.
func (s *Server) load(n muster.Node) map[string]any {
	load := map[string]any{"weight": n.Weight, "active_requests": nil}
	if n.ID == s.cfg.ID {
		load["active_requests"] = s.active.Load()
	}
	return load
}

func (s *Server) cluster(context.Context, *Request) (any, error) {
	status := s.cfg.Cluster.Status()
	status.OldSeals = s.cfg.Cluster.OldSeals()
	return status, nil
}
