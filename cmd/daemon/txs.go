package daemon

import (
	"context"
	"sync"
	"time"

	"muster"
	"muster/actions"
	"muster/actions/tx"
	"muster/cluster"
	"muster/fsm"
	"muster/httpserver"
)

var (
	_ tx.Log          = (*cluster.Cluster)(nil)
	_ tx.Book         = (*fsm.Registry)(nil)
	_ tx.Hands        = (*actions.Runner)(nil)
	_ tx.Callers      = callers{}
	_ tx.Scout        = scout{}
	_ httpserver.Txs  = txs{}
	_ httpserver.Book = (*fsm.Registry)(nil)
)

// txs makes transactions and writes them down.
type txs struct {
	tx.Planner
	*cluster.Cluster
}

// scout asks the agents that are to take part in a transaction what they can.
type scout struct {
	*actions.Runner
	self     string
	own      *actions.Executor
	wire     *wire
	asks     *asks
	parallel int    // agents asked at once
	journal  string // ID of this node's own
}

// surveyTime is how long a node may take to list its actions.
const surveyTime = 2 * time.Second

// Survey asks the nodes themselves: what the registry says of them may be old, and
// it does not know their journals.
func (s scout) Survey(ctx context.Context, nodes []muster.Node, names []string) map[string]tx.Ability {
	ctx, cancel := context.WithTimeout(ctx, surveyTime)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	can, own := map[string]tx.Ability{}, tx.Ability{}
	places := make(chan struct{}, s.parallel)
	for _, n := range nodes {
		if n.ID == s.self {
			own = tx.Ability{Journal: s.journal, Actions: s.own.Infos()}
			continue
		}
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			by := muster.RightsOf(ctx)
			list, err := s.asks.of(ctx, n, by, names, s.wire.at(n, by).OwnActions)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			can[n.ID] = tx.Ability{Journal: list.Journal, Actions: list.Actions}
		})
	}
	wg.Wait()
	can[s.self] = own
	return can
}

// opening is what the driver here would say first of a transaction, once it is there.
func (d *Daemon) opening(t muster.Tx) []muster.TxEvent {
	select {
	case <-d.raised:
		return d.driver.Opening(t)
	default:
		return nil
	}
}

// reign is what the master does beside leading the registry. Until this node's
// actions are there, it waits.
func (d *Daemon) reign(ctx context.Context) {
	select {
	case <-d.raised:
		d.driver.Lead(ctx)
	case <-ctx.Done():
	}
}
