package fsm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"muster"
)

// NodesCleanup is the body of OpNodesCleanup. Its days count back from the
// command's own time.
type NodesCleanup struct {
	muster.Cleanup
}

func (NodesCleanup) named() []string { return nil }

// PlanCleanup is what a cleanup would do to this copy at a time.
func (r *Registry) PlanCleanup(b NodesCleanup, at time.Time) muster.CleanupPlan {
	idle, gone := (applier{t: r.now(), at: at}).stale(b)
	return cleaned(idle, gone)
}

func (a applier) nodesCleanup(b NodesCleanup) error {
	idle, gone := a.stale(b)
	plan := cleaned(idle, gone)
	plan.Applied = true
	for _, row := range idle {
		a.bury(row)
	}
	for _, row := range gone {
		a.purge(row)
	}
	raw, err := json.Marshal(plan)
	if err != nil {
		return fmt.Errorf("encode plan: %w", err)
	}
	*a.detail = raw
	return nil
}

// stale lists the external nodes that were silent for too long, and those that
// were deleted before that.
func (a applier) stale(b NodesCleanup) (idle, gone []*node) {
	const day = 24 * time.Hour
	end := a.at.Add(-time.Duration(b.Days) * day)
	for _, status := range slices.Compact(slices.Sorted(slices.Values(b.Statuses))) {
		for _, n := range a.t.nodes.under(byStatus, standing(status)) {
			if n.Kind == muster.KindExternal && !n.lastSign().After(end) {
				idle = append(idle, n)
			}
		}
	}
	for sign, n := range a.t.nodes.from(bySign, signDeleted) {
		if !strings.HasPrefix(sign, signDeleted) || n.DeletedAt.After(end) {
			break
		}
		if n.Kind == muster.KindExternal {
			gone = append(gone, n)
		}
	}
	return idle, gone
}

// purge removes the record of a node and of its keys. Those of agents stay for
// good: they tell one that was removed, when it comes back, that it was.
func (a applier) purge(n *node) {
	for _, k := range a.t.keys.under(byNode, n.ID) {
		a.t.keys.drop(k.ID)
	}
	a.t.nodes.drop(n.ID)
}

func cleaned(idle, gone []*node) muster.CleanupPlan {
	name := func(n *node) muster.CleanupNode {
		sign := n.lastSign()
		if n.DeletedAt != nil {
			sign = *n.DeletedAt
		}
		return muster.CleanupNode{
			ID: n.ID, Slug: n.Slug, Name: n.Name, Status: muster.StatusOf(n.Desired, n.Observed), LastSign: sign.UTC().Format(time.RFC3339),
		}
	}
	plan := muster.CleanupPlan{Delete: []muster.CleanupNode{}, Purge: []muster.CleanupNode{}}
	for _, n := range idle {
		plan.Delete = append(plan.Delete, name(n))
	}
	for _, n := range gone {
		plan.Purge = append(plan.Purge, name(n))
	}
	return plan
}
