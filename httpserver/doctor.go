package httpserver

import (
	"context"

	"muster"
	"muster/httpserver/api"
)

func (s *Server) doctor(ctx context.Context, _ *Request) (any, error) {
	if s.cfg.Doctor == nil {
		return nil, muster.Errorf(muster.NotFound, "this node does not look for faults")
	}
	return api.Findings{Findings: s.cfg.Doctor(ctx)}, nil
}
