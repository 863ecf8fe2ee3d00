package gossip

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"

	"muster"
)

// transport is memberlist's own, but what it dials ends with the pool: a
// silent address must not hold up stopping.
type transport struct {
	*memberlist.NetTransport
	dial func(addr string, timeout time.Duration) (net.Conn, error)
}

func (p *Pool) listen(loop context.Context, conf *memberlist.Config) (*transport, error) {
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{conf.BindAddr}, BindPort: conf.BindPort, Logger: newLibraryLog(p.log),
	})
	// memberlist gives the cause as text only.
	if err != nil && strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) {
		return nil, muster.Errorf(muster.Unavailable, "gossip port %s is taken by another program", p.cfg.Bind).
			WithHint("stop it, or choose another port with --gossip or --port")
	}
	if err != nil {
		return nil, fmt.Errorf("open gossip on %s: %w", p.cfg.Bind, err)
	}
	return &transport{inner, func(addr string, timeout time.Duration) (net.Conn, error) {
		conn, err := (&net.Dialer{Timeout: timeout}).DialContext(loop, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return &dialed{Conn: conn, forget: context.AfterFunc(loop, func() { _ = conn.Close() })}, nil
	}}, nil
}

// DialTimeout connects to an address.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.dial(addr, timeout)
}

// DialAddressTimeout connects to a peer.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.dial(a.Addr, timeout)
}

// dialed is a connection that ends with the pool.
type dialed struct {
	net.Conn

	forget func() bool
}

// Close ends the connection.
func (d *dialed) Close() error {
	d.forget()
	return d.Conn.Close()
}
