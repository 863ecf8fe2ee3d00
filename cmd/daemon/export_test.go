package daemon

import (
	"context"
	"net/http"

	"muster"
	"muster/actions"
	"muster/cluster/trust"
	"muster/fsm"
	"muster/httpserver"
)

// CatalogOf is a node's catalog, as a daemon wires it.
func CatalogOf(id trust.Identity, nodes actions.Nodes, own *actions.Executor, client *http.Client, parallel int) func(context.Context) ([]muster.ActionInfo, []string) {
	return catalog{self: id.ID, nodes: nodes, own: own, wire: &wire{id: id, http: client}, parallel: parallel}.Catalog
}

// GateOf is the gate of a node of a cluster with this identity and registry.
func GateOf(reg *fsm.Registry, id trust.Identity) httpserver.Auth {
	g := (&Daemon{reg: reg, id: id}).gate()
	g.entered = func() bool { return true }
	return g
}
