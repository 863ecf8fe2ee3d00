package gossip_test

import (
	"testing"

	"muster"
	"muster/gossip"
)

func TestPeersStayTogetherWhileTheirKeyIsChangedStepByStep(t *testing.T) {
	old, fresh := key, []byte("fresh-key-fresh-key-fresh-key-12")
	ca, cb := config(t, 1), config(t, 2)
	cb.Join = []string{ca.Bind}
	a, b := start(t, ca), start(t, cb)
	until(t, "they know each other", func() bool {
		return state(a, cb.ID) == muster.PeerAlive && state(b, ca.ID) == muster.PeerAlive
	})
	generation := uint64(0)
	hear := func(when string, from, at *gossip.Pool, id string) {
		generation++
		from.SetFacts(func(f *gossip.Facts) { f.Generation = generation })
		until(t, when, func() bool { peer, _ := at.Peer(id); return peer.Generation == generation })
	}
	for _, step := range []struct {
		name string
		pool *gossip.Pool
		keys [][]byte
	}{
		{"a understands", a, [][]byte{old, fresh}},
		{"b understands", b, [][]byte{old, fresh}},
		{"a speaks", a, [][]byte{fresh, old}},
		{"b speaks", b, [][]byte{fresh, old}},
		{"a forgets", a, [][]byte{fresh}},
		{"b forgets", b, [][]byte{fresh}},
	} {
		if err := step.pool.SetKeys(step.keys); err != nil {
			t.Fatal(step.name, err)
		}
		hear(step.name+", b hears a", a, b, ca.ID)
		hear(step.name+", a hears b", b, a, cb.ID)
	}
	for n, c := range []struct {
		key   []byte
		peers int
	}{{old, 1}, {fresh, 3}} {
		late := config(t, 3+n, ca.Bind)
		late.Keys = [][]byte{c.key}
		pool := start(t, late)
		if <-pool.Tried(); n == 0 && len(pool.Peers()) != c.peers {
			t.Error("who has the old key alone still comes in")
		}
		until(t, "the newcomer sees whom it may", func() bool { return len(pool.Peers()) == c.peers })
	}
	if err := a.SetKeys([][]byte{[]byte("short")}); err == nil {
		t.Error("a key of five bytes")
	}
}

func TestAPeerSaysWhichSecretsItGoesByAndWhetherItSpeaksHTTPS(t *testing.T) {
	ca, cb := config(t, 1), config(t, 2)
	cb.Join, cb.Facts.TLS = []string{ca.Bind}, true
	cb.Facts.Secrets = [2]uint32{7, 0}
	a, b := start(t, ca), start(t, cb)
	until(t, "b is known", func() bool {
		peer, _ := a.Peer(cb.ID)
		return peer.Secrets == [2]uint32{7, 0} && peer.BaseURL() == "https://127.0.0.1:2"
	})
	b.SetFacts(func(f *gossip.Facts) { f.Secrets = [2]uint32{9, 7} })
	until(t, "b's change is known", func() bool { peer, _ := a.Peer(cb.ID); return peer.Secrets == [2]uint32{9, 7} })
	if peer, _ := b.Peer(ca.ID); peer.BaseURL() != "http://127.0.0.1:2" {
		t.Errorf("a is at %s", peer.BaseURL())
	}
}
