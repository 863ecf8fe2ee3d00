package fsm_test

import (
	"testing"
	"time"

	"muster"
	"muster/fsm"
)

func TestPingsMoveAStatusButNeitherAnIndexNorAnOperatorsWord(t *testing.T) {
	l := newLog(t)
	registered := l.do(fsm.OpNodeRegister, "", "", external("1", "shop"))
	l.do(fsm.OpNodeJoin, "", "", agent("2", "a"))
	seen, average := epoch.Add(time.Minute), 12.5
	well := fsm.Health{ID: "1", Seen: &seen, Average: &average}
	tell := func(list ...fsm.Health) (muster.Node, uint64) {
		t.Helper()
		res := l.do(fsm.OpHealthBatch, "", "", fsm.HealthBatch{Nodes: list})
		if res.Err() != nil || l.m.Err() != nil {
			t.Fatal(res.Err(), l.m.Err())
		}
		n, _ := l.m.Node("1")
		return n, res.Index
	}
	n, at := tell(well)
	if n.Observed != muster.ObservedUp || n.Index != at || n.Index == registered.Index || !n.LastPingAt.Equal(seen) || *n.AvgResponseTime != average {
		t.Fatalf("%+v", n)
	}
	first := n.Index
	if n, _ = tell(well); n.Index != first {
		t.Fatal("a ping without news moves the index of the node")
	}
	two, three := well, well
	two.Failures, three.Failures = 2, 3
	if n, _ = tell(two); n.Status != muster.StatusActive || n.PingFailures != 2 || n.Index != first {
		t.Fatalf("%+v", n)
	}
	if n, at = tell(three, fsm.Health{ID: "2", Failures: 3}, fsm.Health{ID: "nobody"}); n.Status != muster.StatusError || n.Index != at || n.Desired != muster.StatusActive {
		t.Fatalf("%+v", n)
	}
	if a, _ := l.m.Node("2"); a.Status != muster.StatusActive {
		t.Fatal("pings speak for an agent")
	}
	if n, _ = tell(well); n.Status != muster.StatusActive || n.PingFailures != 0 {
		t.Fatalf("%+v", n)
	}
	for _, word := range []muster.Status{muster.StatusMaintenance, muster.StatusInactive} {
		for _, seen := range []muster.Observed{muster.ObservedUp, muster.ObservedDown} {
			if got := muster.StatusOf(word, seen); got != word {
				t.Errorf("%s seen %s shows as %s", word, seen, got)
			}
		}
	}
}

func TestACredentialIsSealedAnewOnlyIfItIsStillTheSame(t *testing.T) {
	l := newLog(t)
	shop := external("1", "shop")
	shop.Sealed = []byte("old")
	l.do(fsm.OpNodeRegister, "", "", shop)
	l.do(fsm.OpNodeReseal, "", "", fsm.NodeReseal{ID: "1", Old: []byte("older"), Sealed: []byte("x")})
	if n, _ := l.m.Node("1"); string(n.Sealed) != "old" {
		t.Fatalf("%q", n.Sealed)
	}
	l.do(fsm.OpNodeReseal, "", "", fsm.NodeReseal{ID: "1", Old: []byte("old"), Sealed: []byte("new")})
	if n, _ := l.m.Node("1"); string(n.Sealed) != "new" {
		t.Fatalf("%q", n.Sealed)
	}
}

func TestANodeWeighsWhatItsRegistrationSaysOrOne(t *testing.T) {
	l := newLog(t)
	heavy := external("2", "heavy")
	heavy.Registration.Weight = new(7)
	l.do(fsm.OpNodeRegister, "", "", external("1", "light"))
	l.do(fsm.OpNodeRegister, "", "", heavy)
	light, _ := l.m.Node("1")
	if n, _ := l.m.Node("2"); n.Weight != 7 || light.Weight != 1 {
		t.Fatal(n.Weight, light.Weight)
	}
}
