package cluster

import (
	"context"
	"encoding/json"

	"muster"
	"muster/fsm"

	"github.com/hashicorp/raft"
)

// RemovePeer removes an agent from the registry and, by the planner, from raft.
// A living one hears of it and stops. It is a Conflict if too few voters would
// be left alive; a repeated call gets the first answer.
func (c *Cluster) RemovePeer(ctx context.Context, w muster.Write, slug string) error {
	_, err := c.write(ctx, w, fsm.OpNodeRemove, fsm.NodeRemove{Slug: slug})
	return err
}

// examined reports whether the master looks around before it agrees to such a
// command.
func examined(op fsm.Op) bool {
	return op == fsm.OpNodeDelete || op == fsm.OpNodeRemove || op == fsm.OpNodeLeave
}

// allowed judges what the registry alone cannot: who lives. A command that was
// answered before is not judged anew.
func (c *Cluster) allowed(ctx context.Context, cmd fsm.Command) error {
	if !examined(cmd.Op) {
		return nil
	}
	var body struct{ Slug, ID string } // one or the other
	if err := json.Unmarshal(cmd.Body, &body); err != nil {
		return muster.Errorf(muster.Malformed, "body of %s: %w", cmd.Op, err)
	}
	if _, seen := c.reg.Answered(cmd); seen || c.raft.State() != raft.Leader {
		return nil
	}
	n, ok := c.reg.Find(body.Slug)
	if body.ID != "" {
		n, ok = c.reg.Node(body.ID)
	}
	switch {
	case !ok || n.Kind != muster.KindAgent:
		return nil
	case cmd.Op == fsm.OpNodeDelete:
		return c.deadAgent(ctx, n)
	default:
		return c.spared(n)
	}
}

// deadAgent refuses to delete an agent that may live.
func (c *Cluster) deadAgent(ctx context.Context, n muster.Node) error {
	hint := "to end it and remove it for good: muster cluster remove " + n.Slug
	switch c.lives(ctx, n) {
	case answering:
		return muster.Errorf(muster.Conflict, "node %s is alive", n.Slug).WithCode("alive").WithHint(hint)
	case silent:
		return muster.Errorf(muster.Conflict, "node %s does not answer, but is not known to be dead yet", n.Slug).
			WithCode(codeHolderSilent).WithHint("try again in a few seconds; " + hint)
	case dead:
	}
	return c.spared(n)
}

// spared refuses to remove a voter that the rest could not do without: of the
// voters that are left, a majority must live to agree that it is gone.
func (c *Cluster) spared(n muster.Node) error {
	v := c.view()
	delete(v.Agents, n.ID)
	voters, alive, standby := 0, 0, 0
	for _, s := range v.Servers {
		id := string(s.ID)
		switch {
		case id == n.ID || v.Gone[id]:
		case s.Suffrage != raft.Voter:
			if v.Alive[id] && v.caughtUp(id) {
				standby++
			}
		default:
			voters++
			if v.Alive[id] {
				alive++
			}
		}
	}
	more := min(standby, max(0, v.Voters-voters)) // whom the planner promotes first
	if voters, alive = voters+more, alive+more; alive >= voters/2+1 {
		return nil
	}
	return muster.Errorf(muster.Conflict, "without node %s, %d of %d voters would live: too few to agree on anything", n.Slug, alive, voters).
		WithCode("quorum").WithHint("start the others first, or remove a dead one")
}
