package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"net"
)

// Accepting is what raft accepts connections from.
func Accepting(ln net.Listener, server *tls.Config) net.Listener {
	return &stream{Listener: ln, server: server}
}

// AcceptingWhile is Accepting, and cuts those who are not trusted any more.
func AcceptingWhile(ln net.Listener, server *tls.Config, trusts func(*x509.Certificate) bool) (net.Listener, func() error) {
	s := &stream{Listener: ln, server: server, links: links{trusts: trusts}}
	return s, s.links.cut
}
