package cluster

import (
	"context"
	"slices"
	"time"

	"muster"
	"muster/fsm"

	"github.com/hashicorp/raft"
)

const (
	leavePause = 50 * time.Millisecond
	leaveGrace = 3 * time.Second // raft need not tell a server that it was taken out
)

// Leave takes this node out of the cluster for good: its record stays, inactive,
// and raft goes on without it. It is a Conflict if too few voters would be left
// alive. Left is closed when the node may stop; after a start it joins again.
func (c *Cluster) Leave(ctx context.Context, w muster.Write) error {
	if _, err := c.write(ctx, w, fsm.OpNodeLeave, fsm.NodeLeave{ID: c.cfg.Self.ID}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, leaveGrace)
	defer cancel()
	for c.member() && pause(ctx, leavePause) {
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.hasLeft() {
		close(c.left)
	}
	return nil
}

// member reports whether raft counts on this node: a master that is taken out
// leads until that is committed.
func (c *Cluster) member() bool {
	in := slices.ContainsFunc(c.servers(), func(s raft.Server) bool { return string(s.ID) == c.cfg.Self.ID })
	return in || c.raft.State() == raft.Leader
}

// Left is closed once this node left for good.
func (c *Cluster) Left() <-chan struct{} { return c.left }

func (c *Cluster) hasLeft() bool {
	select {
	case <-c.left:
		return true
	default:
		return false
	}
}

// Transfer makes another voter the master: the one with a slug, or the one that
// is the furthest. Only the master can. It is OutcomeUnknown if ctx ends first.
func (c *Cluster) Transfer(ctx context.Context, to string) error {
	if c.raft.State() != raft.Leader {
		return muster.Errorf(muster.NotMaster, "this node is not the master")
	}
	future := func() raft.Future { return c.raft.LeadershipTransfer() }
	if to != "" {
		n, ok := c.Find(to)
		switch {
		case !ok || n.Role == nil || *n.Role != muster.RoleVoter:
			return muster.FieldError("to", "no voter "+to)
		case n.ID == c.cfg.Self.ID:
			return nil
		}
		future = func() raft.Future { return c.raft.LeadershipTransferToServer(raft.ServerID(n.ID), addressOf(n.ID)) }
	} else if !c.othersVote() {
		return muster.Errorf(muster.Conflict, "there is no other voter").WithHint("start another agent with --join, and wait until it votes")
	}
	failed, ended, err := await(ctx, c, func() error { return future().Error() })
	switch {
	case err != nil:
		return err
	case !ended:
		return muster.Errorf(muster.OutcomeUnknown, "the deadline passed before leadership was handed over").WithHint("see who leads: muster status")
	case failed != nil:
		return muster.Errorf(muster.Unavailable, "hand leadership over: %w", failed).WithHint("is that node up? See muster status")
	default:
		return nil
	}
}
