package cluster

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"muster"
	"muster/fsm"

	"github.com/hashicorp/raft"
)

const (
	leadTick       = 100 * time.Millisecond
	changeTimeout  = 5 * time.Second
	restartGrace   = 60 * time.Second // a node that said it would be back counts as up for this long
	absenceGrace   = 15 * time.Second // a new master lets gossip find everybody first
	barrierTimeout = 5 * time.Second
	countEvery     = time.Minute // how often numbers of documents go into the registry on their own
)

// watchLead runs lead while this node is the master. A loss that came and went
// between two looks shows as a second true, and starts anew.
func (c *Cluster) watchLead(ctx context.Context) {
	stop := func() {}
	defer func() { stop() }()
	leads := c.raft.LeaderCh()
	for {
		select {
		case <-ctx.Done():
			return
		case leader := <-leads:
			stop()
			stop = func() {}
			if !leader {
				continue
			}
			reign, cancel := context.WithCancel(ctx)
			over := make(chan struct{})
			c.wg.Go(func() {
				defer close(over)
				c.lead(reign)
			})
			stop = func() {
				cancel()
				<-over
			}
		}
	}
}

// lead is what the master does: opens its term, then looks after status and
// membership until it is deposed.
func (c *Cluster) lead(ctx context.Context) {
	c.trans.forget()
	since := time.Now()
	c.leading.Store(&since)
	defer c.leading.Store(nil)
	defer c.trans.forget()
	for {
		err := c.openTerm(ctx)
		if err == nil {
			break
		}
		c.log.Warn("open term", "error", err)
		if !pause(ctx, leadTick) {
			return
		}
	}
	c.log.Info("this node is the master", "term", c.raft.CurrentTerm())
	var pinging sync.WaitGroup
	defer pinging.Wait()
	pinging.Go(func() { c.keepPinging(ctx) })
	if c.cfg.Reign != nil {
		pinging.Go(func() { c.cfg.Reign(ctx) })
	}
	counted := since
	for pause(ctx, leadTick) {
		now := time.Now()
		count := now.Sub(counted) > countEvery
		if count {
			counted = now
		}
		if seen := c.observations(now, since, count); len(seen) > 0 {
			c.tell(ctx, fsm.OpNodeObserve, fsm.NodeObserve{Nodes: seen})
		}
		if change, due := Plan(c.view()); due {
			c.carryOut(change)
		}
	}
}

// openTerm commits the first entries of a term: what is acknowledged from then
// on is known to be complete.
func (c *Cluster) openTerm(ctx context.Context) error {
	if err := c.raft.Barrier(barrierTimeout).Error(); err != nil {
		return err
	}
	term := c.raft.CurrentTerm()
	if c.reg.ClusterID() == "" {
		body := fsm.ClusterInit{ClusterID: c.cfg.NewID(), Voters: c.cfg.Voters}
		if err := c.commit(ctx, fsm.OpClusterInit, body); err != nil {
			return err
		}
	}
	if err := c.commit(ctx, fsm.OpTermOpen, fsm.TermOpen{}); err != nil {
		return err
	}
	c.termed.Store(term)
	return nil
}

func (c *Cluster) commit(ctx context.Context, op fsm.Op, body any) error {
	raw, err := c.encode(op, c.self(), body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	res, err := c.applyHere(ctx, raw)
	if err != nil {
		return err
	}
	return res.Err()
}

func (c *Cluster) tell(ctx context.Context, op fsm.Op, body any) {
	if err := c.commit(ctx, op, body); err != nil {
		c.log.Warn("write what was observed", "error", err)
	}
}

// observations lists agents whose observed state is not what the registry says;
// with count, also those whose number of documents is not.
func (c *Cluster) observations(now, since time.Time, count bool) []fsm.Observation {
	var out []fsm.Observation
	for _, n := range c.reg.Agents() {
		if n.DeletedAt != nil {
			continue
		}
		peer, known := c.peers.Peer(n.ID)
		if !known && now.Sub(since) < absenceGrace {
			continue
		}
		seen, docs := observed(n, peer, known, now), documents(n, peer)
		if seen != n.Observed {
			c.log.Info("node changed", "node", n.Slug, "from", string(n.Observed), "to", string(seen))
		}
		if seen != n.Observed || count && docs != n.Documents {
			out = append(out, fsm.Observation{ID: n.ID, Observed: seen, Documents: docs})
		}
	}
	return out
}

func observed(n muster.Node, peer muster.Peer, known bool, now time.Time) muster.Observed {
	switch {
	case n.Left, !known && n.Observed == muster.ObservedLeft:
		return muster.ObservedLeft
	case !known:
		return muster.ObservedDown
	case peer.State == muster.PeerAlive:
		return muster.ObservedUp
	case peer.State == muster.PeerLeft:
		return muster.ObservedLeft
	case peer.State == muster.PeerRestarting && now.Sub(peer.Since) < restartGrace:
		return muster.ObservedRestarting
	default:
		return muster.ObservedDown
	}
}

// documents is the count that searches go by while a node does not answer. One
// that tells no generation has not opened its index yet.
func documents(n muster.Node, peer muster.Peer) uint64 {
	if peer.Generation > 0 {
		return peer.Documents
	}
	return n.Documents
}

// view gathers what the planner looks at.
func (c *Cluster) view() View {
	v := View{
		Servers: c.servers(), Agents: map[string]bool{}, Gone: map[string]bool{}, Heirs: c.reg.Succession(),
		Alive: map[string]bool{c.cfg.Self.ID: true}, Lag: map[string]uint64{}, Voters: c.reg.Voters(),
	}
	for _, p := range c.peers.Peers() {
		if p.State == muster.PeerAlive {
			v.Alive[p.ID] = true
		}
	}
	last := c.raft.LastIndex()
	for _, n := range c.reg.Agents() {
		if n.DeletedAt != nil || n.Left {
			v.Gone[n.ID] = true
			continue
		}
		v.Agents[n.ID] = true
		if seen, ok := c.trans.of(n.ID); ok {
			v.Lag[n.ID] = last - min(last, seen.lastLog)
		}
	}
	return v
}

// carryOut makes one change, on the condition that nobody made another since.
func (c *Cluster) carryOut(change Change) {
	future := c.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return
	}
	prev := future.Index()
	id, addr := raft.ServerID(change.ID), addressOf(change.ID)
	var done raft.IndexFuture
	switch change.Kind {
	case AddStandby:
		done = c.raft.AddNonvoter(id, addr, prev, changeTimeout)
	case Promote:
		done = c.raft.AddVoter(id, addr, prev, changeTimeout)
	case Remove:
		done = c.raft.RemoveServer(id, prev, changeTimeout)
	default:
		return
	}
	if err := done.Error(); err != nil {
		c.refused.say(c.log, change, err)
		return
	}
	if change.Kind == Remove {
		c.trans.release(change.ID)
	}
	c.log.Info("membership changed", "change", string(change.Kind), "node", change.ID)
}

// complaint keeps a lasting fault from filling the log: the same change is
// complained about once a minute.
type complaint struct {
	about Change
	at    time.Time
}

const complainEvery = time.Minute

func (p *complaint) say(log *slog.Logger, change Change, err error) {
	if p.about == change && time.Since(p.at) < complainEvery {
		return
	}
	p.about, p.at = change, time.Now()
	log.Warn("change membership", "change", string(change.Kind), "node", change.ID, "error", err)
}
