package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"muster"
	"muster/cluster"
	"muster/fsm"
)

func TestAWriteAtAFollowerIsSeenThereAndOutlivesTheMaster(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.three()
	first, err := b.registerShop("k1")
	if err != nil || first.APIKey == nil {
		t.Fatalf("%+v, %v", first, err)
	}
	if _, ok := b.Node(first.Node.ID); !ok {
		t.Fatal("the node that forwarded the write does not see it")
	}
	a.stop()
	again, err := c.registerShop("k1")
	if err != nil || again.Node.ID != first.Node.ID || again.APIKey != nil || again.Hint == "" {
		t.Fatalf("repeated at another node after the master's death: %+v, %v", again, err)
	}
	if err := c.Linearize(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := c.Status(); s.Master == nil || s.Master.ID == a.id || s.Quorum != 2 {
		t.Fatalf("status %+v", s)
	}
}

func TestAMasterThatHandsOverLeavesNoGap(t *testing.T) {
	w := newWorld(t)
	a, b, _ := w.three()
	if err := a.HandOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.registerShop(""); err != nil {
		t.Fatalf("a write through the former master: %v", err)
	}
	if s := b.Status(); s.Master == nil || s.Master.ID == a.id {
		t.Fatalf("still led by %+v", s.Master)
	}
}

func TestCandidatesThatExpectEachOtherFoundOneCluster(t *testing.T) {
	w := newWorld(t)
	expecting := func(c *cluster.Config) { c.Expect = 3 }
	all := make([]*member, 0, 3)
	for i := range 3 {
		all = append(all, w.make(fmt.Sprintf("n%d", i), expecting))
	}
	for _, m := range all {
		m.start()
	}
	// gossip carries a cluster's ID as soon as a member knows it
	until(t, "a cluster ID", func() bool {
		for _, m := range all {
			if id := m.reg.ClusterID(); id != "" {
				w.peer(m.id, func(p *muster.Peer) { p.ClusterID = id })
			}
		}
		return all[0].reg.ClusterID() != "" && all[0].reg.ClusterID() == all[1].reg.ClusterID() && all[1].reg.ClusterID() == all[2].reg.ClusterID()
	})
	for _, m := range all {
		m.entered()
	}
}

func TestNothingThatCopiesCannotApplyGetsIntoTheLog(t *testing.T) {
	w := newWorld(t)
	a := w.make("a", founder).start().entered()
	node := muster.Rights{Principal: operator.Principal, Scopes: []string{muster.ScopeNode, muster.ScopeAdmin}}
	command := func(change func(*fsm.Command)) []byte {
		cmd, err := fsm.NewCommand(fsm.OpKeyCreate, time.Now(), operator.Principal, fsm.KeyCreate{ID: "k"})
		if err != nil {
			t.Fatal(err)
		}
		change(&cmd)
		raw, err := json.Marshal(cmd)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for name, c := range map[string]struct {
		raw  []byte
		want muster.Kind
	}{
		"no command":           {[]byte("x"), muster.Malformed},
		"another version":      {command(func(c *fsm.Command) { c.V = 99 }), muster.Unsupported},
		"an unknown operation": {command(func(c *fsm.Command) { c.Op = "node.dance" }), muster.Unsupported},
		"an empty ID":          {command(func(c *fsm.Command) { c.Body = []byte(`{"id":""}`) }), muster.Invalid},
		"a body of no use":     {command(func(c *fsm.Command) { c.Body = []byte(`[1]`) }), muster.Malformed},
		"another's offer":      {command(func(c *fsm.Command) { c.Op, c.Body = fsm.OpCatalogSet, []byte(`{"node":"n","digests":[]}`) }), muster.Forbidden},
		"a master's own":       {command(func(c *fsm.Command) { c.Op, c.Body = fsm.OpTermOpen, []byte(`{}`) }), muster.Forbidden},
		"in another's name":    {command(func(c *fsm.Command) { c.By = "key:x" }), muster.Forbidden},
	} {
		if err := a.forwarded(node, c.raw); muster.KindOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, id := range []string{"", "x", "01890A5D-AC96-774B-BCCE-B302099A8057"} {
		if _, err := a.Join(t.Context(), muster.Joining{ID: id, Name: "n"}); muster.KindOf(err) != muster.Invalid {
			t.Errorf("join as %q: %v", id, err)
		}
	}
	if _, err := a.registerShop(""); err != nil {
		t.Fatalf("a good write afterwards: %v", err)
	}
}

func TestALivingHolderKeepsItsNameWhateverGossipSays(t *testing.T) {
	w := newWorld(t)
	a := w.make("a", founder).start().entered()
	b := w.make("b", nil).start().entered()
	other := muster.Joining{ID: newID(), Name: "b", PublicKey: []byte("k")}
	for name, change := range map[string]func(){
		"alive":      func() {},
		"failed":     func() { w.dies(b) },
		"restarting": func() { w.peer(b.id, func(p *muster.Peer) { p.State = muster.PeerRestarting }) },
		"unknown":    func() { w.forgets(b) },
	} {
		change()
		if _, err := a.Join(t.Context(), other); muster.CodeOf(err) != "name_in_use" {
			t.Errorf("gossip says %s, HTTP answers: %v", name, err)
		}
	}
}

func TestASilentHolderLosesItsNameOnlyOnceGossipHasItDead(t *testing.T) {
	w := newWorld(t)
	a, b, _ := w.three() // they go on without b
	seen, _ := w.Peer(b.id)
	b.stop()
	other := muster.Joining{ID: newID(), Name: "b", PublicKey: []byte("k")}
	for name, change := range map[string]func(){
		"alive":      func() {},
		"restarting": func() { w.peer(b.id, func(p *muster.Peer) { p.State, p.Since = muster.PeerRestarting, time.Now() }) },
		"unknown":    func() { w.forgets(b) },
	} {
		change()
		if _, err := a.Join(t.Context(), other); muster.CodeOf(err) != "holder_silent" {
			t.Errorf("gossip says %s, HTTP is silent: %v", name, err)
		}
	}
	w.peer(b.id, func(p *muster.Peer) { *p = seen })
	w.dies(b)
	until(t, "the name is taken over", func() bool {
		_, err := a.Join(t.Context(), other)
		return err == nil
	})
	if old, _ := a.Node(b.id); old.DeletedAt == nil {
		t.Fatalf("the old record stays: %+v", old)
	}
}

func TestAnAgentThatAnswersIsNotDeletedWhateverGossipSays(t *testing.T) {
	w := newWorld(t)
	a, b, _ := w.three()
	remove := func() error {
		_, err := a.DeleteNode(t.Context(), muster.Write{By: operator, Route: "DELETE /v1/nodes/{slug}"}, muster.Edit{Slug: "b"})
		return err
	}
	if err := remove(); muster.CodeOf(err) != "alive" {
		t.Errorf("a living one: %v", err)
	}
	for name, change := range map[string]func(){
		"failed":  func() { w.dies(b) },
		"unknown": func() { w.forgets(b) },
	} {
		change()
		if err := remove(); muster.KindOf(err) != muster.Conflict {
			t.Errorf("gossip says %s, HTTP answers: %v", name, err)
		}
	}
}

func TestANodeThatWasRemovedWhileItWasAwayLearnsIt(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.three()
	c.stop()
	w.dies(c)
	if err := a.RemovePeer(t.Context(), muster.Write{By: operator, Route: "DELETE /v1/cluster/peers/{slug}"}, "c"); err != nil {
		t.Fatal(err)
	}
	until(t, "raft forgets it", func() bool { return len(b.Status().Peers) == 2 })
	c.cfg.Bind = freePort(t)
	c.cfg.Self.Raft = c.cfg.Bind
	c.start()
	select {
	case err := <-c.Fatal():
		if muster.CodeOf(err) != "removed" {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("it goes on")
	}
}

func TestANodesOwnGossipLiesOverTheRegistry(t *testing.T) {
	w := newWorld(t)
	a := w.make("a", founder).start().entered()
	b := w.make("b", nil).start().entered()
	seen := time.Now().Add(-time.Minute)
	for state, want := range map[muster.PeerState]muster.Status{
		muster.PeerAlive: muster.StatusActive, muster.PeerFailed: muster.StatusError, muster.PeerLeft: muster.StatusInactive,
	} {
		w.peer(b.id, func(p *muster.Peer) { p.State, p.Seen, p.Generation, p.Documents = state, seen, 7, 42 })
		n, _ := a.Node(b.id)
		alive := state == muster.PeerAlive
		if n.Status != want || n.Healthy != alive || n.Documents != 42 || (n.PingFailures == 3) != (state == muster.PeerFailed) {
			t.Errorf("%s: %+v", state, n)
		}
		if !alive && !n.LastPingAt.Equal(seen) {
			t.Errorf("%s: last seen %v, not %v", state, n.LastPingAt, seen)
		}
	}
}

func TestAWriteKeepsItsDeadlineAtTheMaster(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.three()
	b.stop()
	c.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := a.CreateKey(ctx, muster.Write{By: operator, Route: "POST /v1/keys"}, muster.KeySpec{Name: "x", Scopes: []string{"read"}})
	if k := muster.KindOf(err); k != muster.OutcomeUnknown && k != muster.NoMaster {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestRemovingADeadPeerTwiceIsRemovingItOnce(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.three()
	remove := func(at *member, key, slug string) error {
		return at.RemovePeer(t.Context(), muster.Write{By: operator, Route: "DELETE /v1/cluster/peers/{slug}", Key: key}, slug)
	}
	c.stop()
	w.dies(c)
	for _, at := range []*member{b, a, b} {
		if err := remove(at, "k", "c"); err != nil {
			t.Fatalf("at %s: %v", at.name, err)
		}
	}
	if err := remove(b, "another", "c"); muster.KindOf(err) != muster.NotFound {
		t.Fatalf("asked anew: %v", err)
	}
	until(t, "raft forgets it", func() bool { return len(a.Status().Peers) == 2 })
}

func TestALivingAgentThatIsRemovedHearsItAndStops(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.three()
	for i, m := range []*member{b, a} { // a follower, then the master itself
		by := []*member{a, c}[i]
		if err := by.RemovePeer(t.Context(), muster.Write{By: operator, Route: "DELETE /v1/cluster/peers/{slug}"}, m.name); err != nil {
			t.Fatalf("%s: %v", m.name, err)
		}
		select {
		case err := <-m.Fatal():
			if muster.CodeOf(err) != "removed" {
				t.Fatalf("%s: %v", m.name, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s goes on", m.name)
		}
		m.stop()
		w.dies(m)
		until(t, m.name+" is out of raft", func() bool { return len(c.Status().Peers) == 2-i })
	}
	if _, err := c.registerShop(""); err != nil {
		t.Fatalf("a write at the one that is left: %v", err)
	}
}

func TestAnAgentThatTheOthersCannotDoWithoutStays(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.three()
	remove := func(slug string) error {
		return a.RemovePeer(t.Context(), muster.Write{By: operator, Route: "DELETE /v1/cluster/peers/{slug}"}, slug)
	}
	c.stop()
	w.dies(c)
	if err := remove("b"); muster.CodeOf(err) != "quorum" {
		t.Fatalf("one of two living voters of three: %v", err)
	}
	if err := remove("c"); err != nil {
		t.Fatal(err)
	}
	until(t, "raft forgets c", func() bool { return len(a.Status().Peers) == 2 })
	if err := remove("b"); err != nil {
		t.Fatal(err)
	}
	until(t, "raft forgets b", func() bool { return len(a.Status().Peers) == 1 })
	if err := remove("a"); muster.CodeOf(err) != "quorum" {
		t.Fatalf("the last one: %v", err)
	}
	if err := <-b.Fatal(); muster.CodeOf(err) != "removed" {
		t.Fatal(err)
	}
}

func TestADeadAgentIsDeletedAndRestoredAndComesBack(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.three()
	c.stop()
	w.dies(c)
	n, err := b.DeleteNode(t.Context(), muster.Write{By: operator, Route: "DELETE /v1/nodes/{slug}"}, muster.Edit{Slug: "c"})
	if err != nil || n.ID != c.id || n.DeletedAt == nil {
		t.Fatalf("%+v, %v", n, err)
	}
	until(t, "raft forgets it", func() bool { return len(a.Status().Peers) == 2 })
	if n, err = b.RestoreNode(t.Context(), muster.Write{By: operator, Route: "POST /v1/nodes/{slug}/restore"}, "c"); err != nil || n.DeletedAt != nil {
		t.Fatalf("%+v, %v", n, err)
	}
	c.cfg.Bind = freePort(t)
	c.cfg.Self.Raft = c.cfg.Bind
	c.start().entered()
	until(t, "it votes again", func() bool { return len(a.Status().Peers) == 3 })
}

func TestASyncIsPlannedHereAndDoneAtTheMaster(t *testing.T) {
	w := newWorld(t)
	_, b, _ := w.three()
	write := muster.Write{By: operator, Route: "POST /v1/nodes/sync"}
	s := muster.Sync{Rows: []muster.SyncRow{
		{Row: 1, Change: muster.NodeChange{Slug: new("shop"), Name: new("shop"), URL: new("http://127.0.0.1:9")}},
		{Row: 2, Change: muster.NodeChange{Slug: new("a"), Name: new("a"), URL: new("http://127.0.0.1:9")}},
	}}
	plan, err := b.SyncNodes(t.Context(), write, s, false)
	if err != nil || plan.Applied || len(plan.Create) != 1 || plan.Create[0].ID != "" || len(plan.Invalid) != 1 {
		t.Fatalf("planned %+v, %v", plan, err)
	}
	if plan, err = b.SyncNodes(t.Context(), write, s, true); muster.KindOf(err) != muster.Invalid || len(plan.Invalid) != 1 || plan.Applied {
		t.Fatalf("refused %+v, %v", plan, err)
	}
	if _, there := b.Find("shop"); there {
		t.Fatal("half of it was written")
	}
	s.Rows = s.Rows[:1]
	if plan, err = b.SyncNodes(t.Context(), write, s, true); err != nil || !plan.Applied || len(plan.Create) != 1 {
		t.Fatalf("done %+v, %v", plan, err)
	}
	n, there := b.Find("shop")
	if !there || n.ID != plan.Create[0].ID || n.URL != "http://127.0.0.1:9" {
		t.Fatalf("%+v", n)
	}
	what := muster.Cleanup{Statuses: []muster.Status{muster.StatusActive}}
	for _, apply := range []bool{false, true} {
		plan, err := b.CleanupNodes(t.Context(), muster.Write{By: operator, Route: "POST /v1/nodes/cleanup"}, what, apply)
		if _, there := b.Find("shop"); err != nil || len(plan.Delete) != 1 || plan.Applied != apply || there == apply {
			t.Fatalf("cleanup %+v, %v, there %v", plan, err, there)
		}
	}
}

func TestAMemberThatStopsUnderLoadAnswersOrSaysSo(t *testing.T) {
	w := newWorld(t)
	a, _, _ := w.three()
	var wg sync.WaitGroup
	begun := make(chan struct{}, 8)
	for i := range 8 {
		wg.Go(func() {
			for n := range 1000 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				write := muster.Write{By: operator, Route: "POST /v1/keys"}
				_, err := a.CreateKey(ctx, write, muster.KeySpec{Name: fmt.Sprintf("%d-%d", i, n), Scopes: []string{"read"}})
				_, _, _ = a.Status(), a.Nodes(), a.Linearize(ctx)
				cancel()
				if n == 0 {
					begun <- struct{}{}
				}
				if err != nil {
					return
				}
			}
		})
	}
	for range 8 {
		<-begun
	}
	a.stop()
	wg.Wait()
}

func TestARestartKeepsWhoVotesAndWhatWasWritten(t *testing.T) {
	w := newWorld(t)
	a := w.make("a", founder).start().entered()
	shop, err := a.registerShop("")
	if err != nil {
		t.Fatal(err)
	}
	a.stop()
	a.cfg.Bind = freePort(t)
	a.cfg.Self.Raft = a.cfg.Bind
	a.start().entered()
	if n, ok := a.Node(shop.Node.ID); !ok || n.Slug != "shop" {
		t.Fatalf("%+v, %v", n, ok)
	}
}

func TestAKeyIsMadeOnceAndEnds(t *testing.T) {
	w := newWorld(t)
	a := w.make("a", founder).start().entered()
	write := muster.Write{By: operator, Route: "POST /v1/keys", Key: "k"}
	spec := muster.KeySpec{Name: "ci", Scopes: []string{"read"}, ExpiresIn: "1h"}
	first, err := a.CreateKey(t.Context(), write, spec)
	again, err2 := a.CreateKey(t.Context(), write, spec)
	if err != nil || err2 != nil || first.ID != again.ID || first.Plain == nil || again.Plain == nil || *first.Plain != *again.Plain {
		t.Fatalf("%+v %v, %+v %v", first, err, again, err2)
	}
	if err := a.RevokeKey(t.Context(), muster.Write{By: operator, Route: "DELETE /v1/keys/{id}"}, first.ID); err != nil {
		t.Fatal(err)
	}
	if k, ok := a.reg.Key(first.ID); !ok || k.RevokedAt == nil || k.ExpiresAt == nil {
		t.Fatalf("%+v", k)
	}
}
