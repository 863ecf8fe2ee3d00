package fsm

import (
	"cmp"
	"slices"

	"muster"
)

// CatalogSet is the body of OpCatalogSet: which actions a node offers now, by
// digest, and the descriptions of those that are new to the registry. What is
// described by none is left out until a later command brings it.
type CatalogSet struct {
	Node    string              `json:"node"`
	Digests []string            `json:"digests"`
	Actions []muster.ActionInfo `json:"actions,omitempty"`
}

func (b CatalogSet) named() []string { return append([]string{b.Node}, b.Digests...) }

// action is one description in the catalog, without its nodes.
type action struct {
	Digest string            `json:"digest"`
	Info   muster.ActionInfo `json:"info"`
}

func (a applier) catalogSet(b CatalogSet) (string, error) {
	old := a.t.nodes.row(b.Node)
	if old == nil || !old.Live || old.Left {
		return "", muster.Errorf(muster.NotFound, "no agent %s", b.Node)
	}
	for _, info := range b.Actions {
		info.Nodes = nil
		a.t.actions.put(&action{Digest: info.Digest, Info: info})
	}
	row := *old
	row.Actions = nil
	for _, digest := range slices.Compact(slices.Sorted(slices.Values(b.Digests))) {
		if a.t.actions.row(digest) != nil {
			row.Actions = append(row.Actions, digest)
		}
	}
	a.t.nodes.put(&row) // what it offers is no change of the record
	a.sweepActions()
	return row.ID, nil
}

// sweepActions drops descriptions of what no node offers.
func (a applier) sweepActions() {
	offered := map[string]bool{}
	for n := range a.t.nodes.all() {
		for _, digest := range n.Actions {
			offered[digest] = true
		}
	}
	for _, row := range slices.Collect(a.t.actions.all()) {
		if !offered[row.Digest] {
			a.t.actions.drop(row.Digest)
		}
	}
}

// Catalog describes every action that a node of the cluster offers, each version
// once, with the slugs of its nodes, by name, version and digest.
func (r *Registry) Catalog() []muster.ActionInfo { return r.describe("") }

// Versions describes one action as Catalog does.
func (r *Registry) Versions(name string) []muster.ActionInfo { return r.describe(name) }

// describe describes one action, or all.
func (r *Registry) describe(name string) []muster.ActionInfo {
	t := r.now()
	infos := []muster.ActionInfo{}
	at := map[string]int{} // in infos, by digest
	for row := range t.actions.all() {
		if name == "" || row.Info.Action == name {
			at[row.Digest] = len(infos)
			infos = append(infos, row.Info)
		}
	}
	for _, n := range t.nodes.from(bySlug, "") {
		for _, digest := range n.Actions {
			if i, ok := at[digest]; ok {
				infos[i].Nodes = append(infos[i].Nodes, n.Slug)
			}
		}
	}
	slices.SortFunc(infos, func(a, b muster.ActionInfo) int {
		return cmp.Or(cmp.Compare(a.Action, b.Action), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Digest, b.Digest))
	})
	return infos
}

// Offered lists the digests of the actions that a node offers, as far as the
// registry has heard, in order.
func (r *Registry) Offered(id string) []string {
	if row := r.now().nodes.row(id); row != nil {
		return row.Actions
	}
	return nil
}

// Described reports whether the catalog describes a digest.
func (r *Registry) Described(digest string) bool {
	return r.now().actions.row(digest) != nil
}
