package fsm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/fsm"

	"github.com/hashicorp/raft"
)

// entries are commands as raft has them, from index 1 on.
func entries(t *testing.T, commands ...fsm.Command) (out []*raft.Log) {
	t.Helper()
	for i, c := range commands {
		raw, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, &raft.Log{Index: uint64(i + 1), Data: raw})
	}
	return out
}

func keyed(t *testing.T, op fsm.Op, key string, body any) fsm.Command {
	t.Helper()
	c, err := fsm.NewCommand(op, epoch, "operator", body)
	if err != nil {
		t.Fatal(err)
	}
	c.Key, c.Digest = key, key
	return c
}

// troubled are commands of which some are refused, repeated, or make no sense.
func troubled(t *testing.T) []fsm.Command {
	t.Helper()
	unread := keyed(t, fsm.OpNodeUpdate, "k5", fsm.NodeUpdate{Slug: "x"})
	unread.Body = []byte(`[1]`)
	return []fsm.Command{
		keyed(t, fsm.OpNodeRegister, "k1", external("1", "shop")),
		keyed(t, fsm.OpNodeRegister, "k1", external("2", "shop")), // the same again
		keyed(t, fsm.OpNodeRegister, "k3", external("3", "SHOP")), // the name is taken
		keyed(t, fsm.OpNodeRegister, "k3", external("3", "SHOP")), // the same refusal again
		keyed(t, fsm.OpNodeRegister, "k4", external("4", "wiki")),
		unread,
		keyed(t, fsm.OpNodeDelete, "k6", fsm.NodeDelete{Slug: "shop"}),
		keyed(t, fsm.OpNodeRegister, "k7", external("7", "shop")),
		keyed(t, fsm.OpNodeRegister, "k8", external("7", "other")), // its key exists: half of it is done when that shows
	}
}

func TestEntriesAppliedTogetherDoWhatTheyDoAlone(t *testing.T) {
	all := entries(t, troubled(t)...)
	all = append(all, &raft.Log{Index: 10, Type: raft.LogConfiguration, Data: []byte("not a command")})
	alone, together := newLog(t).m, newLog(t).m
	want := make([]any, 0, len(all))
	for _, e := range all {
		want = append(want, alone.Apply(e))
	}
	got := together.ApplyBatch(all)
	for i := range all {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("entry %d: %+v, alone %+v", i+1, got[i], want[i])
		}
	}
	if r, ok := got[3].(fsm.Result); !ok || !r.Replayed || r.Index != 3 || muster.KindOf(r.Err()) != muster.Conflict {
		t.Errorf("the answer to a refused command was not remembered: %+v", got[3])
	}
	if n, ok := together.Find("shop"); !ok || n.ID != "7" {
		t.Errorf("shop is %+v", n)
	}
	if n, ok := together.Find("other"); ok {
		t.Errorf("something stayed of a refused command: %+v", n)
	}
	if together.Index() != 10 || alone.Index() != 10 {
		t.Errorf("at %d, alone at %d", together.Index(), alone.Index())
	}
	if a, b := persist(t, together), persist(t, alone); !bytes.Equal(a, b) {
		t.Errorf("snapshots differ:\n%s\n%s", a, b)
	}
}

func TestOneEntryNotUnderstoodStopsTheBatchThere(t *testing.T) {
	newer := keyed(t, fsm.OpNodeRegister, "k2", external("2", "wiki"))
	newer.V = 99
	m := newLog(t).m
	out := m.ApplyBatch(entries(t, keyed(t, fsm.OpNodeRegister, "k1", external("1", "shop")), newer, keyed(t, fsm.OpNodeRegister, "k3", external("3", "crm"))))
	for i, ok := range []bool{true, false, false} {
		if r, is := out[i].(fsm.Result); !is || (r.Err() == nil) != ok {
			t.Errorf("entry %d: %+v", i+1, out[i])
		}
	}
	if m.Err() == nil || m.Index() != 1 || len(m.Nodes()) != 1 {
		t.Errorf("%v, at %d with %d nodes", m.Err(), m.Index(), len(m.Nodes()))
	}
}

func TestEveryWaiterIsWokenByItsOwnIndexAndNoOther(t *testing.T) {
	m := newLog(t).m
	type woken struct {
		index uint64
		err   error
	}
	done := make(chan woken, 2)
	for _, index := range []uint64{1, 2} {
		go func() { done <- woken{index, m.WaitIndex(t.Context(), index)} }()
	}
	all := entries(t, keyed(t, fsm.OpNodeRegister, "k1", external("1", "shop")), keyed(t, fsm.OpNodeRegister, "k2", external("2", "wiki")))
	m.Apply(all[0])
	if w := <-done; w.index != 1 || w.err != nil {
		t.Fatalf("%+v", w)
	}
	late, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := m.WaitIndex(late, 3); muster.KindOf(err) != muster.Timeout {
		t.Fatalf("nobody came: %v", err)
	}
	m.Apply(all[1])
	if w := <-done; w.index != 2 || w.err != nil {
		t.Fatalf("%+v", w)
	}
}

// entryOf is one entry of several commands.
func entryOf(t *testing.T, index uint64, commands ...fsm.Command) *raft.Log {
	t.Helper()
	raws := make([][]byte, 0, len(commands))
	for _, e := range entries(t, commands...) {
		raws = append(raws, e.Data)
	}
	return &raft.Log{Index: index, Data: fsm.Join(raws)}
}

func TestTheCommandsOfOneEntryDoWhatTheyDoAlone(t *testing.T) {
	commands := troubled(t)
	alone, joined, among := newLog(t).m, newLog(t).m, newLog(t).m
	want := make([]fsm.Result, 0, len(commands))
	for _, e := range entries(t, commands...) {
		e.Index = 5
		want = append(want, fsm.Results(alone.Apply(e))...)
	}
	if got := fsm.Results(joined.Apply(entryOf(t, 5, commands...))); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nalone %+v", got, want)
	}
	crm := entryOf(t, 6, keyed(t, fsm.OpNodeRegister, "k9", external("9", "crm")))
	alone.Apply(crm)
	joined.Apply(crm)
	out := among.ApplyBatch([]*raft.Log{entryOf(t, 5, commands...), crm})
	if got := fsm.Results(out[0]); !reflect.DeepEqual(got, want) {
		t.Errorf("before another entry: %+v\nalone %+v", got, want)
	}
	if got := fsm.Results(out[1]); len(got) != 1 || got[0].ID != "9" {
		t.Errorf("the entry behind them: %+v", got)
	}
	for _, m := range []fsm.Machine{joined, among} {
		if !bytes.Equal(persist(t, m), persist(t, alone)) {
			t.Errorf("snapshots differ:\n%s\n%s", persist(t, m), persist(t, alone))
		}
	}
}

func TestReadersSeeAllCommandsOfAnEntryOrNone(t *testing.T) {
	const n = 200
	commands := make([]fsm.Command, 0, 2*n)
	for i := range n {
		commands = append(commands,
			keyed(t, fsm.OpNodeRegister, "", external(fmt.Sprint(i), fmt.Sprintf("app %d", i))),
			keyed(t, fsm.OpNodeRegister, "", external("again", fmt.Sprintf("app %d", i)))) // refused
	}
	m := newLog(t).m
	entry := entryOf(t, 1, commands...)
	done := make(chan []fsm.Result)
	go func() { done <- fsm.Results(m.Apply(entry)) }()
	for results := []fsm.Result(nil); results == nil; {
		select {
		case results = <-done:
			if len(results) != 2*n || len(m.Nodes()) != n {
				t.Errorf("%d results, %d nodes", len(results), len(m.Nodes()))
			}
		default:
			if seen := len(m.Nodes()); seen != 0 && seen != n {
				t.Fatalf("a reader saw %d nodes", seen)
			}
		}
	}
}

func TestAnEntryOfWhichOneCommandIsNotUnderstoodDoesNothing(t *testing.T) {
	newer := keyed(t, fsm.OpNodeRegister, "k2", external("2", "wiki"))
	newer.V = 99
	m := newLog(t).m
	out := m.ApplyBatch([]*raft.Log{
		entryOf(t, 1, keyed(t, fsm.OpNodeRegister, "k0", external("0", "crm"))),
		entryOf(t, 2, keyed(t, fsm.OpNodeRegister, "k1", external("1", "shop")), newer),
	})
	if got := fsm.Results(out[1]); len(got) != 1 || muster.KindOf(got[0].Err()) != muster.Internal || m.Err() == nil {
		t.Errorf("%+v, %v", out[1], m.Err())
	}
	if m.Index() != 1 || len(m.Nodes()) != 1 {
		t.Errorf("at %d with %d nodes", m.Index(), len(m.Nodes()))
	}
}

func TestARegistryThatStoppedIsInNoSnapshot(t *testing.T) {
	m := newLog(t).m
	m.Apply(&raft.Log{Index: 1, Data: []byte(`[1]`)})
	if _, err := m.Snapshot(); err == nil || m.Err() == nil {
		t.Errorf("%v, %v", err, m.Err())
	}
}

func TestOfNodesThatOneEntryDeletedTheYoungestIsRestored(t *testing.T) {
	m := newLog(t).m
	m.Apply(entryOf(t, 1,
		keyed(t, fsm.OpNodeRegister, "", external("1", "shop")), keyed(t, fsm.OpNodeDelete, "", fsm.NodeDelete{Slug: "shop"}),
		keyed(t, fsm.OpNodeRegister, "", external("2", "shop")), keyed(t, fsm.OpNodeDelete, "", fsm.NodeDelete{Slug: "shop"}),
		keyed(t, fsm.OpNodeRestore, "", fsm.NodeRestore{Slug: "shop"})))
	if n, ok := m.Find("shop"); !ok || n.ID != "2" {
		t.Errorf("%+v, %v", n, ok)
	}
}

func TestACommandThatCouldNotBeReadAmongOthersDoesNotGetIntoTheLog(t *testing.T) {
	deep := keyed(t, fsm.OpTxOperate, "", nil)
	deep.Body = []byte(strings.Repeat("[", 9_999) + strings.Repeat("]", 9_999)) // the deepest that may stand in one command
	raw, err := json.Marshal(deep)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fsm.Decode(raw); muster.KindOf(err) != muster.Malformed || !strings.Contains(err.Error(), "depth") {
		t.Error(err)
	}
}
