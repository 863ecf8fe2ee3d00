package gossip_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/gossip"
	"muster/testdata/ports"

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
	addrs, err := ports.Free(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return addrs[0]
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

// yields waits for one of two nodes with one ID to be told of the other.
func yields(t *testing.T, copied, original *gossip.Pool, at string) {
	t.Helper()
	select {
	case holder := <-copied.Conflict():
		if holder.Gossip != at {
			t.Errorf("the copy is told of %+v", holder)
		}
	case <-time.After(20 * time.Second):
		t.Error("the copy was told of no conflict")
	}
	select {
	case holder := <-original.Conflict():
		t.Errorf("the original takes itself for the copy of %+v", holder)
	default:
	}
}

func TestTheOriginalStaysThoughItIsTheOneThatFindsTheCopy(t *testing.T) {
	copied := config(t, 1)
	original := config(t, 1, copied.Bind)
	a := start(t, original)
	yields(t, start(t, copied), a, original.Bind)
}

func TestTheOriginalLooksUpACopyThatItHearsOf(t *testing.T) {
	third, copied := config(t, 2), config(t, 1)
	original := config(t, 1, third.Bind)
	copied.Join = []string{third.Bind}
	a := start(t, original)
	<-a.Tried() // nobody is there yet
	c, b := start(t, third), start(t, copied)
	until(t, "the copy came first", func() bool { peer, _ := c.Peer(copied.ID); return peer.Gossip == copied.Bind })
	yields(t, b, a, original.Bind)
}

func TestOfTwinsThatStartedAtOnceTheGreaterAddressYields(t *testing.T) {
	one, two := config(t, 1), config(t, 1)
	one.Facts.Started, two.Facts.Started = 7, 7
	one.Join, two.Join = []string{two.Bind}, []string{one.Bind}
	a, b := start(t, one), start(t, two)
	if one.Bind < two.Bind {
		yields(t, b, a, one.Bind)
	} else {
		yields(t, a, b, two.Bind)
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

// unanswering accepts connections and says nothing.
func unanswering(t *testing.T) net.Listener {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func stopsSoon(t *testing.T, p *gossip.Pool) {
	t.Helper()
	stopped := make(chan error, 1)
	go func() { stopped <- p.Stop(context.Background(), false) }()
	select {
	case err := <-stopped:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Second):
		t.Fatal("still stopping after a second")
	}
}

func TestAnAddressThatNeverAnswersDoesNotHoldUpStopping(t *testing.T) {
	ln := unanswering(t)
	p := start(t, config(t, 1, ln.Addr().String()))
	conn, err := ln.Accept() // it is being joined, and gets no answer
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stopsSoon(t, p)
}

func TestJoiningWasTriedOnceAPeerIsMetThoughAnotherAddressIsSilent(t *testing.T) {
	ca := config(t, 1)
	start(t, ca)
	p := start(t, config(t, 2, unanswering(t).Addr().String(), ca.Bind))
	select {
	case <-p.Tried():
	case <-time.After(2 * time.Second): // the silent one takes five
		t.Fatal("still trying")
	}
	if state(p, ca.ID) != muster.PeerAlive {
		t.Fatal("nobody was met")
	}
}

func TestWhoIsStillAloneReadsWhy(t *testing.T) {
	var log lines
	cfg := config(t, 1, freeAddr(t))
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	start(t, cfg)
	until(t, "it is logged", func() bool { return log.count("nobody found to join yet") > 0 })
	if log.count(cfg.Join[0]+": failed to join "+cfg.Join[0]+": dial tcp") != 1 {
		t.Errorf("%s", log.buf.String())
	}
}

func TestJoiningWasTriedOnceAllAddressesFailed(t *testing.T) {
	for _, join := range [][]string{nil, {freeAddr(t), freeAddr(t)}} {
		select {
		case <-start(t, config(t, 1, join...)).Tried():
		case <-time.After(5 * time.Second):
			t.Fatal("still trying", join)
		}
	}
}

func TestAPoolThatCannotStartSaysWhyAndStopsCleanly(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*gossip.Config)
		flag  string
	}{
		"no key":              {func(c *gossip.Config) { c.Keys = nil }, ""},
		"an empty key":        {func(c *gossip.Config) { c.Keys = [][]byte{{}} }, ""},
		"a bad key":           {func(c *gossip.Config) { c.Keys = [][]byte{key[:5]} }, ""},
		"no address":          {func(c *gossip.Config) { c.Bind = "" }, "gossip"},
		"a port beyond all":   {func(c *gossip.Config) { c.Bind = "127.0.0.1:70000" }, "gossip"},
		"no host":             {func(c *gossip.Config) { c.Bind = "no such host:1" }, "gossip"},
		"another's no host":   {func(c *gossip.Config) { c.Advertise = "no such host:1" }, "advertise-gossip"},
		"all addresses":       {func(c *gossip.Config) { c.Advertise = "[::]:1" }, "advertise-gossip"},
		"a long HTTP address": {func(c *gossip.Config) { c.Facts.HTTP = strings.Repeat("h", 161) }, "advertise-http"},
		"a long raft address": {func(c *gossip.Config) { c.Facts.Raft = strings.Repeat("r", 161) }, "advertise-raft"},
	} {
		cfg := config(t, 1)
		c.spoil(&cfg)
		p := gossip.New(cfg)
		err := p.Start(t.Context())
		if muster.KindOf(err) != muster.Invalid || c.flag != "" && !strings.HasPrefix(err.Error(), "--"+c.flag+": ") {
			t.Errorf("%s: %v", name, err)
		}
		stopsSoon(t, p)
	}
	stopsSoon(t, gossip.New(config(t, 1))) // never started
}

func TestAPoolIsFoundAtTheAddressThatItsHostNameLeadsTo(t *testing.T) {
	for _, change := range []func(*gossip.Config, string){
		func(c *gossip.Config, port string) { c.Bind, c.Advertise = "localhost:"+port, "" },
		func(c *gossip.Config, port string) { c.Bind, c.Advertise = "127.0.0.1:"+port, "localhost:"+port },
		func(c *gossip.Config, port string) { c.Bind, c.Advertise = "ip6-or-4.localhost:"+port, "" }, // RFC 6761
	} {
		cfg := config(t, 1)
		_, port, _ := net.SplitHostPort(cfg.Bind)
		change(&cfg, port)
		p := gossip.New(cfg)
		if err := p.Start(t.Context()); err != nil && strings.Contains(cfg.Bind, "ip6") {
			t.Log("this machine does not know names below localhost:", err)
		} else if err != nil || p.Addr() != "127.0.0.1:"+port && p.Addr() != "[::1]:"+port {
			t.Errorf("%s: at %s, %v", cfg.Bind, p.Addr(), err)
		}
		stopsSoon(t, p)
	}
}

func TestLongAddressesReachThePeers(t *testing.T) {
	ca, cb := config(t, 1), config(t, 2)
	cb.Join = []string{ca.Bind}
	cb.Facts.HTTP, cb.Facts.Raft = strings.Repeat("h", 155)+":7600", strings.Repeat("r", 155)+":7602"
	a := start(t, ca)
	start(t, cb)
	until(t, "b is in", func() bool { return state(a, cb.ID) == muster.PeerAlive })
	if peer, _ := a.Peer(cb.ID); peer.HTTP != cb.Facts.HTTP || peer.Raft != cb.Facts.Raft {
		t.Fatalf("%+v", peer)
	}
}

func TestThePeersThatLiveAreNotForgotten(t *testing.T) {
	ca, gone := config(t, 1), freeAddr(t)
	a := start(t, ca)
	cb := config(t, 2, ca.Bind)
	cb.PeersFile = filepath.Join(t.TempDir(), "peers.json")
	old := fmt.Sprintf(`{%q:%q}`, gone, time.Now().Add(-time.Hour).Format(time.RFC3339))
	if err := os.WriteFile(cb.PeersFile, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	b := start(t, cb)
	<-b.Joined()
	<-b.Tried()
	if left := gossip.KnownAfter(b, 71*time.Hour+30*time.Minute); !slices.Equal(left, []string{ca.Bind}) {
		t.Fatalf("known after three days: %q", left)
	}
	if left := gossip.KnownAfter(b, 71*time.Hour); !slices.Equal(left, []string{ca.Bind}) {
		t.Fatalf("known after six days: %q", left)
	}
	until(t, "it is written down", func() bool {
		raw, err := os.ReadFile(cb.PeersFile)
		var kept map[string]time.Time
		return err == nil && json.Unmarshal(raw, &kept) == nil && len(kept) == 1 && time.Since(kept[ca.Bind]) < time.Hour
	})
	if err := a.Stop(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	until(t, "a left", func() bool { return state(b, ca.ID) == muster.PeerLeft })
	if left := gossip.KnownAfter(b, 73*time.Hour); len(left) != 0 {
		t.Fatalf("known though dead for long: %q", left)
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
