package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"muster/gossip"
)

// trusted are the networks of proxies that speak for their clients.
func (c Config) trusted() (nets []netip.Prefix, err error) {
	for _, text := range c.TrustedProxy {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if ip, single := netip.ParseAddr(text); single == nil {
			prefix, err = netip.PrefixFrom(ip, ip.BitLen()), nil
		}
		if err != nil {
			return nil, flagError("trusted-proxy", fmt.Sprintf("%q is not a network like 10.0.0.0/8", text))
		}
		nets = append(nets, prefix.Masked())
	}
	return nets, nil
}

// isPeer reports whether an address is one of those that gossip has of nodes.
func isPeer(pool *gossip.Pool, ip netip.Addr) bool {
	for _, peer := range pool.Peers() {
		for _, addr := range []string{peer.Gossip, peer.Raft, peer.HTTP} {
			host, _, _ := net.SplitHostPort(addr)
			if at, err := netip.ParseAddr(host); err == nil && at.Unmap() == ip {
				return true
			}
		}
	}
	return false
}
