package fsm

import (
	"encoding/json"
	"fmt"
	"maps"

	"muster"
)

// NodesSync is the body of OpNodesSync: all of it, or nothing.
type NodesSync struct {
	Rows  []muster.SyncRow `json:"rows"`
	Prune bool             `json:"prune,omitempty"`
}

func (b NodesSync) named() []string {
	ids := make([]string, 0, 3*len(b.Rows))
	for _, row := range b.Rows {
		slug, name := "", ""
		set(&slug, row.Change.Slug)
		set(&name, row.Change.Name)
		ids = append(ids, row.ID, slug, name)
	}
	return ids
}

// PlanSync is what a sync would do to this copy now.
func (r *Registry) PlanSync(b NodesSync) muster.SyncPlan {
	plan, _ := (applier{t: r.now()}).planSync(b)
	return plan
}

func (a applier) nodesSync(b NodesSync) error {
	plan, rows := a.planSync(b)
	plan.Applied = len(plan.Invalid) == 0
	raw, err := json.Marshal(plan)
	if err != nil {
		return fmt.Errorf("encode plan: %w", err)
	}
	*a.detail = raw
	if !plan.Applied {
		return InvalidRows(len(plan.Invalid))
	}
	for _, row := range rows {
		a.putNode(row)
	}
	return nil
}

// InvalidRows is why a sync was not done.
func InvalidRows(n int) *muster.Error {
	return muster.Errorf(muster.Invalid, "%d of the rows are invalid: nothing was written", n).WithCode("invalid_rows").
		WithHint("mend them as suggested; apply: false shows the plan")
}

// planSync compares rows with what is there. It gives the plan, and the records
// to write if no row is invalid.
func (a applier) planSync(b NodesSync) (muster.SyncPlan, []*node) {
	s := syncing{
		plan: muster.SyncPlan{
			Create: []muster.SyncNode{}, Update: []muster.SyncNode{}, Unchanged: []muster.SyncNode{}, Invalid: []muster.SyncFault{},
		},
		slugs: map[string]int{}, names: map[string]int{}, others: map[string]*node{},
	}
	wanted := map[string]bool{}
	for _, row := range b.Rows {
		wanted[*row.Change.Slug] = true
	}
	rest := []*node{} // living nodes that have no row
	for n := range a.t.nodes.all() {
		if n.Live && !wanted[n.Slug] {
			rest = append(rest, n)
			s.others[folded(n.Name)] = n
		}
	}
	for _, row := range b.Rows {
		s.row(row, a.holder(*row.Change.Slug, "", ""), a.born(row.ID))
	}
	for _, n := range rest {
		if b.Prune && n.Kind == muster.KindExternal && n.Desired != muster.StatusInactive {
			gone := *n
			gone.Desired = muster.StatusInactive
			s.update(n, &gone, true)
		}
	}
	return s.plan, s.rows
}

// born is an external node as it is before anything is said of it.
func (a applier) born(id string) *node {
	return &node{
		ID: id, Live: true, Kind: muster.KindExternal, Version: "1.0.0", Weight: 1, Desired: muster.StatusActive,
		Capabilities: []muster.Capability{muster.CapSearch, muster.CapActions}, CreatedAt: a.at,
	}
}

// syncing is a plan in the making.
type syncing struct {
	plan   muster.SyncPlan
	rows   []*node
	slugs  map[string]int   // the row that has a slug
	names  map[string]int   // the row that has a name
	others map[string]*node // nodes without a row, by name
}

// row plans one row, for the node that has its slug or, if none has, a new one.
func (s *syncing) row(row muster.SyncRow, old, born *node) {
	fresh := *born
	if old != nil {
		fresh = *old
	}
	change := row.Change
	if change.Metadata != nil { // a file says all of it
		fresh.Metadata, change.Metadata = maps.Clone(change.Metadata), nil
	}
	if fault := s.fault(row, old); fault != nil {
		fault.Row, fault.Slug = row.Row, *row.Change.Slug
		s.plan.Invalid = append(s.plan.Invalid, *fault)
		return
	}
	_ = fresh.change(change) // refuses agents, and metadata laid over more
	switch {
	case old != nil:
		s.update(old, &fresh, false)
	default:
		s.plan.Create = append(s.plan.Create, muster.SyncNode{ID: fresh.ID, Slug: fresh.Slug, Name: fresh.Name})
		s.rows = append(s.rows, &fresh)
	}
}

// fault says why a row cannot be, beside all the others.
func (s *syncing) fault(row muster.SyncRow, old *node) *muster.SyncFault {
	slug, name := *row.Change.Slug, *row.Change.Name
	twin, sameSlug := s.slugs[slug]
	if !sameSlug {
		s.slugs[slug] = row.Row
	}
	if sameSlug {
		return &muster.SyncFault{Reason: fmt.Sprintf("row %d has the slug %s, too", twin, slug), Suggestion: "give one of them a slug of its own"}
	}
	if old != nil && old.Kind == muster.KindAgent {
		return &muster.SyncFault{Reason: "node " + slug + " is an agent", Suggestion: "leave agents out: they enter themselves"}
	}
	twin, sameName := s.names[folded(name)]
	s.names[folded(name)] = row.Row
	if sameName {
		return &muster.SyncFault{Reason: fmt.Sprintf("row %d has the name %s, too", twin, name), Suggestion: "give one of them another name"}
	}
	if holder := s.others[folded(name)]; holder != nil {
		return &muster.SyncFault{
			Reason: "node " + holder.Slug + " has the name " + name, Suggestion: "give this row slug: " + holder.Slug + ", or another name",
		}
	}
	return nil
}

func (s *syncing) update(old, fresh *node, pruned bool) {
	named := muster.SyncNode{ID: fresh.ID, Slug: fresh.Slug, Name: fresh.Name, Changes: differences(old, fresh), Pruned: pruned}
	if len(named.Changes) == 0 {
		s.plan.Unchanged = append(s.plan.Unchanged, named)
		return
	}
	s.plan.Update = append(s.plan.Update, named)
	s.rows = append(s.rows, fresh)
}
