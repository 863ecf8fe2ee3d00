package httpserver

import "muster"

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
