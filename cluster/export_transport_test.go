package cluster

import (
	"crypto/tls"
	"net"
)

// Accepting is what raft accepts connections from.
func Accepting(ln net.Listener, server *tls.Config) net.Listener {
	return &stream{Listener: ln, server: server}
}
