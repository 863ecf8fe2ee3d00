package httpserver

import (
	"time"

	"muster"
	"muster/httpserver/api"
)

// maxAlone is how long after the last word of the master a node believes its
// copy of the registry: a key may have been revoked meanwhile.
const maxAlone = time.Minute

// trusting reports whether a route must know that its caller still has the
// rights it had. What only reads or searches does not, and of what nodes ask
// each other, only to run something does. What tells why there is no master has
// to answer while there is none.
func (r Route) trusting() bool {
	if r.Path == api.PathDoctor {
		return false
	}
	switch r.Scope {
	case muster.ScopePublic, muster.ScopeAny, muster.ScopeRead, muster.ScopeSearch, scopeShow:
		return false
	case muster.ScopeNode:
		return r.Path == api.PathRun || r.Path == api.PathLead
	default:
		return true
	}
}

// isolated refuses such a route on a node that has not heard the master for too
// long.
func (s *Server) isolated(route Route) error {
	if !route.trusting() {
		return nil
	}
	alone := s.cfg.Cluster.Sight().Stale
	if alone < maxAlone {
		return nil
	}
	return muster.Errorf(muster.NoMaster, "this node has had no contact to the master for %v", alone.Truncate(time.Second)).
		WithHint("until it has, it reads and searches only; ask another node")
}
