package fsm_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"muster"
	"muster/fsm"

	"github.com/hashicorp/raft"
)

// window is how many keys are remembered.
const window = 10_000

func TestAKeyIsForgottenWithTheSameEntryHoweverManyAreAppliedTogether(t *testing.T) {
	commands := make([]fsm.Command, 0, window)
	for i := range window {
		commands = append(commands, keyed(t, fsm.OpRunKey, fmt.Sprint("key ", i), fsm.RunKey{Job: fmt.Sprint("job ", i)}))
	}
	again := func(i int) fsm.Command {
		c := keyed(t, fsm.OpRunKey, fmt.Sprint("key ", i), fsm.RunKey{Job: "again"})
		return c
	}
	commands = append(commands,
		again(0), // still known
		keyed(t, fsm.OpRunKey, "new", fsm.RunKey{Job: "new"}), // forgets key 0
		again(0), // begins anew, and forgets key 1
		again(1), // begins anew, and forgets key 2
		keyed(t, fsm.OpNodeDelete, "refused", fsm.NodeDelete{Slug: "nobody"}), // runs alone, and forgets key 3
		again(3), // begins anew, and forgets key 4
		again(5), // still known
	)
	all := entries(t, commands...)
	alone, together := newLog(t).m, newLog(t).m
	want := make([]any, 0, len(all))
	for _, e := range all {
		want = append(want, alone.Apply(e))
	}
	got := append(together.ApplyBatch(all[:window]), together.ApplyBatch(all[window:])...)
	for i, replayed := range []bool{true, false, false, false, false, false, true} {
		res, ok := want[window+i].(fsm.Result)
		if !ok || res.Replayed != replayed {
			t.Errorf("%d entries after the window was full: %+v", i+1, want[window+i])
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Error("applied together they had other results")
	}
	if a, b := persist(t, together), persist(t, alone); !bytes.Equal(a, b) {
		t.Error("applied together they leave another state")
	}
	restored := newLog(t)
	if err := restored.m.Restore(io.NopCloser(bytes.NewReader(persist(t, alone)))); err != nil {
		t.Fatal(err)
	}
	for _, m := range []fsm.Machine{alone, restored.m} { // the window goes on where it was
		out := m.ApplyBatch([]*raft.Log{entry(t, 20_000, again(6)), entry(t, 20_001, again(4)), entry(t, 20_002, again(6))})
		for i, replayed := range []bool{true, false, true} {
			if res, ok := out[i].(fsm.Result); !ok || res.Replayed != replayed {
				t.Errorf("%d: %+v", i, out[i])
			}
		}
	}
}

func entry(t *testing.T, index uint64, c fsm.Command) *raft.Log {
	t.Helper()
	e := entries(t, c)[0]
	e.Index = index
	return e
}

// mixed are commands of many kinds about few nodes, so that most of them meet.
func mixed(t *testing.T, r *rand.Rand, n int) (out []fsm.Command) {
	t.Helper()
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	for i := range n {
		name := fmt.Sprint(pick("shop", "Shop", "wiki", "crm"), r.IntN(12))
		slug := fsm.Slug(name)
		var c fsm.Command
		switch r.IntN(7) {
		case 0, 1:
			reg := external(fmt.Sprint("id", i), name)
			reg.Registration.Capabilities = []muster.Capability{muster.Capability(pick("search", "actions", "mail"))}
			c = keyed(t, fsm.OpNodeRegister, fmt.Sprint("k", r.IntN(n)), reg)
		case 2:
			words, status := []muster.Capability{"search", muster.Capability(pick("mail", "chat"))}, muster.Status(pick("active", "maintenance"))
			fresh := pick("shop", "wiki") + fmt.Sprint(r.IntN(12))
			c = keyed(t, fsm.OpNodeUpdate, "", fsm.NodeUpdate{Slug: slug, Change: muster.NodeChange{Name: &fresh, Capabilities: &words, Status: &status}})
		case 3:
			c = keyed(t, fsm.OpNodeDelete, "", fsm.NodeDelete{Slug: slug})
		case 4:
			c = keyed(t, fsm.OpNodeRestore, "", fsm.NodeRestore{Slug: slug})
		case 5:
			seen := epoch.Add(time.Duration(r.IntN(1000)) * time.Hour)
			c = keyed(t, fsm.OpHealthBatch, "", fsm.HealthBatch{Nodes: []fsm.Health{{ID: fmt.Sprint("id", r.IntN(i+1)), Seen: &seen, Failures: r.IntN(5)}}})
		default:
			c = keyed(t, fsm.OpNodesCleanup, "", fsm.NodesCleanup{Cleanup: muster.Cleanup{Days: r.IntN(40), Statuses: []muster.Status{muster.StatusError}}})
		}
		c.At = epoch.Add(time.Duration(i) * 7 * time.Hour)
		out = append(out, c)
	}
	return out
}

// seen is all that readers can ask a copy about its nodes.
func seen(m fsm.Machine) string {
	found := map[string]any{"nodes": m.Nodes(), "keys": m.Keys(), "agents": m.Agents(), "succession": m.Succession(), "catalog": m.Catalog()}
	for _, word := range []muster.Capability{"search", "actions", "mail", "chat"} {
		found[string(word)] = m.Capable(word)
	}
	for i := range 12 {
		for _, name := range []string{"shop", "wiki", "crm"} {
			slug := fmt.Sprint(name, i)
			if n, ok := m.Find(slug); ok {
				found["slug "+slug] = n
			}
		}
	}
	for _, status := range []muster.Status{muster.StatusActive, muster.StatusError, muster.StatusMaintenance} {
		found["stale "+string(status)] = m.PlanCleanup(fsm.NodesCleanup{Cleanup: muster.Cleanup{Statuses: []muster.Status{status}}}, epoch.Add(100_000*time.Hour))
	}
	raw, _ := json.Marshal(found)
	return string(raw)
}

func TestIndexesThatWereKeptThroughChangesAreThoseThatARestoreBuilds(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := newLog(t).m
		all := entries(t, mixed(t, r, 300)...)
		for len(all) > 0 {
			n := min(len(all), 1+r.IntN(20))
			m.ApplyBatch(all[:n])
			all = all[n:]
		}
		if m.Err() != nil || len(m.Nodes()) == 0 {
			t.Fatalf("seed %d: %v, %d nodes", seed, m.Err(), len(m.Nodes()))
		}
		restored := newLog(t).m
		if err := restored.Restore(io.NopCloser(bytes.NewReader(persist(t, m)))); err != nil {
			t.Fatal(err)
		}
		if kept, built := seen(m), seen(restored); kept != built {
			t.Fatalf("seed %d:\nkept  %s\nbuilt %s", seed, kept, built)
		}
	}
}

func TestWhatAReaderHoldsIsNotChangedByLaterCommands(t *testing.T) {
	m := newLog(t).m
	all := entries(t, mixed(t, rand.New(rand.NewPCG(7, 7)), 400)...)
	m.ApplyBatch(all[:200])
	held, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	before := persist(t, m)
	m.ApplyBatch(all[200:])
	late := &sink{}
	if err := held.Persist(late); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, late.Bytes()) {
		t.Error("a snapshot shows what came after it")
	}
	if bytes.Equal(before, persist(t, m)) {
		t.Error("nothing came after it")
	}
}

func TestASnapshotOfAnEarlierProgramIsReadWhateverTheOrderOfItsKeys(t *testing.T) {
	l := newLog(t)
	for i := range 30 {
		l.do(fsm.OpRunKey, fmt.Sprint("key ", i), "d", fsm.RunKey{Job: fmt.Sprint("job ", i)})
	}
	whole := persist(t, l.m)
	header, rows := taken(t, whole)
	if !bytes.Contains(rows[0], []byte(`"order":"00000000000000000001"`)) {
		t.Errorf("earlier programs find no order: %s", rows[0])
	}
	keys := rows[:len(rows)-1]           // the last one is the end
	slices.SortFunc(keys, bytes.Compare) // earlier programs wrote them by key
	earlier := slices.Clone(header)
	for _, row := range rows {
		earlier = binary.BigEndian.AppendUint32(earlier, uint32(len(row)))
		earlier = binary.BigEndian.AppendUint32(earlier, crc32.ChecksumIEEE(row))
		earlier = append(earlier, row...)
	}
	if bytes.Equal(earlier, whole) {
		t.Fatal("the order is the same")
	}
	other := newLog(t)
	if err := other.m.Restore(io.NopCloser(bytes.NewReader(earlier))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(persist(t, other.m), whole) {
		t.Error("it became another state")
	}
}

// taken takes a snapshot apart.
func taken(t *testing.T, whole []byte) (header []byte, rows [][]byte) {
	t.Helper()
	at := bytes.IndexByte(whole, '\n') + 1
	for rest := whole[at:]; len(rest) > 0; {
		size := binary.BigEndian.Uint32(rest)
		rows = append(rows, slices.Clone(rest[8:8+size]))
		rest = rest[8+size:]
	}
	return whole[:at], rows
}
