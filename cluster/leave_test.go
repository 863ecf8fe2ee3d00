package cluster_test

import (
	"context"
	"testing"

	"muster"
)

func TestAnAgentThatLeavesIsInactiveAndOutOfRaftUntilItJoinsAgain(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.three()
	leave := muster.Write{By: operator, Route: "POST /v1/cluster/leave"}
	for i, m := range []*member{b, a} { // a follower, then the master itself
		if err := m.Leave(t.Context(), leave); err != nil {
			t.Fatalf("%s: %v", m.name, err)
		}
		<-m.Left()
		until(t, m.name+" is out of raft", func() bool { return len(c.Status().Peers) == 2-i })
		if n, ok := c.Find(m.name); !ok || n.Status != muster.StatusInactive || n.DeletedAt != nil {
			t.Fatalf("%s while gossip has it alive: %+v", m.name, n)
		}
		m.stop()
		w.dies(m)
	}
	if err := c.Leave(t.Context(), leave); muster.CodeOf(err) != "quorum" {
		t.Fatalf("the last one: %v", err)
	}
	b.cfg.Bind = freePort(t)
	b.cfg.Self.Raft = b.cfg.Bind
	b.start().entered()
	until(t, "b votes again", func() bool {
		n, _ := c.Find("b")
		return n.Role != nil && *n.Role == muster.RoleVoter && n.Status == muster.StatusActive
	})
}

func TestLeadershipGoesToTheVoterThatIsNamed(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.three()
	if err := b.Transfer(t.Context(), "c"); muster.KindOf(err) != muster.NotMaster {
		t.Fatalf("by a follower: %v", err)
	}
	if err := a.Transfer(t.Context(), "nobody"); muster.KindOf(err) != muster.Invalid {
		t.Fatalf("to nobody: %v", err)
	}
	until(t, "c leads", func() bool { // on a busy machine another may lead meanwhile
		_ = a.Transfer(t.Context(), "c")
		s := c.Status()
		return s.Master != nil && s.Master.ID == c.id
	})
	if err := c.Transfer(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	until(t, "another leads", func() bool { s := b.Status(); return s.Master != nil && s.Master.ID != c.id })
}

func TestATransferToANodeThatDoesNotAnswerWaitsNoLongerThanItsCaller(t *testing.T) {
	w := newWorld(t)
	a, _, c := w.three()
	c.stop()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Transfer(gone, "c"); muster.KindOf(err) != muster.OutcomeUnknown {
		t.Fatal(err)
	}
}
