package httpserver

import "muster"

// spans refuses a job that has nodes which the caller's targets leave out, unless
// it is the caller's own. A node that is gone is out of reach.
func (s *Server) spans(by muster.Rights, j muster.Job) error {
	if by.Targets == "" || j.Caller == by.Principal || j.Order == nil {
		return nil
	}
	for _, t := range j.Order.Targets {
		if n, ok := s.cfg.Cluster.Node(t.ID); !ok || !by.Reaches(n.Metadata) {
			return muster.OutOfReach(t.Slug)
		}
	}
	return nil
}

// reached refuses work at this node for a caller whose targets leave it out.
// The node that was asked checked that before; what it says is not relied on.
func (s *Server) reached(by muster.Rights) error {
	if by.Targets == "" {
		return nil
	}
	if n, ok := s.cfg.Cluster.Node(s.cfg.ID); ok && by.Reaches(n.Metadata) {
		return nil
	}
	return muster.OutOfReach(s.slug())
}
