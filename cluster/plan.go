package cluster

import (
	"cmp"
	"slices"

	"github.com/hashicorp/raft"
)

// catchUp is how many entries a standby may be behind and still count as
// caught up.
const catchUp = 250

// View is all that the membership planner looks at.
type View struct {
	Servers []raft.Server     // raft's latest configuration
	Agents  map[string]bool   // agents of the registry
	Gone    map[string]bool   // agents that were removed from it, left for good, or whose name was taken over
	Heirs   map[string]string // living agent to the dead node whose name it took over
	Alive   map[string]bool   // by gossip
	Lag     map[string]uint64 // entries behind the leader, where known
	Voters  int               // wanted number of voters
}

// ChangeKind is what a change of raft's membership does.
type ChangeKind string

// The changes the planner makes.
const (
	AddStandby ChangeKind = "add_standby"
	Promote    ChangeKind = "promote"
	Remove     ChangeKind = "remove"
)

// Change is one step of raft's membership.
type Change struct {
	Kind ChangeKind
	ID   string
}

// Plan returns the next change of raft's membership, if any is due. Agents
// come in as standbys; a server leaves only if its node was removed by an
// operator, or its name was taken over by one that has caught up; a living
// standby that has caught up becomes a voter while voters are missing. The gone
// leave before others are promoted: a dead voter less never needs a larger
// quorum, one voter more may. A server that is not in the registry yet stays.
// Plan is pure: the same view gives the same change.
func Plan(v View) (Change, bool) {
	servers := slices.SortedFunc(slices.Values(v.Servers), func(a, b raft.Server) int { return cmp.Compare(a.ID, b.ID) })
	in := map[string]raft.ServerSuffrage{}
	for _, s := range servers {
		in[string(s.ID)] = s.Suffrage
	}
	ids := make([]string, 0, len(v.Agents))
	for id := range v.Agents {
		ids = append(ids, id)
	}
	slices.Sort(ids)

	for _, id := range ids {
		if _, known := in[id]; !known && v.Alive[id] {
			return Change{Kind: AddStandby, ID: id}, true
		}
	}
	for _, s := range servers {
		id := string(s.ID)
		if v.Gone[id] && v.replaced(id, in) {
			return Change{Kind: Remove, ID: id}, true
		}
	}
	voters := 0
	for _, s := range servers {
		if v.Agents[string(s.ID)] && s.Suffrage == raft.Voter {
			voters++
		}
	}
	for _, id := range ids {
		if suffrage, known := in[id]; known && suffrage != raft.Voter && voters < v.Voters && v.Alive[id] && v.caughtUp(id) {
			return Change{Kind: Promote, ID: id}, true
		}
	}
	return Change{}, false
}

func (v View) caughtUp(id string) bool {
	lag, known := v.Lag[id]
	return known && lag <= catchUp
}

// replaced reports whether a server that is gone may go: it has no heir, since an
// operator removed it, or its heir is in and has caught up.
func (v View) replaced(id string, in map[string]raft.ServerSuffrage) bool {
	for heir, dead := range v.Heirs {
		if dead == id {
			_, joined := in[heir]
			return joined && v.caughtUp(heir)
		}
	}
	return true
}
