package fsm_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/fsm"
)

// later is a command some days after the epoch.
func (l *log) later(days int, op fsm.Op, body any) fsm.Result {
	l.t.Helper()
	cmd, err := fsm.NewCommand(op, epoch.AddDate(0, 0, days), "operator", body)
	if err != nil {
		l.t.Fatal(err)
	}
	raw, err := json.Marshal(cmd)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.raw(raw)
}

func (l *log) update(slug string, c muster.NodeChange) fsm.Result {
	l.t.Helper()
	return l.do(fsm.OpNodeUpdate, "", "", fsm.NodeUpdate{Slug: slug, Change: c})
}

func meta(text string) (m muster.Metadata) {
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		panic(err)
	}
	return m
}

func TestAChangeOfANodeTouchesWhatItNamesAndNothingElse(t *testing.T) {
	l := newLog(t)
	l.do(fsm.OpNodeRegister, "", "", external("1", "shop"))
	l.update("shop", muster.NodeChange{Metadata: meta(`{"a":1,"b":12345678901234567890}`), Weight: new(7)})
	before, _ := l.m.Node("1")
	res := l.update("shop", muster.NodeChange{
		Name: new("Store"), Status: new(muster.StatusMaintenance), Metadata: meta(`{"a":null,"c":"x"}`),
		Capabilities: &[]muster.Capability{"rag"},
	})
	n, _ := l.m.Find("shop")
	if res.Err() != nil || n.Name != "Store" || n.Status != muster.StatusMaintenance || n.StatusColor != "yellow" || n.Weight != 7 || !n.Can("rag") {
		t.Fatalf("%v, %+v", res.Err(), n)
	}
	if got, _ := json.Marshal(n.Metadata); string(got) != `{"b":12345678901234567890,"c":"x"}` {
		t.Errorf("metadata %s", got)
	}
	if n.Index <= before.Index || n.URL != before.URL || !n.CreatedAt.Equal(before.CreatedAt) {
		t.Errorf("before %+v\nafter %+v", before, n)
	}
	if l.update("shop", muster.NodeChange{Name: new("Store")}); l.index == n.Index {
		t.Fatal("no entry")
	}
	if same, _ := l.m.Find("shop"); same.Index != n.Index {
		t.Errorf("a change of nothing moved the index from %d to %d", n.Index, same.Index)
	}
}

func TestAChangeIsRefusedIfTheRecordMovedOrTheNameIsTaken(t *testing.T) {
	l := newLog(t)
	first := l.do(fsm.OpNodeRegister, "", "", external("1", "shop"))
	l.do(fsm.OpNodeRegister, "", "", external("2", "Wiki"))
	change := muster.NodeChange{Description: new("d")}
	if res := l.do(fsm.OpNodeUpdate, "", "", fsm.NodeUpdate{Slug: "shop", Seen: &first.Index, Change: change}); res.Err() != nil {
		t.Fatal(res.Err())
	}
	for op, body := range map[fsm.Op]any{
		fsm.OpNodeUpdate: fsm.NodeUpdate{Slug: "shop", Seen: &first.Index, Change: change},
		fsm.OpNodeDelete: fsm.NodeDelete{Slug: "shop", Seen: &first.Index},
	} {
		if res := l.do(op, "", "", body); muster.CodeOf(res.Err()) != "moved" || muster.KindOf(res.Err()) != muster.Conflict {
			t.Errorf("%s: %v", op, res.Err())
		}
	}
	for _, c := range []muster.NodeChange{{Name: new("WIKI")}, {Slug: new("wiki")}} {
		if res := l.update("shop", c); muster.CodeOf(res.Err()) != "duplicate" {
			t.Errorf("%+v: %v", c, res.Err())
		}
	}
	if res := l.update("nobody", change); muster.KindOf(res.Err()) != muster.NotFound {
		t.Errorf("nobody: %v", res.Err())
	}
}

func TestWhatAnAgentSaysOfItselfIsNotChanged(t *testing.T) {
	l := newLog(t)
	l.do(fsm.OpNodeJoin, "", "", agent("1", "a"))
	res := l.update("a", muster.NodeChange{URL: new("http://x"), Metadata: muster.Metadata{}})
	if f := res.Refused; f == nil || f.Kind != muster.Invalid || f.Fields["url"] == nil || f.Fields["metadata"] == nil {
		t.Fatalf("%+v", f)
	}
	if res := l.update("a", muster.NodeChange{Status: new(muster.StatusMaintenance), Description: new("d")}); res.Err() != nil {
		t.Fatal(res.Err())
	}
	l.do(fsm.OpNodeJoin, "", "", agent("1", "a"))
	if n, _ := l.m.Find("a"); n.Status != muster.StatusMaintenance || n.Description != "d" {
		t.Fatalf("after a restart: %+v", n)
	}
}

func TestADeletedNodesNameIsFreeAndItsKeyEndsUntilItIsRestored(t *testing.T) {
	l := newLog(t)
	l.do(fsm.OpNodeRegister, "", "", external("1", "shop"))
	l.do(fsm.OpKeyCreate, "", "", fsm.KeyCreate{ID: "spent", NodeID: "1"})
	l.do(fsm.OpKeyRevoke, "", "", fsm.KeyRevoke{ID: "spent"})
	remove := func() {
		t.Helper()
		if res := l.do(fsm.OpNodeDelete, "", "", fsm.NodeDelete{Slug: "shop"}); res.Err() != nil || res.ID != "1" {
			t.Fatal(res)
		}
	}
	revoked := func(id string) bool {
		k, _ := l.m.Key(id)
		return k.RevokedAt != nil
	}
	remove()
	if _, there := l.m.Find("shop"); there || !revoked("k1") {
		t.Fatal("it is still there")
	}
	if n, ok := l.m.Node("1"); !ok || n.DeletedAt == nil {
		t.Fatalf("%+v", n)
	}
	l.do(fsm.OpNodeRegister, "", "", external("2", "Shop"))
	if res := l.do(fsm.OpNodeRestore, "", "", fsm.NodeRestore{Slug: "shop"}); muster.CodeOf(res.Err()) != "duplicate" {
		t.Fatalf("restored beside another: %v", res.Err())
	}
	l.update("shop", muster.NodeChange{Name: new("other"), Slug: new("other")})
	if res := l.do(fsm.OpNodeRestore, "", "", fsm.NodeRestore{Slug: "shop"}); res.Err() != nil || res.ID != "1" {
		t.Fatal(res)
	}
	if n, there := l.m.Find("shop"); !there || n.DeletedAt != nil || revoked("k1") || !revoked("spent") {
		t.Fatalf("%+v, its key is revoked: %v, one revoked before: %v", n, revoked("k1"), revoked("spent"))
	}
	remove()
	l.do(fsm.OpKeyRevoke, "", "", fsm.KeyRevoke{ID: "k1"}) // now for good
	l.do(fsm.OpNodeRestore, "", "", fsm.NodeRestore{Slug: "1"})
	if _, there := l.m.Find("shop"); !there || !revoked("k1") {
		t.Fatal("a key that an operator revoked came back with its node")
	}
	if res := l.do(fsm.OpNodeRestore, "", "", fsm.NodeRestore{Slug: "shop"}); muster.KindOf(res.Err()) != muster.NotFound {
		t.Fatalf("restored twice: %v", res.Err())
	}
}

func row(i int, id, slug, name string, change func(*muster.NodeChange)) muster.SyncRow {
	c := muster.NodeChange{Slug: &slug, Name: &name, URL: new("http://127.0.0.1:9/x")}
	if change != nil {
		change(&c)
	}
	return muster.SyncRow{Row: i, ID: id, Change: c}
}

// plan is a sync's answer in one line.
func plan(t *testing.T, raw []byte) string {
	t.Helper()
	var p muster.SyncPlan
	if err := json.Unmarshal(raw, &p); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, n := range p.Create {
		fmt.Fprint(&b, "+", n.Slug, " ")
	}
	for _, n := range p.Update {
		fmt.Fprint(&b, "~", n.Slug, len(n.Changes), " ")
	}
	for _, n := range p.Unchanged {
		fmt.Fprint(&b, "=", n.Slug, " ")
	}
	for _, f := range p.Invalid {
		fmt.Fprint(&b, "!", f.Row, " ")
	}
	return strings.TrimSpace(b.String())
}

func TestASyncDoesAllOfItsPlanOrNothing(t *testing.T) {
	l := newLog(t)
	l.do(fsm.OpNodeJoin, "", "", agent("a", "a"))
	l.do(fsm.OpNodeRegister, "", "", external("1", "shop"))
	l.do(fsm.OpNodeRegister, "", "", external("2", "old"))
	sync := func(prune bool, rows ...muster.SyncRow) fsm.Result {
		t.Helper()
		return l.do(fsm.OpNodesSync, "", "", fsm.NodesSync{Rows: rows, Prune: prune})
	}
	heavy := func(c *muster.NodeChange) { c.Weight, c.Metadata = new(9), meta(`{"n":1.10}`) }
	bad := sync(true, row(1, "n1", "new", "new", nil), row(2, "n2", "a", "a", nil), row(3, "n3", "new", "x", nil), row(4, "n4", "y", "OLD", nil))
	if got := plan(t, bad.Detail); muster.CodeOf(bad.Err()) != "invalid_rows" || got != "+new ~shop1 ~old1 !2 !3 !4" {
		t.Errorf("%v: %s", bad.Err(), got)
	}
	if n := len(l.m.Nodes()); n != 3 {
		t.Fatalf("an invalid sync left %d nodes", n)
	}
	rows := []muster.SyncRow{row(1, "n1", "new", "new", nil), row(2, "n2", "shop", "shop", heavy)}
	dry := l.m.PlanSync(fsm.NodesSync{Rows: rows, Prune: true})
	res := sync(true, rows...)
	if got := plan(t, res.Detail); res.Err() != nil || got != "+new ~shop2 ~old1" {
		t.Fatalf("%v: %s", res.Err(), got)
	}
	dry.Applied = true
	if raw, _ := json.Marshal(dry); string(raw) != string(res.Detail) {
		t.Errorf("planned %s\ndone %s", raw, res.Detail)
	}
	old, _ := l.m.Find("old")
	shop, _ := l.m.Find("shop")
	own, _ := l.m.Find("a")
	if old.Status != muster.StatusInactive || shop.Weight != 9 || string(shop.Metadata["n"]) != "1.10" || own.Desired != muster.StatusActive {
		t.Errorf("old %+v\nshop %+v\na %+v", old, shop, own)
	}
	l.update("shop", muster.NodeChange{Status: new(muster.StatusMaintenance)})
	if got := plan(t, sync(true, rows...).Detail); got != "=new =shop" {
		t.Errorf("a second time: %s", got)
	}
	if shop, _ := l.m.Find("shop"); shop.Status != muster.StatusMaintenance {
		t.Errorf("a row without a status changed it to %s", shop.Status)
	}
}

func TestASyncAskedTwiceWithOneKeyGivesItsFirstPlanAgain(t *testing.T) {
	l := newLog(t)
	body := fsm.NodesSync{Rows: []muster.SyncRow{row(1, "n1", "new", "new", nil)}}
	first := l.do(fsm.OpNodesSync, "k", "d", body)
	other := newLog(t)
	if err := other.m.Restore(io.NopCloser(bytes.NewReader(persist(t, l.m)))); err != nil {
		t.Fatal(err)
	}
	other.index = l.index
	for _, l := range []*log{l, other} {
		if again := l.do(fsm.OpNodesSync, "k", "d", body); !again.Replayed || string(again.Detail) != string(first.Detail) {
			t.Errorf("%+v", again)
		}
	}
}

func TestACleanupTakesWhatIsSilentAndPurgesWhatIsLongDeleted(t *testing.T) {
	l := newLog(t)
	l.do(fsm.OpNodeJoin, "", "", agent("a", "a"))
	l.do(fsm.OpNodeRemove, "", "", fsm.NodeRemove{Slug: "a"})
	for i, name := range []string{"gone", "idle", "busy", "kept"} {
		l.do(fsm.OpNodeRegister, "", "", external(fmt.Sprint(i), name))
	}
	l.do(fsm.OpNodeDelete, "", "", fsm.NodeDelete{Slug: "gone"})
	l.update("idle", muster.NodeChange{Status: new(muster.StatusInactive)})
	l.later(10, fsm.OpNodeUpdate, fsm.NodeUpdate{Slug: "busy", Change: muster.NodeChange{Status: new(muster.StatusInactive)}})
	body := fsm.NodesCleanup{Cleanup: muster.Cleanup{Days: 14, Statuses: []muster.Status{"error", "inactive"}}}
	if early := l.m.PlanCleanup(body, epoch.AddDate(0, 0, 13)); len(early.Delete)+len(early.Purge) != 0 {
		t.Fatalf("too early: %+v", early)
	}
	res := l.later(15, fsm.OpNodesCleanup, body)
	var p muster.CleanupPlan
	if err := json.Unmarshal(res.Detail, &p); err != nil || len(p.Delete) != 1 || p.Delete[0].Slug != "idle" || len(p.Purge) != 1 || p.Purge[0].Slug != "gone" {
		t.Fatalf("%v: %s", err, res.Detail)
	}
	if n, _ := l.m.Node("1"); n.DeletedAt == nil {
		t.Errorf("idle: %+v", n)
	}
	if _, there := l.m.Node("0"); there {
		t.Error("gone is still there")
	}
	if _, there := l.m.Key("k0"); there {
		t.Error("the key of gone is still there")
	}
	for _, slug := range []string{"busy", "kept"} {
		if _, there := l.m.Find(slug); !there {
			t.Errorf("%s is gone", slug)
		}
	}
	l.later(400, fsm.OpNodesCleanup, body)
	if n, there := l.m.Node("a"); !there || n.DeletedAt == nil {
		t.Error("a removed agent was forgotten: it could come back")
	}
}

func TestASnapshotKeepsDeletedNodesAndFindsByEveryIndex(t *testing.T) {
	l := newLog(t)
	for i, name := range []string{"one", "two", "three"} {
		l.do(fsm.OpNodeRegister, "", "", external(fmt.Sprint(i), name))
	}
	l.update("two", muster.NodeChange{Capabilities: &[]muster.Capability{"rag", "search"}})
	l.do(fsm.OpNodeDelete, "", "", fsm.NodeDelete{Slug: "three"})
	other := newLog(t)
	if err := other.m.Restore(io.NopCloser(bytes.NewReader(persist(t, l.m)))); err != nil {
		t.Fatal(err)
	}
	other.index = l.index
	if n := other.m.Capable("rag"); len(n) != 1 || n[0].Slug != "two" || len(other.m.Capable("ra")) != 0 {
		t.Errorf("capable: %+v", n)
	}
	if p := other.m.PlanCleanup(fsm.NodesCleanup{Cleanup: muster.Cleanup{Statuses: []muster.Status{"active"}}}, epoch.Add(time.Second)); len(p.Delete) != 2 || len(p.Purge) != 1 {
		t.Errorf("by status and by sign of life: %+v", p)
	}
	if res := other.do(fsm.OpNodeRegister, "", "", external("9", "ONE")); muster.CodeOf(res.Err()) != "duplicate" {
		t.Errorf("by name: %v", res.Err())
	}
	if res := other.do(fsm.OpNodeRestore, "", "", fsm.NodeRestore{Slug: "three"}); res.Err() != nil {
		t.Error(res.Err())
	}
	if k, _ := other.m.Key("k2"); k.RevokedAt != nil {
		t.Errorf("the key of a restored node: %+v", k)
	}
}

func TestACountOfDocumentsIsNoChangeOfTheRecord(t *testing.T) {
	l := newLog(t)
	l.do(fsm.OpNodeJoin, "", "", agent("1", "a"))
	before, _ := l.m.Node("1")
	l.do(fsm.OpNodeObserve, "", "", fsm.NodeObserve{Nodes: []fsm.Observation{{ID: "1", Observed: muster.ObservedUp, Documents: 7}}})
	if n, _ := l.m.Node("1"); n.Documents != 7 || n.Index != before.Index {
		t.Fatalf("%+v", n)
	}
	l.do(fsm.OpNodeObserve, "", "", fsm.NodeObserve{Nodes: []fsm.Observation{{ID: "1", Observed: muster.ObservedDown, Documents: 7}}})
	if n, _ := l.m.Node("1"); n.Index == before.Index {
		t.Fatal("a change of status left the index")
	}
}
