package httpserver

import (
	"context"

	"muster"
	"muster/httpserver/api"
)

func (s *Server) removePeer(ctx context.Context, r *Request) (any, error) {
	return map[string]bool{"success": true}, s.cfg.Cluster.RemovePeer(ctx, r.write(), r.Params["slug"])
}

// maxCommands is the most that a node forwards to the master in one call.
const maxCommands = 4 << 20

func (s *Server) apply(ctx context.Context, r *Request) (any, error) {
	return s.cfg.Cluster.Apply(ctx, r.Node, r.Body)
}

func (s *Server) join(ctx context.Context, r *Request) (any, error) {
	var j muster.Joining
	if err := api.Decode(r.Body, &j); err != nil {
		return nil, err
	}
	if r.Rights.Principal != "node:"+j.ID || r.CallID != j.CallID {
		return nil, muster.Errorf(muster.Forbidden, "%s cannot join as node %s", r.Rights.Principal, j.ID)
	}
	return s.cfg.Cluster.Join(ctx, j)
}

func (s *Server) readIndex(ctx context.Context, _ *Request) (any, error) {
	index, err := s.cfg.Cluster.ReadIndex(ctx)
	return api.Index{Index: index}, err
}
