package cluster

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"muster"
	"muster/fsm"
)

// write proposes a caller's command.
func (c *Cluster) write(ctx context.Context, w muster.Write, op fsm.Op, body any) (fsm.Result, error) {
	cmd, err := c.command(w, op, body)
	if err != nil {
		return fsm.Result{}, err
	}
	return c.propose(ctx, w.By, cmd)
}

// writeNode proposes a command that is about one node and returns that, also
// when it is deleted.
func (c *Cluster) writeNode(ctx context.Context, w muster.Write, op fsm.Op, body any) (muster.Node, error) {
	res, err := c.write(ctx, w, op, body)
	if err != nil {
		return muster.Node{}, err
	}
	n, ok := c.Node(res.ID)
	if !ok {
		return n, muster.Errorf(muster.Gone, "node %s was purged since", res.ID)
	}
	return n, nil
}

// UpdateNode changes a node's record. It is a Conflict if the record moved on
// from what e has seen, or another node has the new name or slug.
func (c *Cluster) UpdateNode(ctx context.Context, w muster.Write, e muster.Edit, change muster.NodeChange) (muster.Node, error) {
	body := fsm.NodeUpdate{Slug: e.Slug, Seen: e.Seen, Change: change}
	if e.Credential != nil {
		n, known := c.reg.Find(e.Slug)
		if !known && c.Linearize(ctx) == nil { // this copy may not have it yet
			n, known = c.reg.Find(e.Slug)
		}
		if !known {
			return n, muster.Errorf(muster.NotFound, "no node %s", e.Slug).WithHint("muster node list shows them")
		}
		sealed, err := c.cfg.Vault.Seal(n.ID, *e.Credential)
		if err != nil {
			return n, err
		}
		body.Owner, body.Sealed = n.ID, sealed
	}
	return c.writeNode(ctx, w, fsm.OpNodeUpdate, body)
}

// DeleteNode soft-deletes a node: its name and slug are free, its keys end. A
// living agent is a Conflict.
func (c *Cluster) DeleteNode(ctx context.Context, w muster.Write, e muster.Edit) (muster.Node, error) {
	return c.writeNode(ctx, w, fsm.OpNodeDelete, fsm.NodeDelete{Slug: e.Slug, Seen: e.Seen})
}

// RestoreNode undoes DeleteNode and RemovePeer, by slug or ID. It is a Conflict
// if another node has the name or slug now.
func (c *Cluster) RestoreNode(ctx context.Context, w muster.Write, slug string) (muster.Node, error) {
	return c.writeNode(ctx, w, fsm.OpNodeRestore, fsm.NodeRestore{Slug: slug})
}

// SyncNodes makes the external nodes equal to what s says, all at once; without
// apply it only says what it would do. When a row is invalid, it returns the
// plan and an error.
func (c *Cluster) SyncNodes(ctx context.Context, w muster.Write, s muster.Sync, apply bool) (plan muster.SyncPlan, err error) {
	body, faults := c.rows(s)
	if !apply || len(faults) > 0 {
		plan = c.reg.PlanSync(body)
		for i := range plan.Create {
			plan.Create[i].ID = ""
		}
		plan.Invalid = append(plan.Invalid, faults...)
		slices.SortStableFunc(plan.Invalid, func(a, b muster.SyncFault) int { return a.Row - b.Row })
		if apply {
			err = fsm.InvalidRows(len(plan.Invalid))
		}
		return plan, err
	}
	res, err := c.write(ctx, w, fsm.OpNodesSync, body)
	if len(res.Detail) > 0 {
		return plan, readDetail(res, &plan, err)
	}
	if err == nil { // repeated, and its answer was too long to be kept: nothing is left to do
		plan = c.reg.PlanSync(body)
		plan.Applied = true
	}
	return plan, err
}

// rows gives each row a slug and an ID. While some cannot be read, nothing is
// pruned: nobody knows which nodes they name.
func (c *Cluster) rows(s muster.Sync) (body fsm.NodesSync, faults []muster.SyncFault) {
	faults = slices.Clone(s.Invalid)
	for _, row := range s.Rows {
		if row.Change.Slug == nil {
			slug := fsm.Slug(*row.Change.Name)
			row.Change.Slug = &slug
		}
		if *row.Change.Slug == "" {
			faults = append(faults, muster.SyncFault{
				Row: row.Row, Reason: "no slug can be made from the name " + *row.Change.Name,
				Suggestion: "give a slug of lower-case letters, digits and dashes",
			})
			continue
		}
		row.ID = c.cfg.NewID()
		body.Rows = append(body.Rows, row)
	}
	body.Prune = s.Prune && len(faults) == 0
	return body, faults
}

// CleanupNodes soft-deletes external nodes that were silent for too long, and
// purges those that were deleted longer ago; without apply it only says which.
func (c *Cluster) CleanupNodes(ctx context.Context, w muster.Write, what muster.Cleanup, apply bool) (plan muster.CleanupPlan, err error) {
	body := fsm.NodesCleanup{Cleanup: what}
	if !apply {
		return c.reg.PlanCleanup(body, time.Now()), nil
	}
	res, err := c.write(ctx, w, fsm.OpNodesCleanup, body)
	if len(res.Detail) > 0 {
		return plan, readDetail(res, &plan, err)
	}
	if err == nil { // repeated, and its answer was too long to be kept
		plan = muster.CleanupPlan{Delete: []muster.CleanupNode{}, Purge: []muster.CleanupNode{}, Applied: true}
	}
	return plan, err
}

// readDetail reads what a command did; err is what it ended with.
func readDetail(res fsm.Result, plan any, err error) error {
	if bad := json.Unmarshal(res.Detail, plan); bad != nil {
		return muster.Errorf(muster.OutcomeUnknown, "answer of the registry: %w", bad)
	}
	return err
}
