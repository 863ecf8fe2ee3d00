package daemon

import (
	"context"
	"slices"
	"sync"
	"time"

	"muster"
	"muster/actions"
	"muster/httpserver/api"
)

// catalogTime is how long a node may take to list its actions.
const catalogTime = 2 * time.Second

// catalog asks all agents for their actions.
type catalog struct {
	self  string
	nodes actions.Nodes
	own   *actions.Executor
	wire  *wire
	asks  *asks

	parallel int // agents asked at once
}

// Catalog merges the lists of the agents that should have actions. Missing are
// the slugs of those that gave none in time.
func (c catalog) Catalog(ctx context.Context) (all []muster.ActionInfo, missing []string) {
	ctx, cancel := context.WithTimeout(ctx, catalogTime)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	lists := map[string][]muster.ActionInfo{}
	places := make(chan struct{}, c.parallel)
	for _, n := range c.nodes.Nodes() {
		if n.DeletedAt != nil || n.Kind != muster.KindAgent || !n.Can(muster.CapActions) {
			continue
		}
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			list, err := c.ask(ctx, n)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing = append(missing, n.Slug)
				return
			}
			lists[n.Slug] = list
		})
	}
	wg.Wait()
	slices.Sort(missing)
	return actions.Merge(lists), missing
}

func (c catalog) ask(ctx context.Context, n muster.Node) ([]muster.ActionInfo, error) {
	if n.ID == c.self {
		return c.own.Infos(), nil
	}
	own, err := c.list(ctx, n)
	return own.Actions, err
}

// list asks another node for its actions, with those who ask the same now.
func (c catalog) list(ctx context.Context, n muster.Node) (api.Actions, error) {
	by := muster.RightsOf(ctx)
	return c.asks.of(ctx, n, by, c.wire.at(n, by).OwnActions)
}
