package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"muster"

	"github.com/hashicorp/raft"
)

// stream carries raft over mutual TLS. A dialled server must prove the node ID
// that raft means to talk to.
type stream struct {
	net.Listener
	advertise address
	server    *tls.Config
	client    func(peerID string) *tls.Config
	links     links
}

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

func listen(cfg Config) (*stream, error) {
	bind, advertise := cfg.Bind, cfg.Self.Raft
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", bind)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, muster.Errorf(muster.Unavailable, "raft port %s is taken by another program: %w", bind, err).
			WithHint("stop it, or choose another port with --raft or --port")
	}
	if err != nil {
		return nil, fmt.Errorf("listen for raft on %s: %w", bind, err)
	}
	if advertise == "" {
		advertise = ln.Addr().String()
	}
	return &stream{
		Listener: ln, advertise: address(advertise), server: cfg.ServerTLS, client: cfg.ClientTLS, links: links{trusts: cfg.Trusts},
	}, nil
}

// Accept waits for the next connection, not for its handshake: that is made
// when raft first reads from it, so that nobody holds up the others.
func (s *stream) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &link{Conn: tls.Server(conn, s.server), all: &s.links}, nil
}

// handshakeLimit bounds how long a stranger may hold a connection.
const handshakeLimit = 5 * time.Second

// link is a connection that is cut if its handshake is not done in time. raft
// reads from it in one goroutine.
type link struct {
	*tls.Conn
	all    *links
	proved bool
}

// Read reads what the peer sent, once it has proved who it is.
func (l *link) Read(b []byte) (int, error) {
	if !l.proved {
		ctx, cancel := context.WithTimeout(context.Background(), handshakeLimit)
		defer cancel()
		if err := l.prove(ctx); err != nil {
			return 0, fmt.Errorf("prove %s: %w", l.RemoteAddr(), err)
		}
	}
	return l.Conn.Read(b)
}

func (l *link) prove(ctx context.Context) error {
	if err := l.HandshakeContext(ctx); err != nil {
		return err
	}
	l.proved = true
	return l.all.add(l)
}

// Close ends the connection.
func (l *link) Close() error {
	l.all.drop(l)
	return l.Conn.Close()
}

// Addr is the address told to others.
func (s *stream) Addr() net.Addr { return s.advertise }

// Dial connects to an address in the form that targets.ServerAddr gives it.
func (s *stream) Dial(target raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, addr, ok := strings.Cut(string(target), "@")
	if !ok {
		return nil, fmt.Errorf("dial raft at %s: no node ID to check", target)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	l := &link{Conn: tls.Client(conn, s.client(id)), all: &s.links}
	if err := l.prove(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// targets finds a server's present address by its ID: gossip's first, then the
// one it registered. Raft's own record of addresses is never relied on, so that
// a cluster survives all of them changing at once.
type targets struct {
	self  muster.Joining
	peers Peers
	reg   interface {
		RaftAddress(id string) (string, bool)
	}
}

// ServerAddr returns "id@host:port".
func (t targets) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	join := func(addr string) (raft.ServerAddress, error) {
		return raft.ServerAddress(string(id) + "@" + addr), nil
	}
	if string(id) == t.self.ID {
		return join(t.self.Raft)
	}
	if p, ok := t.peers.Peer(string(id)); ok && p.Raft != "" {
		return join(p.Raft)
	}
	if addr, ok := t.reg.RaftAddress(string(id)); ok {
		return join(addr)
	}
	return "", fmt.Errorf("no address known for node %s", id)
}

// addressOf is what raft's configuration records as a server's address: its ID
// again. A real address would be wrong after a move, and raft refuses a newcomer
// at an address that it has on record for a dead server.
func addressOf(id string) raft.ServerAddress { return raft.ServerAddress(id) }
