package gossip_test

import (
	"strings"
	"testing"

	"muster"
)

func TestAPingTellsWhoAnswersAndOverWhat(t *testing.T) {
	ca := config(t, 1)
	a := start(t, ca)
	cb := config(t, 2, ca.Bind)
	b := start(t, cb)
	until(t, "b is in", func() bool { return state(a, cb.ID) == muster.PeerAlive })
	peer, _ := a.Peer(cb.ID)
	if err := a.Ping(t.Context(), peer); err != nil {
		t.Errorf("a living one: %v", err)
	}
	self, _ := a.Peer(ca.ID)
	if err := a.Ping(t.Context(), self); err != nil {
		t.Errorf("itself: %v", err)
	}
	if err := a.Ping(t.Context(), muster.Peer{ID: cb.ID, Gossip: unanswering(t).Addr().String()}); err == nil || !strings.Contains(err.Error(), "UDP") {
		t.Errorf("one that only listens: %v", err)
	}
	if err := a.Ping(t.Context(), muster.Peer{ID: ca.ID, Gossip: peer.Gossip}); err == nil {
		t.Error("another node answered")
	}
	if err := b.Stop(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := a.Ping(t.Context(), peer); err == nil {
		t.Error("nobody answered")
	}
	if err := a.Ping(t.Context(), muster.Peer{ID: cb.ID}); err == nil {
		t.Error("an address that is none")
	}
}
