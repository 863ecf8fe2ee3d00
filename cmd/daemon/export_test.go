package daemon

import (
	"context"
	"net/http"

	"muster"
	"muster/actions"
	"muster/cluster/trust"
)

// CatalogOf is a node's catalog, as a daemon wires it.
func CatalogOf(id trust.Identity, nodes actions.Nodes, own *actions.Executor, client *http.Client, parallel int) func(context.Context) ([]muster.ActionInfo, []string) {
	return catalog{self: id.ID, nodes: nodes, own: own, wire: &wire{id: id, http: client}, parallel: parallel}.Catalog
}
