package gossip_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"muster"
	"muster/gossip"

	"go.uber.org/goleak"
)

// Shutdown of memberlist does not wait for probes under way.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probe"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).pushPull"))
}

var key = []byte("0123456789abcdef0123456789abcdef")

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

func config(t *testing.T, n int, join ...string) gossip.Config {
	t.Helper()
	addr := freeAddr(t)
	return gossip.Config{
		ID: fmt.Sprintf("00000000-0000-7000-8000-%012d", n), Bind: addr, Advertise: addr, Join: join,
		Keys: [][]byte{key}, Profile: "quick", Log: slog.New(slog.DiscardHandler),
		Facts: gossip.Facts{Name: fmt.Sprint("n", n), Raft: "127.0.0.1:1", HTTP: "127.0.0.1:2"},
	}
}

func start(t *testing.T, cfg gossip.Config) *gossip.Pool {
	t.Helper()
	p := gossip.New(cfg)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(context.Background(), false) })
	return p
}

// until waits for a condition that has no event of its own here.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func state(p *gossip.Pool, id string) muster.PeerState {
	peer, _ := p.Peer(id)
	return peer.State
}

func TestPeersFindEachOtherAndTellARestartFromAGoodbye(t *testing.T) {
	ca, cb, cc := config(t, 1), config(t, 2), config(t, 3)
	cb.Join, cc.Join = []string{"nosuch.invalid:1", ca.Bind}, []string{cb.Bind}
	a, b, c := start(t, ca), start(t, cb), start(t, cc)
	for _, p := range []*gossip.Pool{a, b, c} {
		until(t, "three alive", func() bool {
			return state(p, ca.ID) == muster.PeerAlive && state(p, cb.ID) == muster.PeerAlive && state(p, cc.ID) == muster.PeerAlive
		})
	}
	b.SetFacts(func(f *gossip.Facts) { f.Generation, f.Documents = 7, 70 })
	until(t, "facts arrive", func() bool { peer, _ := a.Peer(cb.ID); return peer.Generation == 7 && peer.Documents == 70 })
	if err := b.Stop(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	until(t, "b restarts", func() bool { return state(a, cb.ID) == muster.PeerRestarting })
	if err := c.Stop(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	until(t, "c left", func() bool { return state(a, cc.ID) == muster.PeerLeft })
}

func TestAnotherKeyAndAnotherClusterStayOut(t *testing.T) {
	ca := config(t, 1)
	ca.Facts.ClusterID = "01a211a1-5664-729f-9c97-7a65fe614b9f"
	a := start(t, ca)
	cb, cc := config(t, 2, ca.Bind), config(t, 3, ca.Bind)
	cb.Keys = [][]byte{[]byte("another-key-another-key-another!")}
	cc.Facts.ClusterID = "01a211a1-5664-729f-9c97-7a65fe614ba0"
	start(t, cb)
	start(t, cc)
	select {
	case <-a.Joined():
		t.Fatal("a stranger came in")
	case <-time.After(1500 * time.Millisecond):
	}
}

func TestACopyOfALivingNodeIsRefusedAndToldSo(t *testing.T) {
	ca, cb := config(t, 1), config(t, 2)
	cb.Join = []string{ca.Bind}
	a, b := start(t, ca), start(t, cb)
	until(t, "b is in", func() bool { return state(a, cb.ID) == muster.PeerAlive })
	copied := config(t, 2, ca.Bind)
	twin := start(t, copied)
	select {
	case holder := <-twin.Conflict():
		if holder.Gossip != cb.Bind || holder.HTTP == "" {
			t.Fatalf("%+v", holder)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no conflict was told")
	}
	if peer, _ := a.Peer(cb.ID); peer.Gossip != cb.Bind || peer.State != muster.PeerAlive {
		t.Fatalf("the original was disturbed: %+v", peer)
	}
	direct := config(t, 2, cb.Bind)
	<-start(t, direct).Conflict()
	select {
	case holder := <-b.Conflict():
		t.Fatalf("the original takes itself for the copy: %+v", holder)
	default:
	}
}

func TestANodeFindsItsPeersAgainWithoutAJoinAddress(t *testing.T) {
	ca, cb := config(t, 1), config(t, 2)
	cb.Join, cb.PeersFile = []string{ca.Bind}, filepath.Join(t.TempDir(), "peers.json")
	start(t, ca)
	b := start(t, cb)
	<-b.Joined()
	if err := b.Stop(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	cb.Join = nil
	again := start(t, cb)
	select {
	case <-again.Joined():
	case <-time.After(15 * time.Second):
		t.Fatal("still alone")
	}
}

func TestANodeThatComesBackUnderAnotherIDEndsTheOldOneAtOnce(t *testing.T) {
	ca, cb := config(t, 1), config(t, 2)
	cb.Join = []string{ca.Bind}
	a := start(t, ca)
	b := gossip.New(cb)
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "b is in", func() bool { return state(a, cb.ID) == muster.PeerAlive })
	if err := gossip.Kill(b); err != nil {
		t.Fatal(err)
	}
	again := config(t, 3, ca.Bind)
	again.Bind, again.Advertise = cb.Bind, cb.Advertise
	start(t, again)
	until(t, "the newcomer is in", func() bool { return state(a, again.ID) == muster.PeerAlive })
	if got := state(a, cb.ID); got != muster.PeerFailed {
		t.Fatalf("the old one is %s", got)
	}
}

func TestASilentAddressDoesNotHoldUpStopping(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	p := gossip.New(config(t, 1, ln.Addr().String()))
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := ln.Accept() // it is being joined, and gets no answer
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stopped := make(chan error, 1)
	go func() { stopped <- p.Stop(context.Background(), false) }()
	select {
	case err := <-stopped:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(3 * time.Second):
		t.Fatal("still stopping")
	}
}

func TestATakenPortIsNamed(t *testing.T) {
	ca := config(t, 1)
	start(t, ca)
	cb := config(t, 2)
	cb.Bind, cb.Advertise = ca.Bind, ca.Bind
	if err := gossip.New(cb).Start(t.Context()); muster.KindOf(err) != muster.Unavailable {
		t.Fatalf("got %v", err)
	}
}
