package httpserver

import (
	"context"

	"muster"
	"muster/httpserver/api"
)

// Membership is who is in, and who leads.
type Membership interface {
	Members
	Mover
}

// Mover changes this node's own place in the cluster.
type Mover interface {
	Leave(ctx context.Context, w muster.Write) error
	Transfer(ctx context.Context, to string) error // only the master can
}

func (s *Server) moveTable() []Route {
	return []Route{
		{Method: "POST", Path: "/v1/cluster/leave", Scope: muster.ScopeAdmin, Write: true, Bare: true, Handle: s.leave},
		{Method: "POST", Path: "/v1/cluster/transfer", Scope: muster.ScopeAdmin, Write: true, Handle: s.transfer},
	}
}

func (s *Server) leave(ctx context.Context, r *Request) (any, error) {
	return map[string]bool{"success": true}, s.cfg.Cluster.Leave(ctx, r.write())
}

// transfer is done by the master. Another node sends it there, once.
func (s *Server) transfer(ctx context.Context, r *Request) (any, error) {
	var ask api.Transfer
	if len(r.Body) > 0 {
		if err := api.Decode(r.Body, &ask); err != nil {
			return nil, err
		}
	}
	master := s.cfg.Cluster.Status().Master
	switch {
	case master == nil:
		return nil, muster.Errorf(muster.NoMaster, "there is no master now").WithHint("a majority of voters must be up")
	case master.ID == s.cfg.ID || r.Node != "":
		return map[string]bool{"success": true}, s.cfg.Cluster.Transfer(ctx, ask.To)
	}
	n, ok := s.cfg.Cluster.Node(master.ID)
	if !ok {
		return nil, muster.Errorf(muster.NoMaster, "the master %s is not in the registry yet", master.ID)
	}
	got, err := s.sendOn(ctx, n, r.Rights, api.Request{Method: r.Method, Path: r.Path, Body: r.Body})
	return status{got.Status, got.Body}, err
}
