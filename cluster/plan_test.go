package cluster_test

import (
	"testing"
	"time"

	"muster"
	"muster/cluster"

	"github.com/hashicorp/raft"
)

func servers(voters, standbys string) (out []raft.Server) {
	for _, id := range voters {
		out = append(out, raft.Server{ID: raft.ServerID(id), Suffrage: raft.Voter})
	}
	for _, id := range standbys {
		out = append(out, raft.Server{ID: raft.ServerID(id), Suffrage: raft.Nonvoter})
	}
	return out
}

func set(ids string) map[string]bool {
	m := map[string]bool{}
	for _, id := range ids {
		m[string(id)] = true
	}
	return m
}

func TestThePlannerMakesOneSafeChangeAtATime(t *testing.T) {
	for _, c := range []struct {
		name             string
		voters, standbys string
		agents, gone     string
		alive            string
		heirs            map[string]string
		lag              map[string]uint64
		want             string
	}{
		{name: "nothing to do", voters: "abc", agents: "abc", alive: "abc"},
		{name: "a newcomer becomes a standby", voters: "a", agents: "ab", alive: "ab", want: "add_standby b"},
		{name: "a dead newcomer waits", voters: "a", agents: "ab", alive: "a"},
		{name: "a caught-up standby becomes a voter", voters: "a", standbys: "b", agents: "ab", alive: "ab", lag: map[string]uint64{"b": 250}, want: "promote b"},
		{name: "one that is behind does not", voters: "a", standbys: "b", agents: "ab", alive: "ab", lag: map[string]uint64{"b": 251}},
		{name: "nor one of unknown lag", voters: "a", standbys: "b", agents: "ab", alive: "ab"},
		{name: "nor a dead one", voters: "a", standbys: "b", agents: "ab", alive: "a", lag: map[string]uint64{"b": 0}},
		{name: "the wanted number is not passed", voters: "abcde", standbys: "f", agents: "abcdef", alive: "abcdef", lag: map[string]uint64{"f": 0}},
		{name: "a dead voter stays", voters: "abc", agents: "abc", alive: "ab"},
		{name: "a predecessor goes once its heir has caught up", voters: "abc", standbys: "d", agents: "abd", gone: "c", alive: "abd", heirs: map[string]string{"d": "c"}, lag: map[string]uint64{"d": 0}, want: "remove c"},
		{name: "then the heir is promoted", voters: "ab", standbys: "d", agents: "abd", gone: "c", alive: "abd", heirs: map[string]string{"d": "c"}, lag: map[string]uint64{"d": 0}, want: "promote d"},
		{name: "not while the heir is behind", voters: "abc", standbys: "d", agents: "abd", gone: "c", alive: "abd", heirs: map[string]string{"d": "c"}, lag: map[string]uint64{"d": 900}},
		{name: "even if it woke up again", voters: "abcd", agents: "abd", gone: "c", alive: "abcd", heirs: map[string]string{"d": "c"}, lag: map[string]uint64{"d": 0}, want: "remove c"},
		{name: "what an operator removed goes", voters: "abc", agents: "ab", gone: "c", alive: "ab", want: "remove c"},
		{name: "one that did not register yet stays", voters: "abc", agents: "ab", alive: "ab"},
	} {
		view := cluster.View{
			Servers: servers(c.voters, c.standbys), Agents: set(c.agents), Gone: set(c.gone), Alive: set(c.alive),
			Heirs: c.heirs, Lag: c.lag, Voters: 5,
		}
		got := ""
		if change, due := cluster.Plan(view); due {
			got = string(change.Kind) + " " + change.ID
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestANodeIsHealthyForTenMinutesAfterItsLastSignOfLife(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		ago      time.Duration
		failures int
		status   muster.Status
		want     bool
	}{
		{10*time.Minute - time.Second, 0, muster.StatusActive, true},
		{10*time.Minute + time.Second, 0, muster.StatusActive, false},
		{time.Second, 2, muster.StatusActive, true},
		{time.Second, 3, muster.StatusActive, false},
		{time.Second, 0, muster.StatusMaintenance, false},
		{time.Second, 0, muster.StatusInactive, false},
	} {
		if got := cluster.Healthy(muster.Node{Status: c.status, PingFailures: c.failures}, now.Add(-c.ago), now); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
