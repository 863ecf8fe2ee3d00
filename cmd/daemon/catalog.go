package daemon

import (
	"context"
	"slices"
	"time"

	"muster"
	"muster/actions"
	"muster/fsm"
)

// catalog is the actions of all nodes: this node's own as they are, those of
// others as the registry has them.
type catalog struct {
	self string
	reg  *fsm.Registry
	own  *actions.Executor
}

// Catalog lists every version of every action with its nodes. Missing are the
// slugs of agents that should have actions and have not told yet which.
func (c catalog) Catalog(context.Context) (all []muster.ActionInfo, missing []string) {
	me, known := c.reg.Node(c.self)
	lists := byNode(c.reg.Catalog(), me.Slug)
	if known && me.Can(muster.CapActions) {
		lists[me.Slug] = c.own.Infos()
	}
	for _, n := range c.reg.Nodes() {
		if _, told := lists[n.Slug]; !told && n.DeletedAt == nil && !n.Left && n.Kind == muster.KindAgent && n.Can(muster.CapActions) {
			missing = append(missing, n.Slug)
		}
	}
	slices.Sort(missing)
	return actions.Merge(lists), missing
}

// Versions lists those of one action.
func (c catalog) Versions(action string) []muster.ActionInfo {
	me, known := c.reg.Node(c.self)
	lists := byNode(c.reg.Versions(action), me.Slug)
	if own, ok := c.own.Info(action); ok && known && me.Can(muster.CapActions) {
		lists[me.Slug] = []muster.ActionInfo{own}
	}
	return actions.Merge(lists)
}

// byNode lists what each node but one offers.
func byNode(infos []muster.ActionInfo, but string) map[string][]muster.ActionInfo {
	lists := map[string][]muster.ActionInfo{}
	for _, info := range infos {
		for _, slug := range info.Nodes {
			if slug != but {
				lists[slug] = append(lists[slug], info)
			}
		}
	}
	return lists
}

// offerAgain is how long to wait after the registry could not be told.
const offerAgain = time.Second

// offer keeps the registry told of what this node offers, whatever becomes of the
// registry or of the definitions.
func (d *Daemon) offer(ctx context.Context) {
	for {
		changed := d.reg.Changed()
		retry := (<-chan time.Time)(nil)
		if d.entered() && slices.Contains(d.cfg.Capabilities, string(muster.CapActions)) {
			if err := d.member.Offer(ctx, d.executor.Load().Infos()); err != nil && ctx.Err() == nil {
				d.log.Warn("tell the registry of this node's actions", "error", err)
				retry = time.After(offerAgain)
				changed = nil
			}
		}
		select {
		case <-changed:
		case <-d.redefined:
		case <-retry:
		case <-ctx.Done():
			return
		}
	}
}
