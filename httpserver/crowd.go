package httpserver

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"muster"

	"github.com/valyala/fasthttp"
)

const (
	maxConnections = 200 // of one address
	// maxRefused is how many connections of one address beyond that get an answer;
	// any more are closed at once.
	maxRefused    = 50
	refusedWithin = 2 * time.Second // a connection too many is answered, or closed
)

// crowd counts the connections of each address. Those of this machine, of
// nodes of the cluster and of trusted proxies may be any number; of a proxy,
// the requests of each of its clients count instead.
type crowd struct {
	trusted []netip.Prefix
	peer    func(netip.Addr) bool

	mu      sync.Mutex
	open    map[netip.Addr]int          // guarded by mu; connections, or requests by way of a proxy
	refused map[netip.AddrPort]struct{} // guarded by mu; the other ends of connections too many
}

func newCrowd(trusted []netip.Prefix, peer func(netip.Addr) bool) *crowd {
	return &crowd{trusted: trusted, peer: peer, open: map[netip.Addr]int{}, refused: map[netip.AddrPort]struct{}{}}
}

// at is the address of the other end of a connection.
func at(addr net.Addr) netip.AddrPort {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	end := tcp.AddrPort()
	return netip.AddrPortFrom(end.Addr().Unmap().WithZone(""), end.Port())
}

func (c *crowd) proxy(ip netip.Addr) bool {
	return slices.ContainsFunc(c.trusted, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// enter counts one more of an address and returns how many there are above the
// limit. It is undone by leave.
func (c *crowd) enter(ip netip.Addr) (over int) {
	c.mu.Lock()
	c.open[ip]++
	n := c.open[ip]
	c.mu.Unlock()
	if n <= maxConnections || ip.IsLoopback() || c.peer(ip) {
		return 0
	}
	return n - maxConnections
}

func (c *crowd) leave(ip netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[ip]--; c.open[ip] <= 0 {
		delete(c.open, ip)
	}
}

// mark notes whether the connection from an end is one too many.
func (c *crowd) mark(end netip.AddrPort, many bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if many {
		c.refused[end] = struct{}{}
	} else {
		delete(c.refused, end)
	}
}

// admit finds out whether a request may come in. What it returns is called when
// the request is done.
func (c *crowd) admit(r *fasthttp.RequestCtx) (done func(), err error) {
	end := at(r.RemoteAddr())
	c.mu.Lock()
	_, many := c.refused[end]
	c.mu.Unlock()
	if many {
		r.SetConnectionClose()
		return func() {}, tooMany()
	}
	if !c.proxy(end.Addr()) {
		return func() {}, nil
	}
	client, ok := c.client(r)
	if !ok {
		return func() {}, nil // the proxy itself
	}
	done = func() { c.leave(client) }
	if c.enter(client) > 0 {
		return done, tooMany()
	}
	return done, nil
}

// client is who a trusted proxy asks for: the last of the addresses that is no
// trusted proxy itself. What stands before it could be anybody's word.
func (c *crowd) client(r *fasthttp.RequestCtx) (client netip.Addr, ok bool) {
	lines := r.Request.Header.PeekAll("X-Forwarded-For")
	hops := strings.Split(string(bytes.Join(lines, []byte(","))), ",")
	for _, hop := range slices.Backward(hops) {
		ip, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			return client, ok
		}
		client, ok = ip.Unmap().WithZone(""), true
		if !c.proxy(client) {
			return client, true
		}
	}
	return client, ok
}

// doorman is a listener that counts who comes in.
type doorman struct {
	net.Listener
	crowd *crowd
}

// Accept waits for the next connection. One too many is let in for a moment, to
// be told so.
func (d doorman) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		end := at(conn.RemoteAddr())
		if d.crowd.proxy(end.Addr()) {
			return conn, nil
		}
		over := d.crowd.enter(end.Addr())
		g := &guest{Conn: conn, crowd: d.crowd, end: end}
		if over > maxRefused {
			_ = g.Close()
			continue
		}
		if over > 0 {
			g.until = time.Now().Add(refusedWithin)
			d.crowd.mark(end, true)
		}
		return g, nil
	}
}

// guest is a connection that is counted. Until is set for one too many.
type guest struct {
	net.Conn
	crowd *crowd
	end   netip.AddrPort
	until time.Time
	once  sync.Once
}

// SetReadDeadline never gives a connection too many more time.
func (g *guest) SetReadDeadline(t time.Time) error {
	if !g.until.IsZero() && (t.IsZero() || t.After(g.until)) {
		t = g.until
	}
	return g.Conn.SetReadDeadline(t)
}

// Close ends the connection, and counts it no more.
func (g *guest) Close() error {
	g.once.Do(func() {
		if !g.until.IsZero() {
			g.crowd.mark(g.end, false)
		}
		g.crowd.leave(g.end.Addr())
	})
	return g.Conn.Close()
}

func tooMany() error {
	return muster.Errorf(muster.Limited, "more than %d connections from one address", maxConnections).
		WithCode("too_many_connections").WithHint("close those that are not in use")
}
