package gossip_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"muster"
	"muster/gossip"
)

// together starts three peers in the same moment, as --expect 3 does.
func together(t *testing.T) []*gossip.Pool {
	t.Helper()
	const size = 3
	configs, join := make([]gossip.Config, size), make([]string, size)
	for i := range configs {
		configs[i] = config(t, i+1)
		configs[i].Profile, configs[i].Facts.Stateless = "lan", true
		join[i] = configs[i].Bind
	}
	pools := make([]*gossip.Pool, size)
	var wg sync.WaitGroup
	for i, c := range configs {
		c.Join = join
		pools[i] = gossip.New(c)
		wg.Go(func() {
			if err := pools[i].Start(t.Context()); err != nil {
				t.Error(err)
			}
			pools[i].SetFacts(func(f *gossip.Facts) { f.IndexID = c.ID })
		})
	}
	wg.Wait()
	return pools
}

// Until the exchange of lists, half a minute later, all hangs on packets.
func TestWhatSeveralPeersTellAtTheSameMomentReachesAllOfThem(t *testing.T) {
	trios := make([][]*gossip.Pool, 16)
	for i := range trios {
		trios[i] = together(t)
	}
	all := slices.Concat(trios...)
	t.Cleanup(func() {
		var wg sync.WaitGroup
		for _, p := range all {
			wg.Go(func() { _ = p.Stop(context.Background(), false) })
		}
		wg.Wait()
	})
	for generation := range uint64(4) {
		<-time.After(time.Second) // all that was to be told has been sent: packets leave nothing behind to wait for
		for _, p := range all {
			p.SetFacts(func(f *gossip.Facts) { f.Generation = generation })
		}
		for _, pools := range trios {
			until(t, fmt.Sprintf("all know of generation %d of all", generation), func() bool {
				return !slices.ContainsFunc(pools, func(p *gossip.Pool) bool {
					peers := p.Peers()
					return len(peers) != len(pools) || slices.ContainsFunc(peers, func(q muster.Peer) bool { return q.Generation != generation })
				})
			})
		}
	}
}
