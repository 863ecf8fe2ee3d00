package daemon

import (
	"context"
	"crypto/ed25519"
	"net/http"

	"muster"
	"muster/cluster/trust"
	"muster/fsm"
	"muster/httpserver"
	"muster/httpserver/api"
)

// ExecuteOf is how a node has another one execute something.
func ExecuteOf(id trust.Identity, client *http.Client) func(context.Context, muster.Node, muster.Rights, muster.Execution) (muster.Result, error) {
	peer := func(string) (muster.Peer, bool) { return muster.Peer{}, false }
	nobody := func(string) (ed25519.PublicKey, bool) { return nil, false }
	return (&wire{id: id, pairs: trust.NewPairs(id, nobody), http: client.Transport, peer: peer, apps: &outside{breakers: &api.Breakers{}}}).Execute
}

// CallsOf checks signed calls as a node of a cluster with this identity and
// registry does.
func CallsOf(reg *fsm.Registry, id trust.Identity) func(token, method, path, key string, body func(httpserver.Caller) ([]byte, error)) (httpserver.Caller, error) {
	d := &Daemon{reg: reg, id: id}
	d.pairs = trust.NewPairs(id, d.nodeKey)
	g := d.gate()
	g.entered = func() bool { return true }
	return g.Call
}

// KeysOf checks bearer keys as a node with this registry does, which latest
// brings up to the master's.
func KeysOf(reg *fsm.Registry, latest func(context.Context) error) func(ctx context.Context, plain string) (muster.Rights, error) {
	g := (&Daemon{reg: reg}).gate()
	g.latest = latest
	return g.Key
}

// Turn is a change of secrets: each call puts some into the ring and the rest.
func Turn(ring *trust.Ring) func(secrets []trust.Secret, rest func() error) error {
	var t turn
	return func(secrets []trust.Secret, rest func() error) error { return t.to(ring, secrets, rest) }
}

// Meant is a client for the node with an ID, over connections shared with
// those for other nodes.
func Meant(shared *http.Transport, id string) *http.Client {
	return &http.Client{Transport: meant{id, shared}}
}

// NewDialer is newDialer.
func NewDialer(certs *trust.Certificates) *http.Transport { return newDialer(certs) }

// Ports is ports.
type Ports = ports

// PortsOf is how a node that is up looks at other agents' ports.
func PortsOf(d *Daemon) Ports {
	return ports{&wire{ring: d.ring, id: d.id, pairs: d.pairs, http: newDialer(d.certs), peer: d.pool.Peer}, d.pool, d.certs}
}

// SelfOf is a node as its own gossip has it.
func SelfOf(d *Daemon) muster.Peer {
	self, _ := d.pool.Peer(d.id.ID)
	return self
}

// Asks is asks.
type Asks = asks

// Of is of.
func (s *asks) Of(ctx context.Context, n muster.Node, by muster.Rights, names []string, call func(context.Context, []string) (api.Actions, error)) (api.Actions, error) {
	return s.of(ctx, n, by, names, call)
}
