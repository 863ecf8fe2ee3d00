package daemon

import (
	"context"
	"net/http"

	"muster"
	"muster/actions"
	"muster/cluster/trust"
	"muster/fsm"
	"muster/httpserver"
	"muster/httpserver/api"
)

// CatalogOf is a node's catalog, as a daemon wires it.
func CatalogOf(id trust.Identity, nodes actions.Nodes, own *actions.Executor, client *http.Client, parallel int) func(context.Context) ([]muster.ActionInfo, []string) {
	return catalog{self: id.ID, nodes: nodes, own: own, wire: &wire{id: id, http: client.Transport, peer: func(string) (muster.Peer, bool) { return muster.Peer{}, false }}, asks: &asks{}, parallel: parallel}.Catalog
}

// CallsOf checks signed calls as a node of a cluster with this identity and
// registry does.
func CallsOf(reg *fsm.Registry, id trust.Identity) func(token, method, path, key string, body func(httpserver.Caller) ([]byte, error)) (httpserver.Caller, error) {
	g := (&Daemon{reg: reg, id: id}).gate()
	g.entered = func() bool { return true }
	return g.Call
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
	return ports{&wire{ring: d.ring, id: d.id, http: newDialer(d.certs), peer: d.pool.Peer}, d.pool, d.certs}
}

// SelfOf is a node as its own gossip has it.
func SelfOf(d *Daemon) muster.Peer {
	self, _ := d.pool.Peer(d.id.ID)
	return self
}

// Asks is asks.
type Asks = asks

// Of is of.
func (s *asks) Of(ctx context.Context, n muster.Node, by muster.Rights, call func(context.Context) (api.Actions, error)) (api.Actions, error) {
	return s.of(ctx, n, by, call)
}
