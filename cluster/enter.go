package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"muster"
	"muster/fsm"

	"github.com/hashicorp/raft"
)

const (
	enterPause  = 150 * time.Millisecond // between looks at gossip while entering
	enterCall   = 2 * time.Second        // one join call: the master may look for a holder of the name
	holderGrace = 30 * time.Second       // how long a dead holder of the name may look alive
	settle      = time.Second            // the set of candidates must not change for this long
)

// enter brings this node into a cluster: founds one, waits for the expected
// others, or asks a member; then registers it. It tries until ctx ends.
func (c *Cluster) enter(ctx context.Context, stateful bool) {
	switch {
	case stateful:
		c.standAlone()
	case c.cfg.Founding && c.cfg.Expect <= 1:
		c.found([]muster.Peer{{ID: c.cfg.Self.ID}})
		c.standAlone()
	case c.cfg.Expect > 0:
		c.expect(ctx)
	}
	if c.register(ctx) {
		c.stay(ctx)
	}
}

const (
	stayPause = 2 * time.Second
	unheard   = 5 * time.Second // how long a master may be silent before this node asks where it stands
)

// stay looks whether this node was removed. One that was away meanwhile may not
// have it in its own copy, and never will: so when no master is heard, it asks
// the members to enter it anew, which a removed node is refused.
func (c *Cluster) stay(ctx context.Context) {
	for pause(ctx, stayPause) && !c.hasLeft() {
		if n, ok := c.reg.Node(c.cfg.Self.ID); ok && n.DeletedAt != nil {
			c.fatal <- fsm.Removed(n.Name, n.ID)
			return
		}
		if c.stale() < unheard {
			continue
		}
		if _, err := c.tryRegister(ctx); err != nil && c.hopeless(err, 0) {
			c.fatal <- err
			return
		}
	}
}

// found bootstraps raft with these voters.
func (c *Cluster) found(voters []muster.Peer) {
	var conf raft.Configuration
	for _, p := range voters {
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(p.ID), Address: addressOf(p.ID)})
	}
	err := c.raft.BootstrapCluster(conf).Error()
	if err != nil {
		if errors.Is(err, raft.ErrCantBootstrap) {
			c.log.Info("is in a cluster already, founds none")
			return
		}
		c.log.Error("found cluster", "error", err)
		return
	}
	c.log.Info("founded cluster", "voters", len(voters))
}

// standAlone stands for election at once if this node is the only voter,
// instead of waiting out the heartbeat timeout.
func (c *Cluster) standAlone() {
	servers := c.servers()
	voters := slices.DeleteFunc(slices.Clone(servers), func(s raft.Server) bool { return s.Suffrage != raft.Voter })
	if len(voters) != 1 || string(voters[0].ID) != c.cfg.Self.ID {
		return
	}
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(c.cfg.Self.ID), Addr: []byte(c.cfg.Self.Raft)}
	err := c.trans.TimeoutNow(voters[0].ID, voters[0].Address, &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{})
	if err != nil {
		c.log.Debug("stand for election at once", "error", err)
	}
}

// expect waits until there is a cluster, or until enough candidates let the
// same one found it. Each candidate promises itself to the lowest ID it sees
// once it sees as many as expected, tells so by gossip, and takes its word back
// only when that one is long dead. The founder takes only those in that
// promised themselves to it, so no candidate becomes part of two clusters.
func (c *Cluster) expect(ctx context.Context) {
	var last []string
	var promised string
	since := time.Now()
	for pause(ctx, enterPause) {
		candidates, there := c.candidates()
		if there || c.leaderID() != "" {
			return
		}
		ids := make([]string, len(candidates))
		for i, p := range candidates {
			ids[i] = p.ID
		}
		if !slices.Equal(ids, last) {
			last, since = ids, time.Now()
		}
		if len(ids) < c.cfg.Expect || time.Since(since) < settle {
			continue
		}
		if promised == "" || c.longDead(promised) {
			promised = ids[0]
			c.cfg.Promise(promised)
			c.log.Info("enough agents see each other", "seen", len(ids), "founder", promised)
		}
		if promised != c.cfg.Self.ID || ids[0] != promised {
			continue
		}
		mine := slices.DeleteFunc(candidates, func(p muster.Peer) bool {
			return p.ID != promised && p.Promise != promised
		})
		if len(mine) >= c.cfg.Expect {
			c.found(mine[:c.cfg.Expect])
			return
		}
	}
}

// promiseHolds is how long a candidate's death must be known before a promise
// to it ends: by then the dead one, if it only seems so, has lost sight of this
// node, too, and cannot count on the promise.
const promiseHolds = 15 * time.Second

func (c *Cluster) longDead(id string) bool {
	p, known := c.peers.Peer(id)
	return !known || p.State != muster.PeerAlive && time.Since(p.Since) > promiseHolds
}

// candidates lists the living peers, this one included, that wait for the same
// number of others, by ID; there says that a cluster exists already.
func (c *Cluster) candidates() (candidates []muster.Peer, there bool) {
	for _, p := range c.peers.Peers() {
		if p.State != muster.PeerAlive {
			continue
		}
		if p.ClusterID != "" {
			return nil, true
		}
		if p.Stateless && p.Expect == c.cfg.Expect {
			candidates = append(candidates, p)
		}
	}
	slices.SortFunc(candidates, func(a, b muster.Peer) int { return strings.Compare(a.ID, b.ID) })
	return candidates, false
}

// register enters this node into the registry, through whichever member turns
// out to be the master. It is false if that cannot be or ctx ended before.
func (c *Cluster) register(ctx context.Context) bool {
	started, complained := time.Now(), time.Now()
	for {
		joined, err := c.tryRegister(ctx)
		if err == nil {
			if c.reg.WaitIndex(ctx, joined.Index) != nil {
				return false
			}
			c.log.Info("entered cluster", "slug", joined.Slug)
			c.compareVoters()
			close(c.entered)
			return true
		}
		if time.Since(complained) > complainEvery {
			complained = time.Now()
			c.log.Warn("not in the cluster yet, trying on", "error", err)
		}
		if c.hopeless(err, time.Since(started)) {
			c.fatal <- err
			return false
		}
		if !pause(ctx, enterPause) {
			return false
		}
	}
}

// hopeless reports whether trying to register again cannot help.
func (c *Cluster) hopeless(err error, tried time.Duration) bool {
	switch muster.KindOf(err) {
	case muster.Conflict:
		return muster.CodeOf(err) != codeHolderSilent || tried > holderGrace
	case muster.Forbidden, muster.Invalid:
		return true
	default:
		return false
	}
}

// tryRegister asks each member once. The first refusal that will not change
// ends it.
func (c *Cluster) tryRegister(ctx context.Context) (muster.Joined, error) {
	if c.raft.State() == raft.Leader {
		return c.admit(ctx, c.cfg.Self)
	}
	err := error(muster.Errorf(muster.NoMaster, "no member of a cluster answers yet"))
	for _, p := range c.members() {
		var joined muster.Joined
		if joined, err = c.askToEnter(ctx, p); err == nil || c.hopeless(err, 0) || ctx.Err() != nil {
			return joined, err
		}
	}
	return muster.Joined{}, err
}

func (c *Cluster) askToEnter(ctx context.Context, p muster.Peer) (muster.Joined, error) {
	ctx, cancel := context.WithTimeout(ctx, enterCall)
	defer cancel()
	j := c.cfg.Self
	j.ClusterID = p.ClusterID
	return c.wire.Join(ctx, p, j)
}

// compareVoters says so when this node was told another number of voters than
// its cluster agreed on.
func (c *Cluster) compareVoters() {
	if agreed := c.reg.Voters(); agreed != c.cfg.Voters {
		c.log.Warn("--voters differs from the founder's, which counts", "here", c.cfg.Voters, "agreed", agreed)
	}
}

// members lists living peers of a cluster, the known master first.
func (c *Cluster) members() []muster.Peer {
	master := c.leaderID()
	var out []muster.Peer
	for _, p := range c.peers.Peers() {
		if p.State != muster.PeerAlive || p.ID == c.cfg.Self.ID || (p.ClusterID == "" && p.ID != master) {
			continue
		}
		if p.ID == master {
			out = slices.Insert(out, 0, p)
			continue
		}
		out = append(out, p)
	}
	return out
}

// pause waits, and reports whether ctx is still going.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
