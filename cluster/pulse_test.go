package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"muster"
	"muster/cluster"
	"muster/cluster/trust"
)

func vault(secrets ...trust.Secret) trust.Vault { return func() []trust.Secret { return secrets } }

// vital is what a ping of an external node hears.
type vital struct {
	muster.Vital

	err error
}

func (w *world) ping(context.Context, muster.Node) (muster.Vital, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pings++
	v := w.vital
	return v.Vital, v.err
}

func (w *world) hears(v vital) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.vital = v
}

func (w *world) pinged() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pings
}

func (m *member) shop(t *testing.T) muster.Node {
	t.Helper()
	for _, n := range m.Nodes() {
		if n.Slug == "shop" {
			return n
		}
	}
	t.Fatal("no shop")
	return muster.Node{}
}

var errDown = muster.Errorf(muster.Unavailable, "down")

func TestEveryNodeSaysTheSameOfAnExternalNodesHealthAlsoAfterAFailover(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.three()
	if _, err := b.registerShop("k"); err != nil {
		t.Fatal(err)
	}
	all := func(members []*member, status muster.Status, healthy bool) func() bool {
		return func() bool {
			for _, m := range members {
				n := m.shop(t)
				if n.Status != status || n.Healthy != healthy {
					return false
				}
			}
			return true
		}
	}
	three, two := []*member{a, b, c}, []*member{b, c}
	until(t, "healthy everywhere", all(three, muster.StatusActive, true))
	w.hears(vital{err: errDown})
	until(t, "in error everywhere", all(three, muster.StatusError, false))
	if n := c.shop(t); n.PingFailures < muster.DeadPingFailures || n.LastPingAt == nil || n.AvgResponseTime == nil {
		t.Fatalf("%+v", n)
	}
	a.stop()
	w.dies(a)
	if n := b.shop(t); n.Status != muster.StatusError || n.Healthy {
		t.Fatalf("right after the master's death: %+v", n)
	}
	before := w.pinged()
	until(t, "pings of the next master", func() bool { return w.pinged() > before+3 })
	if !all(two, muster.StatusError, false)() {
		t.Fatal("the failover made it well")
	}
	w.hears(vital{})
	until(t, "well again everywhere", all(two, muster.StatusActive, true))
	if n := c.shop(t); n.PingFailures != 0 {
		t.Fatalf("%d failures still count", n.PingFailures)
	}
}

func TestAPingLearnsWhatAnApplicationSaysAndKeepsWhatItDoesNotSay(t *testing.T) {
	w := newWorld(t)
	a := w.make("a", founder).start().entered()
	w.hears(vital{Vital: muster.Vital{Version: "2.1", Capabilities: []muster.Capability{"search"}}})
	if _, err := a.registerShop("k"); err != nil {
		t.Fatal(err)
	}
	learned := func() bool {
		n := a.shop(t)
		return n.Version == "2.1" && slices.Equal(n.Capabilities, []muster.Capability{"search"})
	}
	until(t, "version and capabilities", learned)
	w.hears(vital{})
	before := w.pinged()
	until(t, "more pings", func() bool { return w.pinged() > before+2 })
	if !learned() {
		t.Fatalf("%+v", a.shop(t))
	}
}

func TestWhatAnOperatorSetsStaysUntilTheApplicationSaysSomethingNew(t *testing.T) {
	w := newWorld(t)
	a := w.make("a", founder).start().entered()
	says := func(version string, words ...muster.Capability) {
		w.hears(vital{Vital: muster.Vital{Version: version, Capabilities: words}})
	}
	is := func(version string, words ...muster.Capability) func() bool {
		return func() bool {
			n := a.shop(t)
			return n.Version == version && slices.Equal(n.Capabilities, words)
		}
	}
	says("2.1", "search")
	if _, err := a.registerShop("k"); err != nil {
		t.Fatal(err)
	}
	until(t, "what it says", is("2.1", "search"))
	change := muster.NodeChange{Version: new("mine"), Capabilities: &[]muster.Capability{"rag"}}
	if _, err := a.UpdateNode(t.Context(), muster.Write{By: operator}, muster.Edit{Slug: "shop"}, change); err != nil {
		t.Fatal(err)
	}
	index := a.Status().AppliedIndex
	stays := func(what string) {
		t.Helper()
		before := w.pinged()
		until(t, what, func() bool { return w.pinged() > before+2 })
		if a.Ping(t.Context(), []muster.Node{a.shop(t)}); !is("mine", "rag")() {
			t.Fatalf("%s: %+v", what, a.shop(t))
		}
	}
	before := w.pinged()
	until(t, "pings that say the same", func() bool { return w.pinged() > before+5 })
	if now := a.Status().AppliedIndex; now != index {
		t.Errorf("%d entries for them", now-index)
	}
	stays("saying the same")
	w.hears(vital{err: errDown})
	stays("saying nothing")
	says("2.1", "search")
	stays("saying the same again")
	says("2.2", "search")
	until(t, "a new version", is("2.2", "rag"))
	says("2.2", "search", "actions")
	until(t, "new capabilities", is("2.2", "search", "actions"))
}

func TestPingsThatChangeNothingDoNotGrowTheLog(t *testing.T) {
	w := newWorld(t)
	a := w.make("a", founder).start().entered()
	if _, err := a.registerShop("k"); err != nil {
		t.Fatal(err)
	}
	until(t, "the first ping", func() bool { return a.shop(t).Healthy })
	index, before := a.Status().AppliedIndex, w.pinged()
	until(t, "ten pings", func() bool { return w.pinged() > before+10 })
	if now := a.Status().AppliedIndex; now != index {
		t.Fatalf("%d entries for pings without news", now-index)
	}
}

func TestAPingThatIsAskedForCountsBeforeItsAnswer(t *testing.T) {
	w := newWorld(t)
	a := w.make("a", founder).start().entered()
	w.hears(vital{err: errDown})
	if _, err := a.registerShop("k"); err != nil {
		t.Fatal(err)
	}
	until(t, "in error", func() bool { return a.shop(t).Status == muster.StatusError })
	w.hears(vital{})
	got := a.Ping(t.Context(), []muster.Node{a.shop(t)})
	if got.Healthy != 1 || got.Failed != 0 || got.Results["shop"].Status != muster.StatusActive {
		t.Fatalf("%+v", got)
	}
	if n := a.shop(t); !n.Healthy || n.Status != muster.StatusActive {
		t.Fatalf("%+v", n)
	}
}

func TestACredentialThatAnEarlierSecretSealedIsCountedUntilItIsSealedAnew(t *testing.T) {
	w := newWorld(t)
	a, b, _ := w.three()
	if _, err := a.registerShop("k"); err != nil {
		t.Fatal(err)
	}
	until(t, "b has it", func() bool { _, ok := b.reg.Find("shop"); return ok })
	b.stop()
	b.cfg.Vault = vault(trust.NewSecret(), w.secret) // the master speaks the old one still
	b.start().entered()
	until(t, "one old seal", func() bool { return b.OldSeals() == 1 })
	if n := a.OldSeals(); n != 0 {
		t.Errorf("%d at a, which speaks that secret", n)
	}
}

func TestPingsAskedForAtOnceAllCount(t *testing.T) {
	const many = 50
	w := newWorld(t)
	a := w.make("a", func(c *cluster.Config) { founder(c); c.PingEvery = time.Hour }).start().entered()
	if _, err := a.registerShop("k"); err != nil {
		t.Fatal(err)
	}
	until(t, "the first ping", func() bool { return a.shop(t).Healthy })
	first := a.shop(t)
	if a.Ping(t.Context(), []muster.Node{first}); !a.shop(t).LastPingAt.After(*first.LastPingAt) {
		t.Fatal("a ping that was asked for is not in the registry when it is answered")
	}
	w.hears(vital{err: errDown})
	var pings sync.WaitGroup
	for range many {
		pings.Go(func() { a.Ping(t.Context(), []muster.Node{first}) })
	}
	pings.Wait()
	if n := a.shop(t).PingFailures; n != many {
		t.Fatalf("the registry knows of %d of %d failures", n, many)
	}
	w.hears(vital{})
	if a.Ping(t.Context(), []muster.Node{first}); a.shop(t).PingFailures != 0 {
		t.Fatal("the success after them is not in the registry")
	}
}

func TestAMasterWithANewSecretSealsCredentialsAnew(t *testing.T) {
	w := newWorld(t)
	a := w.make("a", founder).start().entered()
	r, err := a.registerShop("k")
	if err != nil || r.Credential == nil {
		t.Fatal(r, err)
	}
	fresh := trust.NewSecret()
	next := vault(fresh, w.secret)
	if text, err := next.Open(r.Node.ID, a.shop(t).Sealed); err != nil || text != *r.Credential {
		t.Fatal(text, err)
	}
	if n := a.OldSeals(); n != 0 {
		t.Errorf("%d old seals at first", n)
	}
	a.stop()
	a.cfg.Vault = vault(w.secret, fresh) // understands it, does not speak it
	a.start().entered()
	if n := a.OldSeals(); n != 0 {
		t.Errorf("%d old seals before the new secret speaks", n)
	}
	a.stop()
	a.cfg.Vault = next
	a.start().entered()
	until(t, "a fresh seal", func() bool { return next.Fresh(a.shop(t).Sealed) })
	if n := a.OldSeals(); n != 0 {
		t.Errorf("%d old seals at the end", n)
	}
	if text, err := vault(fresh).Open(r.Node.ID, a.shop(t).Sealed); err != nil || text != *r.Credential {
		t.Fatal(text, err)
	}
}

func TestManyNewNodesArePingedOneAfterAnotherAndEachOnce(t *testing.T) {
	const many = 100
	for _, c := range []struct {
		nodes       int
		every, tick time.Duration
		want        int
	}{
		{1, time.Hour, 100 * time.Millisecond, 32},
		{3000, 30 * time.Second, 100 * time.Millisecond, 32},
		{30_000, 30 * time.Second, 100 * time.Millisecond, 300},
		{30_000, 30 * time.Second, time.Second, 3000},
		{1, time.Hour, 550 * time.Millisecond, 176},
		{1000, time.Second, 100 * time.Millisecond, 300},
		{1000, 0, 100 * time.Millisecond, 3000},
	} {
		if got := cluster.Paced(c.nodes, c.every, c.tick); got != c.want {
			t.Errorf("%d nodes each %v: %d in %v, want %d", c.nodes, c.every, got, c.tick, c.want)
		}
	}
	for took, want := range map[time.Duration]string{0: "100ms", time.Millisecond: "100ms", 4 * time.Millisecond: "200ms", time.Second: "1s"} {
		if got := cluster.RestAfter(took); got.String() != want {
			t.Errorf("after %v it rests %v, want %s", took, got, want)
		}
	}
	w := newWorld(t)
	a := w.make("a", func(c *cluster.Config) { founder(c); c.PingEvery = time.Hour }).start().entered()
	var writers sync.WaitGroup
	for i := range many {
		writers.Go(func() {
			name := fmt.Sprint("shop ", i)
			if _, err := a.Register(t.Context(), muster.Write{By: operator, Route: "POST /v1/nodes", Key: name}, muster.Registration{Name: name, URL: "http://127.0.0.1:9"}); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	healthy := func() (n int) {
		for _, node := range a.Nodes() {
			if node.Kind == muster.KindExternal && node.Healthy {
				n++
			}
		}
		return n
	}
	until(t, "all pinged", func() bool { return healthy() == many })
	if n := w.pinged(); n != many {
		t.Errorf("%d pings of %d nodes", n, many)
	}
}
