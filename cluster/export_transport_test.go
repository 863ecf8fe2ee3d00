package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"time"

	"muster"

	"github.com/hashicorp/raft"
)

// Healthy judges a node by its last sign of life.
func Healthy(n muster.Node, seen, now time.Time) bool { return healthy(n, seen, now) }

// Contacts is the transport as a member hands it to raft.
func Contacts(t *raft.NetworkTransport) (trans raft.Transport, end func()) {
	c := newContacts(t)
	return c, c.end
}

// Accepting is what raft accepts connections from.
func Accepting(ln net.Listener, server *tls.Config) net.Listener {
	return &stream{Listener: ln, server: server}
}

// AcceptingWhile is Accepting, and cuts those who are not trusted any more.
func AcceptingWhile(ln net.Listener, server *tls.Config, trusts func(*x509.Certificate) bool) (net.Listener, func() error) {
	s := &stream{Listener: ln, server: server, links: links{trusts: trusts}}
	return s, s.links.cut
}

// Quiet is Contacts, and has it look at no more heartbeats.
func Quiet(t *raft.NetworkTransport) (trans raft.Transport, quiet func()) {
	c := newContacts(t)
	return c, c.quiet
}

// Keeper is the log as a member hands it to raft, since when it lacks entries,
// and how it is told that it lacks none any more.
func Keeper(l raft.LogStore, back func()) (logs raft.LogStore, since func() time.Time, level func()) {
	k := &keeper{LogStore: l, back: back}
	return k, func() time.Time {
		since, _ := k.behind()
		return since
	}, k.level
}
