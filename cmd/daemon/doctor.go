package daemon

import (
	"context"
	"crypto/tls"
	"net"
	"path/filepath"
	"time"

	"muster"
	"muster/cluster/trust"
	"muster/gossip"
	"muster/httpserver/api"
	"muster/httpserver/doctor"
)

var _ doctor.Ports = ports{}

// portTime is how long a port may take to answer before it counts as closed.
const portTime = 1500 * time.Millisecond

// doctor looks at this node.
func (d *Daemon) doctor(out *wire) *doctor.Doctor {
	return doctor.New(doctor.Config{
		Self: d.id.ID, Cluster: d.member, Ports: ports{out, d.pool, d.certs}, Peer: d.pool.Peer, Voters: d.reg.Voters,
		Secret: d.secretFile, Identity: filepath.Join(d.cfg.DataDir, "identity"), Dir: d.cfg.DataDir, Free: freeSpace,
	})
}

// ports reaches agents the way this node does in its work.
type ports struct {
	wire  *wire
	pool  *gossip.Pool
	certs *trust.Certificates
}

// HTTP asks for the node's health.
func (p ports) HTTP(ctx context.Context, to muster.Peer) (api.Health, error) {
	ctx, cancel := context.WithTimeout(ctx, portTime)
	defer cancel()
	h, err := p.wire.to(to, p.wire.self(), p.wire.pairs.Sign, "").Health(ctx)
	if err == nil && h.ID != to.ID {
		err = muster.Errorf(muster.Unavailable, "another node answers there, %s", h.Name)
	}
	return h, err
}

// Gossip pings the node.
func (p ports) Gossip(ctx context.Context, to muster.Peer) error {
	ctx, cancel := context.WithTimeout(ctx, portTime)
	defer cancel()
	return p.pool.Ping(ctx, to)
}

// Raft has the node prove who it is, and says no more.
func (p ports) Raft(ctx context.Context, to muster.Peer) error {
	ctx, cancel := context.WithTimeout(ctx, portTime)
	defer cancel()
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: p.certs.Client(to.ID)}).DialContext(ctx, "tcp", to.Raft)
	if err != nil {
		return err
	}
	return conn.Close()
}
