package cluster

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"muster"
	"muster/fsm"
)

const (
	pingTimeout = 5 * time.Second
	pingsAtOnce = 16
	pulseEvery  = time.Minute // how often pings that changed no status go into the registry
	resealEvery = 5 * time.Second
	newest      = 0.3 // weight of the newest response time in the average
)

// pulse is how external nodes stand, as the master's pings have shown since it
// leads. It begins with what the registry has, so that a failover forgets at
// most what was not told yet.
type pulse struct {
	c    *Cluster
	slot chan struct{} // bounds the pings under way

	telling sync.Mutex // held while news are written: an older batch must not come after a newer one

	mu    sync.Mutex
	beats map[string]*beat // by node ID; guarded by mu
	told  time.Time        // guarded by mu: when the registry last heard
	round uint64           // guarded by mu: how often the registry was looked at
}

// beat is one node's.
type beat struct {
	health fsm.Health
	due    time.Time
	busy   bool // a ping is under way
	news   int  // pings that the registry does not know of
	heard  bool // there was one since tell last looked
	round  uint64
}

// keepPinging pings external nodes while this node leads.
func (c *Cluster) keepPinging(ctx context.Context) {
	p := &pulse{c: c, slot: make(chan struct{}, pingsAtOnce), beats: map[string]*beat{}, told: time.Now()}
	c.pulse.Store(p)
	defer c.pulse.Store(nil)
	var pings sync.WaitGroup
	defer pings.Wait()
	var resealed time.Time
	odd := map[string][]byte{} // what cannot be sealed anew, by node ID: said once
	for tick := leadTick; pause(ctx, tick); {
		if time.Since(resealed) > resealEvery {
			resealed = time.Now()
			c.reseal(ctx, odd)
		}
		began := time.Now()
		for _, n := range p.due(time.Now(), tick) {
			pings.Go(func() { p.ping(ctx, n) })
		}
		p.tell(ctx, false)
		tick = restAfter(time.Since(began))
	}
}

// restAfter is when to look next after it took so long to look through all nodes:
// so long that it takes a fiftieth of the time, but no more than a second.
func restAfter(took time.Duration) time.Duration { return min(max(leadTick, 50*took), time.Second) }

// due returns the nodes that are to be pinged now, those first that have waited
// longest, and forgets those that are gone. A node that was never seen is due at
// once; those that a new master takes over are spread over the interval. There are
// never more than at three times the usual pace: when a thousand are registered in
// a second, it is the writes that cannot wait. It was done a tick ago.
func (p *pulse) due(now time.Time, tick time.Duration) []muster.Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.round++
	nodes := p.c.reg.Externals(func(id string) bool {
		b := p.beats[id]
		if b == nil {
			return true
		}
		b.round = p.round
		return !b.busy && !now.Before(b.due)
	})
	nodes = slices.DeleteFunc(nodes, func(n muster.Node) bool {
		b := p.beatLocked(n, now)
		p.beats[n.ID], b.round = b, p.round
		return b.busy || now.Before(b.due)
	})
	maps.DeleteFunc(p.beats, func(_ string, b *beat) bool { return b.round != p.round })
	if most := paced(len(p.beats), p.c.cfg.PingEvery, tick); len(nodes) > most {
		slices.SortStableFunc(nodes, func(a, b muster.Node) int { return p.beats[a.ID].due.Compare(p.beats[b.ID].due) })
		nodes = nodes[:most]
	}
	for _, n := range nodes {
		b := p.beats[n.ID]
		b.busy, b.due = true, now.Add(jitter(p.c.cfg.PingEvery))
	}
	return nodes
}

// paced is how many of n nodes are pinged in one tick at most.
func paced(n int, every, tick time.Duration) int {
	return max(int(2*pingsAtOnce*tick/leadTick), int(3*time.Duration(n)*tick/max(every, leadTick)))
}

func (p *pulse) beatLocked(n muster.Node, now time.Time) *beat {
	if b, known := p.beats[n.ID]; known {
		return b
	}
	b := &beat{due: now, health: fsm.Health{ID: n.ID, Failures: n.PingFailures, Seen: n.LastPingAt, Average: n.AvgResponseTime}}
	if n.LastPingAt != nil || n.PingFailures > 0 {
		b.due = now.Add(rand.N(max(p.c.cfg.PingEvery, 1))) //nolint:gosec // spreads load, hides nothing
	}
	return b
}

// jitter keeps nodes that were registered together from being pinged together
// for ever.
func jitter(every time.Duration) time.Duration {
	return every*9/10 + rand.N(max(every/5, 1)) //nolint:gosec // spreads load, hides nothing
}

// ping pings one node and notes what came of it, unless ctx ended it.
func (p *pulse) ping(ctx context.Context, n muster.Node) muster.Pinged {
	var vital muster.Vital
	out, heard := muster.Pinged{Status: n.Status}, false
	select {
	case p.slot <- struct{}{}:
		out, vital = p.c.ping(ctx, n)
		<-p.slot
		heard = out.Success || ctx.Err() == nil
	case <-ctx.Done():
		out.Error = "not pinged: the wait ended"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.beatLocked(n, time.Now())
	p.beats[n.ID] = b
	b.busy = false
	if heard {
		b.note(out, vital, time.Now().UTC())
		out.Status = muster.StatusOf(n.Desired, b.health.Observed(n.Observed))
	}
	return out
}

// note counts a ping.
func (b *beat) note(out muster.Pinged, said muster.Vital, now time.Time) {
	h := &b.health
	b.news++
	b.heard = true
	if !out.Success {
		h.Failures++
		return
	}
	average := out.ResponseTimeMs
	if h.Average != nil {
		average = (1-newest)**h.Average + newest*average
	}
	h.Failures, h.Seen, h.Average = 0, &now, &average
	h.Version, h.Capabilities = said.Version, said.Capabilities
}

// tell writes news into the registry: at once if asked to or if a node changed
// by it, else once a minute. What cannot be written is told the next time.
func (p *pulse) tell(ctx context.Context, urgent bool) {
	p.telling.Lock()
	defer p.telling.Unlock()
	p.mu.Lock()
	urgent = urgent || time.Since(p.told) > pulseEvery
	for _, b := range p.beats {
		if !b.heard || urgent {
			continue
		}
		urgent = p.c.reg.News(b.health)
		b.heard = urgent // what is urgent stays so until it is told
	}
	var batch fsm.HealthBatch
	sent := map[*beat]int{}
	for _, b := range p.beats {
		if urgent && b.news > 0 {
			batch.Nodes = append(batch.Nodes, b.health)
			sent[b] = b.news
		}
	}
	p.mu.Unlock()
	if len(batch.Nodes) == 0 {
		return
	}
	if err := p.c.commit(ctx, fsm.OpHealthBatch, batch); err != nil {
		p.c.log.Warn("write what pings showed", "error", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = time.Now()
	for b, news := range sent {
		b.news -= news // later pings wait to be told
	}
}

// ping asks a node how it is, by the node protocol.
func (c *Cluster) ping(ctx context.Context, n muster.Node) (muster.Pinged, muster.Vital) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	began := time.Now()
	vital, err := c.cfg.Ping(ctx, n)
	out := muster.Pinged{
		Success: err == nil, Status: n.Status, ResponseTimeMs: float64(time.Since(began).Microseconds()) / 1000,
	}
	if err != nil {
		out.Error = err.Error()
	}
	return out, vital
}

// Ping pings nodes now, in parallel. At the master the results of external
// nodes count, and the registry has them when Ping returns; what is known of
// agents is gossip's word.
func (c *Cluster) Ping(ctx context.Context, nodes []muster.Node) muster.Pings {
	p := c.pulse.Load()
	all := muster.Pings{Total: len(nodes), Results: map[string]muster.Pinged{}}
	var mu sync.Mutex
	var pings sync.WaitGroup
	slot := make(chan struct{}, pingsAtOnce)
	for _, n := range nodes {
		slot <- struct{}{}
		pings.Go(func() {
			defer func() { <-slot }()
			out := c.pingOne(ctx, p, n)
			mu.Lock()
			defer mu.Unlock()
			all.Results[n.Slug] = out
		})
	}
	pings.Wait()
	for _, out := range all.Results {
		if out.Success {
			all.Healthy++
		}
	}
	all.Failed = all.Total - all.Healthy
	if p != nil {
		p.tell(ctx, true)
	}
	return all
}

func (c *Cluster) pingOne(ctx context.Context, p *pulse, n muster.Node) muster.Pinged {
	if p != nil && n.Kind == muster.KindExternal {
		return p.ping(ctx, n)
	}
	out, _ := c.ping(ctx, n)
	return out
}

// OldSeals counts the credentials that another secret sealed than the one this
// node speaks, among those that can be opened at all.
func (c *Cluster) OldSeals() (n int) {
	for _, node := range c.reg.Nodes() {
		if len(node.Sealed) == 0 || c.cfg.Vault.Fresh(node.Sealed) {
			continue
		}
		if _, err := c.cfg.Vault.Open(node.ID, node.Sealed); err == nil {
			n++
		}
	}
	return n
}

// reseal seals credentials anew that an earlier secret sealed, so that it can be
// dropped. It tries again what it cannot open, and complains of each once.
func (c *Cluster) reseal(ctx context.Context, odd map[string][]byte) {
	for _, n := range c.reg.Nodes() {
		if len(n.Sealed) == 0 || c.cfg.Vault.Fresh(n.Sealed) {
			continue
		}
		text, err := c.cfg.Vault.Open(n.ID, n.Sealed)
		if err != nil {
			if !slices.Equal(odd[n.ID], n.Sealed) {
				c.log.Warn("credential cannot be opened", "node", n.Slug, "error", err)
			}
			odd[n.ID] = n.Sealed
			continue
		}
		sealed, err := c.cfg.Vault.Seal(n.ID, text)
		if err != nil {
			c.log.Warn("seal credential", "node", n.Slug, "error", err)
			continue
		}
		c.tell(ctx, fsm.OpNodeReseal, fsm.NodeReseal{ID: n.ID, Old: n.Sealed, Sealed: sealed})
	}
}
