package cluster

import (
	"crypto/x509"
	"errors"
	"sync"
)

var errDistrusted = errors.New("its certificate does not hold any more")

// links are the connections whose peer has proved who it is, at either end.
type links struct {
	trusts func(*x509.Certificate) bool // nil: everybody who got through the handshake

	mu   sync.Mutex
	open map[*link]*x509.Certificate // guarded by mu; by what the peer proved itself
}

// add notes a link, unless its peer is not trusted now: it may have begun its
// handshake before that changed.
func (s *links) add(l *link) error {
	cert := l.ConnectionState().PeerCertificates[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trusts != nil && !s.trusts(cert) {
		return errDistrusted
	}
	if s.open == nil {
		s.open = map[*link]*x509.Certificate{}
	}
	s.open[l] = cert
	return nil
}

func (s *links) drop(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, l)
}

// cut ends what is not trusted any more.
func (s *links) cut() (err error) {
	s.mu.Lock()
	var strange []*link
	for l, cert := range s.open {
		if s.trusts != nil && !s.trusts(cert) {
			strange = append(strange, l)
		}
	}
	s.mu.Unlock()
	for _, l := range strange {
		err = errors.Join(err, l.Close())
	}
	return err
}

// CutOff ends raft connections whose peer's certificate does not hold any more:
// one that was made before the secret changed would outlive it. Peers that know
// the new secret connect again at once.
func (c *Cluster) CutOff() error { return c.stream.links.cut() }
