package gossip

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"muster"
)

// Ping finds out whether a peer's gossip port answers from here: over UDP, where
// the peer itself must answer, and over TCP, where it is enough that it listens.
// It takes no longer than a probe of the gossip's own and ctx allows.
func (p *Pool) Ping(ctx context.Context, peer muster.Peer) error {
	at, err := netip.ParseAddrPort(peer.Gossip)
	if err != nil {
		return fmt.Errorf("gossip address %q: %w", peer.Gossip, err)
	}
	if _, err := p.list.Ping(peer.ID, net.UDPAddrFromAddrPort(at)); err != nil {
		return fmt.Errorf("no answer over UDP: %w", err)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", peer.Gossip)
	if err != nil {
		return fmt.Errorf("over UDP it answers, over TCP not: %w", err)
	}
	return conn.Close()
}
