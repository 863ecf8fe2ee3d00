package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"muster"

	"github.com/hashicorp/raft"
)

// healthyFor is how long after its last sign of life a node counts as healthy.
const healthyFor = 10 * time.Minute

// Nodes returns the registry as this node sees it now: raft's words about who
// leads and votes, and its own gossip's about who is alive, laid over its copy.
func (c *Cluster) Nodes() []muster.Node {
	nodes := c.reg.Nodes()
	lead, roles := c.leaderID(), sync.OnceValue(c.roles)
	for i := range nodes {
		c.overlay(&nodes[i], lead, roles)
	}
	return nodes
}

// Node returns one node by its ID, as Nodes does.
func (c *Cluster) Node(id string) (muster.Node, bool) {
	n, ok := c.reg.Node(id)
	if ok {
		c.overlay(&n, c.leaderID(), c.roles)
	}
	return n, ok
}

// Find returns the node that has a slug and is not deleted, as Nodes does.
func (c *Cluster) Find(slug string) (muster.Node, bool) {
	n, ok := c.reg.Find(slug)
	if ok {
		c.overlay(&n, c.leaderID(), c.roles)
	}
	return n, ok
}

// Capable returns the nodes with a capability, as Nodes does.
func (c *Cluster) Capable(word muster.Capability) []muster.Node {
	nodes := c.reg.Capable(word)
	lead, roles := c.leaderID(), sync.OnceValue(c.roles)
	for i := range nodes {
		c.overlay(&nodes[i], lead, roles)
	}
	return nodes
}

func (c *Cluster) overlay(n *muster.Node, lead string, roles func() map[string]muster.Role) {
	if n.ID == lead {
		n.Type = muster.TypeMaster
	}
	if n.Kind != muster.KindAgent {
		n.Healthy = n.LastPingAt != nil && healthy(*n, *n.LastPingAt, time.Now())
		return
	}
	role, ok := roles()[n.ID]
	if !ok {
		role = muster.RoleStandby
	}
	n.Role = &role
	if peer, known := c.peers.Peer(n.ID); known {
		layOver(n, peer, time.Now())
	}
}

// layOver puts what this node's own gossip says over the registry's record: it
// is fresher, and the only word while there is no master.
func layOver(n *muster.Node, peer muster.Peer, now time.Time) {
	seen := peer.Seen.UTC()
	if peer.State == muster.PeerAlive {
		seen = now.UTC()
		if peer.RTT > 0 {
			ms := float64(peer.RTT) / float64(time.Millisecond)
			n.AvgResponseTime = &ms
		}
	}
	n.LastPingAt, n.PingFailures = &seen, 0
	n.Observed = observed(*n, peer, true, now)
	if n.Observed == muster.ObservedDown {
		n.PingFailures = muster.DeadPingFailures
	}
	n.Status = muster.StatusOf(n.Desired, n.Observed)
	n.StatusColor = n.Status.Color()
	n.Healthy = healthy(*n, seen, now)
	n.Documents = documents(*n, peer)
}

// healthy judges a node by its last sign of life. All nodes judge an external
// one by the registry, and so alike.
func healthy(n muster.Node, seen, now time.Time) bool {
	return n.Status == muster.StatusActive && n.PingFailures < muster.DeadPingFailures && now.Sub(seen) < healthyFor
}

// Sight is what goes with every answer of this node.
func (c *Cluster) Sight() muster.Sight {
	s := muster.Sight{Self: c.reg.Slug(c.cfg.Self.ID), Applied: c.reg.Index(), Stale: c.stale()}
	if id := c.leaderID(); id != "" {
		s.Master = c.reg.Slug(id)
	}
	return s
}

// Status is the cluster as this node sees it.
func (c *Cluster) Status() muster.ClusterStatus {
	s := muster.ClusterStatus{
		ClusterID: c.reg.ClusterID(), Term: c.raft.CurrentTerm(), CommitIndex: c.raft.CommitIndex(),
		AppliedIndex: c.reg.Index(), Peers: []muster.PeerStatus{}, Version: muster.Version, StaleMs: c.stale().Milliseconds(),
	}
	if id := c.leaderID(); id != "" {
		if n, ok := c.reg.Node(id); ok {
			s.Master = &muster.MasterRef{Slug: n.Slug, ID: id, URL: n.URL}
		}
	}
	voters, alive := 0, 0
	for _, server := range c.servers() {
		p := c.peerStatus(server)
		if p.Role == muster.RoleVoter {
			voters++
			if p.Alive {
				alive++
			}
		}
		s.Peers = append(s.Peers, p)
	}
	slices.SortFunc(s.Peers, func(a, b muster.PeerStatus) int { return cmp.Or(cmp.Compare(a.Slug, b.Slug), cmp.Compare(a.ID, b.ID)) })
	if voters > 0 {
		s.Quorum = voters/2 + 1
		s.CanLose = max(0, alive-s.Quorum)
	}
	return s
}

// stale is how long ago this node last heard from the master; since its start,
// if it never did. What it heard and could not keep does not count.
func (c *Cluster) stale() time.Duration {
	if c.raft.State() == raft.Leader {
		return 0
	}
	heard := c.raft.LastContact()
	if heard.Before(c.started) {
		heard = c.started
	}
	if since, _ := c.logs.behind(); !since.IsZero() && since.Before(heard) {
		heard = since
	}
	return time.Since(heard)
}

func fingerprints(secrets [2]uint32) (digits []string) {
	for _, s := range secrets {
		if s != 0 {
			digits = append(digits, fmt.Sprintf("%08x", s))
		}
	}
	return digits
}

func (c *Cluster) peerStatus(server raft.Server) muster.PeerStatus {
	id := string(server.ID)
	p := muster.PeerStatus{ID: id, Role: muster.RoleStandby, Alive: id == c.cfg.Self.ID}
	if server.Suffrage == raft.Voter {
		p.Role = muster.RoleVoter
	}
	if n, ok := c.reg.Node(id); ok {
		p.Slug = n.Slug
	}
	if peer, ok := c.peers.Peer(id); ok {
		p.Alive = p.Alive || peer.State == muster.PeerAlive
		p.Gossip, p.Secrets = peer.Gossip, fingerprints(peer.Secrets)
	}
	if c.raft.State() != raft.Leader {
		return p
	}
	if id == c.cfg.Self.ID {
		zero, last := int64(0), c.raft.LastIndex()
		p.LastContactMs, p.MatchIndex = &zero, &last
	} else if seen, ok := c.trans.of(id); ok {
		ms := time.Since(seen.at).Milliseconds()
		p.LastContactMs, p.MatchIndex = &ms, &seen.lastLog
	}
	return p
}

// WaitIndex waits until this copy has seen an index.
func (c *Cluster) WaitIndex(ctx context.Context, index uint64) error {
	return c.reg.WaitIndex(ctx, index)
}

// Linearize returns when this copy has everything that was acknowledged,
// anywhere, before the call.
func (c *Cluster) Linearize(ctx context.Context) error {
	var unheard error
	for {
		index, err := c.shared(ctx)
		if err == nil {
			return c.reg.WaitIndex(ctx, index)
		}
		switch muster.KindOf(err) {
		case muster.NotMaster, muster.NoMaster, muster.Unavailable, muster.OutcomeUnknown, muster.Timeout:
		case muster.Unauthorized: // this node's signature, not its caller's key
			unheard = err
		default:
			return err
		}
		if !pause(ctx, retryPause) {
			if unheard != nil {
				return refused(unheard)
			}
			return muster.Errorf(muster.NoMaster, "no master confirmed this read before the deadline").
				WithHint("ask with consistency=local, or check `muster status`")
		}
	}
}

// confirmed is an index, or why there is none.
type confirmed struct {
	index uint64
	err   error
}

// shared asks for an index together with all who ask at the same time: one
// confirmation that began after they asked is good for all of them.
func (c *Cluster) shared(ctx context.Context) (uint64, error) {
	done := make(chan confirmed, 1)
	c.readers.add(reader{detached(ctx), done})
	select {
	case a := <-done:
		return a.index, a.err
	case <-ctx.Done():
		return 0, muster.Errorf(muster.Timeout, "the deadline passed before a majority confirmed the master")
	}
}

// reader waits for one.
type reader struct {
	trace func() context.Context
	done  chan<- confirmed // takes one without waiting
}

func (c *Cluster) confirm(round []reader) {
	ctx, cancel := context.WithTimeout(round[0].trace(), forwardTimeout)
	defer cancel()
	index, err := c.readIndex(ctx)
	for _, r := range round {
		r.done <- confirmed{index, err}
	}
}

func (c *Cluster) readIndex(ctx context.Context) (uint64, error) {
	if c.raft.State() == raft.Leader {
		return c.ReadIndex(ctx)
	}
	master, err := c.masterPeer()
	if err != nil {
		return 0, err
	}
	return c.wire.ReadIndex(ctx, master)
}

// ReadIndex returns the master's commit index, after a majority confirmed that
// it still leads (Ongaro's thesis, section 6.4). The term must be open: until
// then an earlier term's entries may be committed without this node knowing.
func (c *Cluster) ReadIndex(ctx context.Context) (uint64, error) {
	term := c.raft.CurrentTerm()
	if c.termed.Load() != term {
		return 0, muster.Errorf(muster.NotMaster, "this node has not opened term %d as its master", term)
	}
	index := c.raft.CommitIndex()
	failed, ended, err := await(ctx, c, func() error { return c.raft.VerifyLeader().Error() })
	switch {
	case err != nil:
		return 0, err
	case !ended:
		return 0, muster.Errorf(muster.Timeout, "the deadline passed before a majority confirmed the master")
	case failed != nil:
		return 0, raftError(failed)
	}
	if c.raft.CurrentTerm() != term {
		return 0, muster.Errorf(muster.NotMaster, "the term moved on from %d", term)
	}
	return index, nil
}

// HasMaster reports whether this node knows a master now.
func (c *Cluster) HasMaster() bool { return c.leaderID() != "" }

func (c *Cluster) leaderID() string {
	_, id := c.raft.LeaderWithID()
	return string(id)
}

func (c *Cluster) masterPeer() (muster.Peer, error) {
	id := c.leaderID()
	if id == "" || id == c.cfg.Self.ID {
		return muster.Peer{}, muster.Errorf(muster.NoMaster, "there is no master now").
			WithHint("an election takes about a second; if it lasts, a majority of voters must be up")
	}
	peer, ok := c.peers.Peer(id)
	if !ok || peer.HTTP == "" {
		return muster.Peer{}, muster.Errorf(muster.NoMaster, "the master %s has no known address", id)
	}
	return peer, nil
}

func (c *Cluster) servers() []raft.Server {
	future := c.raft.GetConfiguration()
	if future.Error() != nil {
		return nil
	}
	return future.Configuration().Servers
}

func (c *Cluster) roles() map[string]muster.Role {
	roles := map[string]muster.Role{}
	for _, s := range c.servers() {
		if s.Suffrage == raft.Voter {
			roles[string(s.ID)] = muster.RoleVoter
		} else {
			roles[string(s.ID)] = muster.RoleStandby
		}
	}
	return roles
}
