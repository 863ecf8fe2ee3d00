package doctor

import (
	"fmt"
	"time"

	"muster"
	"muster/httpserver/api"
)

// Beats come ten times a second or more, and a standby is caught up when it is
// at most lateEntries behind.
const (
	lateContact = time.Second
	lostContact = 10 * time.Second
	lateEntries = 250
)

// raft looks at raft and at who votes.
func (d *Doctor) raft(nodes []muster.Node, s muster.ClusterStatus) []api.Finding {
	return []api.Finding{master(s), contact(s), lag(s), d.voters(nodes, s), quorum(s)}
}

func master(s muster.ClusterStatus) api.Finding {
	if s.Master == nil {
		return fail("master", "this node knows no master", fmt.Sprintf("start agents until a majority of the voters (%d) is up and reach each other's raft ports", s.Quorum))
	}
	return ok("master", s.Master.Slug+" leads")
}

func contact(s muster.ClusterStatus) api.Finding {
	alone := time.Duration(s.StaleMs) * time.Millisecond
	says := fmt.Sprintf("last heard from the master %v ago", alone)
	switch {
	case alone >= lostContact:
		return fail("contact", says, "look at the findings http and raft about the master; after 60 s this node reads and searches only")
	case alone >= lateContact:
		return warn("contact", says, "look at the load of this machine and of the network")
	default:
		return ok("contact", says)
	}
}

func lag(s muster.ClusterStatus) api.Finding {
	behind := max(s.CommitIndex, s.AppliedIndex) - s.AppliedIndex
	says := fmt.Sprintf("%d entries behind what is committed", behind)
	if behind > lateEntries {
		return warn("lag", says, "if it does not catch up within a minute, look at the disk and the load of this machine")
	}
	return ok("lag", says)
}

// voters compares who votes with how many should, as far as there are agents.
func (d *Doctor) voters(nodes []muster.Node, s muster.ClusterStatus) api.Finding {
	have, agents, wanted := 0, 0, d.cfg.Voters()
	for _, p := range s.Peers {
		if p.Role == muster.RoleVoter {
			have++
		}
	}
	for _, n := range nodes {
		if n.Kind == muster.KindAgent && n.DeletedAt == nil && n.Status != muster.StatusInactive {
			agents++
		}
	}
	says := fmt.Sprintf("%d of %d wanted voters, %d agents", have, wanted, agents)
	switch {
	case have < min(wanted, agents):
		return warn("voters", says, "the master promotes standbys that live and have caught up: look at those that do not")
	case have > wanted && wanted > 0:
		return warn("voters", says, "a voter that is gone for good still counts: muster cluster remove SLUG")
	default:
		return ok("voters", says)
	}
}

// quorum says how many voters may still fail.
func quorum(s muster.ClusterStatus) api.Finding {
	voters, alive := 0, 0
	for _, p := range s.Peers {
		if p.Role != muster.RoleVoter {
			continue
		}
		if voters++; p.Alive {
			alive++
		}
	}
	says := fmt.Sprintf("%d of %d voters live, %d must", alive, voters, s.Quorum)
	switch {
	case alive < s.Quorum || voters == 0:
		return fail("quorum", says, "start the dead voters again; nothing can be written until then")
	case s.CanLose == 0 && alive == voters:
		return warn("quorum", says+": none may fail", "start more agents, three for one failure: muster invite")
	case s.CanLose == 0:
		return warn("quorum", says+": no other may fail", "start the dead voters again, or remove those that are gone for good: muster cluster remove SLUG")
	default:
		return ok("quorum", fmt.Sprintf("%s: %d may fail", says, s.CanLose))
	}
}
