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

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// log feeds commands to a machine as raft would.
type log struct {
	t     *testing.T
	m     fsm.Machine
	index uint64
}

func newLog(t *testing.T) *log {
	t.Helper()
	r := fsm.New()
	return &log{t: t, m: fsm.Machine{Registry: r}}
}

func (l *log) do(op fsm.Op, key, digest string, body any) fsm.Result {
	l.t.Helper()
	cmd, err := fsm.NewCommand(op, epoch, "operator", body)
	if err != nil {
		l.t.Fatal(err)
	}
	cmd.Key, cmd.Digest = key, digest
	raw, err := json.Marshal(cmd)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.raw(raw)
}

func (l *log) raw(raw []byte) fsm.Result {
	l.t.Helper()
	l.index++
	res, ok := l.m.Apply(&raft.Log{Index: l.index, Data: raw}).(fsm.Result)
	if !ok {
		l.t.Fatal("no result")
	}
	return res
}

func external(id, name string) fsm.NodeRegister {
	return fsm.NodeRegister{
		ID: id, Slug: fsm.Slug(name),
		Registration: muster.Registration{Name: name, URL: "http://127.0.0.1:9/x"},
		Key:          fsm.KeyCreate{ID: "k" + id, Name: name, NodeID: id, Scopes: []string{"read"}},
	}
}

func agent(id, name string) fsm.NodeJoin {
	return fsm.NodeJoin{Joining: muster.Joining{ID: id, Name: name, URL: "http://127.0.0.1:1", Raft: "127.0.0.1:2"}, Slug: fsm.Slug(name)}
}

func TestTheSameKeyTwiceRegistersOnce(t *testing.T) {
	l := newLog(t)
	first := l.do(fsm.OpNodeRegister, "k1", "d1", external("1", "shop"))
	again := l.do(fsm.OpNodeRegister, "k1", "d1", external("2", "shop"))
	if first.Err() != nil || again.Err() != nil || again.ID != "1" || !again.Replayed || again.Index != first.Index {
		t.Fatalf("first %+v, again %+v", first, again)
	}
	if n := len(l.m.Nodes()); n != 1 {
		t.Fatalf("%d nodes", n)
	}
	if other := l.do(fsm.OpNodeRegister, "k1", "d2", external("3", "wiki")); muster.KindOf(other.Err()) != muster.Conflict {
		t.Fatalf("another body: %v", other.Err())
	}
}

func TestARefusedCommandLeavesNothingBehind(t *testing.T) {
	l := newLog(t)
	l.do(fsm.OpNodeRegister, "", "", external("1", "Shop"))
	res := l.do(fsm.OpNodeRegister, "k", "d", external("2", "SHOP"))
	if muster.KindOf(res.Err()) != muster.Conflict {
		t.Fatalf("got %v", res.Err())
	}
	if len(l.m.Nodes()) != 1 || len(l.m.Keys()) != 1 {
		t.Fatalf("nodes %v keys %v", l.m.Nodes(), l.m.Keys())
	}
	again := l.do(fsm.OpNodeRegister, "k", "d", external("3", "SHOP"))
	if !again.Replayed || again.Err() == nil || again.Err().Error() != res.Err().Error() || muster.KindOf(again.Err()) != muster.Conflict {
		t.Fatalf("the same key again: %+v", again)
	}
}

func TestADeadHoldersNameIsTakenOverAndItsKeysEnd(t *testing.T) {
	l := newLog(t)
	l.do(fsm.OpNodeJoin, "", "", agent("1", "c"))
	l.do(fsm.OpKeyCreate, "", "", fsm.KeyCreate{ID: "k", NodeID: "1"})
	heir := agent("2", "c")
	if res := l.do(fsm.OpNodeJoin, "", "", heir); muster.CodeOf(res.Err()) != "name_in_use" {
		t.Fatalf("without take-over: %v", res.Err())
	}
	heir.TakeOver = "1"
	if res := l.do(fsm.OpNodeJoin, "", "", heir); muster.KindOf(res.Err()) != muster.Unavailable {
		t.Fatalf("judged by another record than the holder has now: %v", res.Err())
	}
	holder, _ := l.m.Node("1")
	heir.HolderIndex = holder.Index
	if res := l.do(fsm.OpNodeJoin, "", "", heir); res.Err() != nil {
		t.Fatal(res.Err())
	}
	old, _ := l.m.Node("1")
	k, _ := l.m.Key("k")
	if old.DeletedAt == nil || k.RevokedAt == nil || l.m.Succession()["2"] != "1" {
		t.Fatalf("old %+v key %+v heirs %v", old, k, l.m.Succession())
	}
	if res := l.do(fsm.OpNodeJoin, "", "", agent("1", "d")); muster.CodeOf(res.Err()) != "removed" {
		t.Fatalf("the old node came back: %v", res.Err())
	}
}

func TestANodesKeyCannotBeReplaced(t *testing.T) {
	l := newLog(t)
	first := agent("1", "a")
	first.PublicKey = []byte("one")
	l.do(fsm.OpNodeJoin, "", "", first)
	if res := l.do(fsm.OpNodeJoin, "", "", first); res.Err() != nil {
		t.Fatalf("with its own key: %v", res.Err())
	}
	other := first
	other.PublicKey = []byte("two")
	if res := l.do(fsm.OpNodeJoin, "", "", other); muster.CodeOf(res.Err()) != "identity_in_use" {
		t.Fatalf("with another key: %v", res.Err())
	}
}

func TestWhatIsObservedNeverChangesWhatAnOperatorSaid(t *testing.T) {
	for _, c := range []struct {
		desired  muster.Status
		observed muster.Observed
		want     muster.Status
	}{
		{muster.StatusActive, muster.ObservedUp, muster.StatusActive},
		{muster.StatusActive, muster.ObservedRestarting, muster.StatusActive},
		{muster.StatusActive, muster.ObservedDown, muster.StatusError},
		{muster.StatusActive, muster.ObservedLeft, muster.StatusInactive},
		{muster.StatusMaintenance, muster.ObservedDown, muster.StatusMaintenance},
		{muster.StatusInactive, muster.ObservedUp, muster.StatusInactive},
	} {
		if got := muster.StatusOf(c.desired, c.observed); got != c.want {
			t.Errorf("%s, %s: %s, want %s", c.desired, c.observed, got, c.want)
		}
	}
	l := newLog(t)
	l.do(fsm.OpNodeJoin, "", "", agent("1", "a"))
	l.do(fsm.OpNodeObserve, "", "", fsm.NodeObserve{Nodes: []fsm.Observation{{ID: "1", Observed: muster.ObservedDown, Documents: 7}}})
	if n, _ := l.m.Node("1"); n.Status != muster.StatusError || n.PingFailures != 3 || n.Documents != 7 {
		t.Fatalf("%+v", n)
	}
}

func TestASnapshotRestoresTheSameState(t *testing.T) {
	l := newLog(t)
	l.do(fsm.OpClusterInit, "", "", fsm.ClusterInit{ClusterID: "c1", Voters: 5})
	for i := range 50 {
		l.do(fsm.OpNodeRegister, fmt.Sprint("key", i), "d", external(fmt.Sprint(i), fmt.Sprintf("node %d", i)))
	}
	other := newLog(t)
	if err := other.m.Restore(io.NopCloser(bytes.NewReader(persist(t, l.m)))); err != nil {
		t.Fatal(err)
	}
	want, got := fmt.Sprint(l.m.Nodes(), l.m.Keys(), l.m.ClusterID(), l.m.Voters(), l.m.Index()),
		fmt.Sprint(other.m.Nodes(), other.m.Keys(), other.m.ClusterID(), other.m.Voters(), other.m.Index())
	if want != got {
		t.Fatalf("want %s\ngot  %s", want, got)
	}
	other.index = l.index
	if res := other.do(fsm.OpNodeRegister, "key7", "d", external("x", "node 7")); !res.Replayed || res.ID != "7" {
		t.Fatalf("keys are forgotten: %+v", res)
	}
}

func TestADamagedSnapshotIsRefusedAndChangesNothing(t *testing.T) {
	l := newLog(t)
	l.do(fsm.OpNodeRegister, "", "", external("1", "shop"))
	whole := persist(t, l.m)
	for name, bad := range map[string][]byte{
		"cut":     whole[:len(whole)-5],
		"flipped": append(append([]byte{}, whole[:40]...), append([]byte{whole[40] ^ 1}, whole[41:]...)...),
		"foreign": []byte("muster-snapshot 9\n"),
		"empty":   {},
	} {
		other := newLog(t)
		other.do(fsm.OpNodeRegister, "", "", external("9", "kept"))
		if err := other.m.Restore(io.NopCloser(bytes.NewReader(bad))); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, ok := other.m.Node("9"); !ok {
			t.Errorf("%s: state is gone", name)
		}
	}
}

func TestAnUnknownOperationStopsTheCopyInsteadOfDiverging(t *testing.T) {
	for name, raw := range map[string]string{
		"operation": `{"v":1,"op":"node.fly","at":"2026-11-25T00:00:00Z","by":"x","body":{}}`,
		"version":   `{"v":1000,"op":"term.open","at":"2026-11-25T00:00:00Z","by":"x","body":{}}`,
		"garbage":   `{`,
	} {
		l := newLog(t)
		l.raw([]byte(raw))
		select {
		case <-l.m.Broken():
		default:
			t.Fatalf("%s: goes on", name)
		}
		if res := l.do(fsm.OpTermOpen, "", "", struct{}{}); muster.KindOf(res.Err()) != muster.Internal {
			t.Errorf("%s: a later entry: %v", name, res.Err())
		}
	}
}

func TestSlugsAreMadeOfLatinLettersDigitsAndDashes(t *testing.T) {
	for name, want := range map[string]string{
		"Web-01.Example.COM": "web-01-example-com", "Ünïcödé Shop": "unicode-shop", " padded ": "padded",
		"Магазин": "", "🚀🚀": "", "---": "", "a--b": "a-b", strings.Repeat("x", 80): strings.Repeat("x", 63),
	} {
		if got := fsm.Slug(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func FuzzApply(f *testing.F) {
	f.Add([]byte(`{"v":1,"op":"node.join","at":"2026-11-25T00:00:00Z","by":"x","body":{"id":"1","name":"a","slug":"a"}}`))
	f.Add([]byte(`{"v":1,"op":"node.observe","body":{"nodes":[{"id":"1"}]}}`))
	f.Add([]byte(`[{"v":1,"op":"node.observe","body":{"nodes":[{"id":"1"}]}},{"v":1,"op":"node.remove","body":{"slug":"a"}}]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := newLog(t).m
		if out := m.Apply(&raft.Log{Index: 1, Data: raw}); m.Err() != nil && len(fsm.Results(out)) != 1 {
			t.Errorf("stopped by %v, and returned %+v", m.Err(), out)
		}
	})
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte("muster-snapshot 1\n\x00\x00\x00\x02\x00\x00\x00\x00{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := newLog(t).m.Restore(io.NopCloser(bytes.NewReader(raw))); err == nil && len(raw) < 20 {
			t.Fatal("accepted a stump")
		}
	})
}

func persist(t *testing.T, m fsm.Machine) []byte {
	t.Helper()
	snap, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var out sink
	if err := snap.Persist(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type sink struct{ bytes.Buffer }

func (*sink) Close() error  { return nil }
func (*sink) Cancel() error { return nil }
func (*sink) ID() string    { return "test" }

func TestACommandWithoutItsIDIsRefusedAndStopsNothing(t *testing.T) {
	l := newLog(t)
	for op, body := range map[fsm.Op]any{
		fsm.OpClusterInit:  fsm.ClusterInit{},
		fsm.OpNodeJoin:     agent("", "a"),
		fsm.OpNodeRegister: external("", "shop"),
		fsm.OpNodeRemove:   fsm.NodeRemove{},
		fsm.OpKeyCreate:    fsm.KeyCreate{},
		fsm.OpKeyRevoke:    []string{"no", "object"},
	} {
		if res := l.do(op, "", "", body); res.Err() == nil || muster.KindOf(res.Err()) == muster.Internal {
			t.Errorf("%s: %v", op, res.Err())
		}
	}
	if res := l.do(fsm.OpNodeRegister, "", "", external("1", "shop")); res.Err() != nil || l.m.Err() != nil {
		t.Fatalf("afterwards: %v, %v", res.Err(), l.m.Err())
	}
}

func TestAnAgentIsRemovedByItsSlugOnly(t *testing.T) {
	l := newLog(t)
	l.do(fsm.OpNodeJoin, "", "", agent("1", "c"))
	l.do(fsm.OpNodeRegister, "", "", external("2", "shop"))
	if res := l.do(fsm.OpNodeRemove, "", "", fsm.NodeRemove{Slug: "shop"}); muster.KindOf(res.Err()) != muster.NotFound {
		t.Fatalf("an external node: %v", res.Err())
	}
	if res := l.do(fsm.OpNodeRemove, "k", "", fsm.NodeRemove{Slug: "c"}); res.Err() != nil || res.ID != "1" {
		t.Fatalf("%+v", res)
	}
	if res := l.do(fsm.OpNodeRemove, "k", "", fsm.NodeRemove{Slug: "c"}); res.Err() != nil || !res.Replayed {
		t.Fatalf("repeated: %+v", res)
	}
	res, seen := l.m.Answered(fsm.Command{Key: "k"})
	if _, other := l.m.Answered(fsm.Command{Key: "other"}); !seen || res.ID != "1" || other {
		t.Fatalf("the registry does not know what it answered: %+v", res)
	}
}
