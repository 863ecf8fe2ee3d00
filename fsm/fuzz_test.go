package fsm_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"io"
	"os"
	"reflect"
	"regexp"
	"testing"

	"muster"
	"muster/fsm"

	"github.com/hashicorp/raft"
)

// commands are all that a log may hold, with a good body each.
var commands = []struct {
	op   fsm.Op
	body string
}{
	{fsm.OpClusterInit, `{"cluster_id":"c","voters":3}`},
	{fsm.OpTermOpen, `{}`},
	{fsm.OpNodeJoin, `{"id":"3","name":"c","slug":"c","url":"http://127.0.0.1:1","raft":"127.0.0.1:2","capabilities":["search"],"metadata":{"a":[1,{}]}}`},
	{fsm.OpNodeRegister, `{"id":"4","slug":"wiki","registration":{"name":"wiki","url":"http://127.0.0.1:9"},"key":{"id":"k4","node_id":"4","scopes":["read"]},"sealed":"AAAA"}`},
	{fsm.OpNodeOffer, `{"id":"4","slug":"wiki","registration":{"name":"wiki","url":"http://127.0.0.1:9"},"key":{"id":"k4","node_id":"4","scopes":["read"]}}`},
	{fsm.OpNodeObserve, `{"nodes":[{"id":"1","observed":"down","documents":7}]}`},
	{fsm.OpNodeRemove, `{"slug":"a"}`},
	{fsm.OpHealthBatch, `{"nodes":[{"id":"2","failures":3,"seen":"2026-11-25T12:00:00Z","average":1.5,"version":"2","capabilities":["search"]}]}`},
	{fsm.OpNodeReseal, `{"id":"2","old":"AAAA","sealed":"BBBB"}`},
	{fsm.OpNodeLeave, `{"id":"1"}`},
	{fsm.OpNodeUpdate, `{"slug":"shop","seen":2,"change":{"name":"Shop 2","slug":"shop-2","status":"maintenance","metadata":{"a":"b"},"weight":3}}`},
	{fsm.OpNodeDelete, `{"slug":"shop"}`},
	{fsm.OpNodeRestore, `{"slug":"shop"}`},
	{fsm.OpNodesSync, `{"rows":[{"row":1,"id":"5","node":{"name":"app","slug":"app","url":"http://127.0.0.1:9"}}],"prune":true}`},
	{fsm.OpNodesCleanup, `{"days":0,"statuses":["error"],"apply":true}`},
	{fsm.OpKeyCreate, `{"id":"k9","name":"n","scopes":["read"],"max_risk":"low","targets":"a=b","filter":{"a":"b"},"expires_at":"2027-01-01T00:00:00Z"}`},
	{fsm.OpKeyRevoke, `{"id":"k2"}`},
	{fsm.OpKeyRotate, `{"id":"k2","until":"2026-11-26T00:00:00Z"}`},
	{fsm.OpNodeKey, `{"node_id":"2","create":{"id":"k8","node_id":"2","scopes":["read"]}}`},
	{fsm.OpCatalogSet, `{"node":"1","digests":["d","e"],"actions":[{"action":"app.x","version":"1","digest":"d","risk":"low","params":{"n":{"type":"int"}}}]}`},
	{fsm.OpRunKey, `{"job":"j_1_2"}`},
	{fsm.OpTxBegin, `{"tx":{"id":"t2","policy":"backward","deadline":"2026-11-26T12:00:00Z","deadline_ms":1000,"locks":["y"],"steps":[{"id":"a","node_id":"1","run":{"action":"app.x"}}]}}`},
	{fsm.OpTxClaim, `{"driver":"1","park":{"code":"restored","message":"m"}}`},
	{fsm.OpTxAdvance, `{"id":"t","epoch":3,"events":[{"event":"start","step":"a","generation":1},{"event":"done","step":"a","generation":1,"result":{"n":1}}]}`},
	{fsm.OpTxOperate, `{"id":"t","command":"cancel","reason":"r"}`},
	{fsm.OpTxPurge, `{"before":"2026-11-26T12:00:00Z"}`},
}

// populated is a registry with an agent, an external node and a transaction.
func populated(t *testing.T) *log {
	t.Helper()
	l := newLog(t)
	for _, res := range []fsm.Result{
		l.do(fsm.OpNodeJoin, "", "", agent("1", "a")), l.do(fsm.OpNodeRegister, "k", "d", external("2", "shop")),
		l.do(fsm.OpTxBegin, "", "", fsm.TxBegin{Tx: transaction("t", txStep("a"), txStep("b", "a"))}),
	} {
		if res.Err() != nil {
			t.Fatal(res.Err())
		}
	}
	return l
}

// same compares what snapshots have: in memory nothing may be empty in two ways.
func same(t *testing.T, a, b fsm.Machine) {
	t.Helper()
	if one, other := persist(t, a), persist(t, b); !bytes.Equal(one, other) {
		t.Fatalf("another registry:\n%s\n%s", one, other)
	}
}

// FuzzEveryCommand holds the log to its promise: what gets in, every copy can
// apply, with the same outcome, and a snapshot keeps it.
func FuzzEveryCommand(f *testing.F) {
	for i, c := range commands {
		f.Add(byte(i), "key", []byte(c.body))
		if c.op == fsm.OpKeyRotate {
			f.Add(byte(i), "key", []byte(`{"id":"k2"}`)) // the former secret has ended before it began
		}
	}
	f.Fuzz(func(t *testing.T, n byte, key string, body []byte) {
		if !json.Valid(body) {
			return // it is part of no command
		}
		raw, err := json.Marshal(fsm.Command{V: 1, Op: commands[int(n)%len(commands)].op, Key: key, Digest: "d", At: epoch, By: "operator", Body: body})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fsm.Decode(raw); err != nil {
			if muster.KindOf(err) == muster.Internal {
				t.Fatal(err)
			}
			return
		}
		one, other := populated(t), populated(t)
		first, second := one.raw(raw), other.raw(raw)
		if one.m.Err() != nil || muster.KindOf(first.Err()) == muster.Internal && first.Err() != nil {
			t.Fatalf("let in, and not applied: %v, %v", one.m.Err(), first.Err())
		}
		if !reflect.DeepEqual(first, second) {
			t.Fatalf("%+v here, %+v there", first, second)
		}
		same(t, one.m, other.m)
		if again := fsm.Results(other.m.Apply(&raft.Log{Index: other.index + 1, Data: fsm.Join([][]byte{raw, raw})})); len(again) != 2 || other.m.Err() != nil {
			t.Fatalf("twice in one entry: %+v, %v", again, other.m.Err())
		}
		third := newLog(t)
		if err := third.m.Restore(io.NopCloser(bytes.NewReader(persist(t, one.m)))); err != nil {
			t.Fatal(err)
		}
		same(t, one.m, third.m)
	})
}

func TestEveryOperationOfTheLogIsFuzzed(t *testing.T) {
	for _, c := range commands {
		l := populated(t)
		cmd, err := json.Marshal(fsm.Command{V: 1, Op: c.op, At: epoch, By: "operator", Body: []byte(c.body)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fsm.Decode(cmd); err != nil {
			t.Errorf("%s: %v", c.op, err)
		}
		if res := l.raw(cmd); l.m.Err() != nil || muster.KindOf(res.Err()) == muster.Invalid && res.Err() != nil {
			t.Errorf("%s: %v %v", c.op, res.Err(), l.m.Err())
		}
	}
	source, err := os.ReadFile("fsm.go")
	if err != nil {
		t.Fatal(err)
	}
	if known := regexp.MustCompile(`Op = "`).FindAllIndex(source, -1); len(known) != len(commands) {
		t.Errorf("%d operations, %d are fuzzed", len(known), len(commands))
	}
}

// FuzzTheRowsOfASnapshot frames rows as a snapshot has them, so that they get
// past the checksums: one row a line.
func FuzzTheRowsOfASnapshot(f *testing.F) {
	f.Add([]byte(`{"t":"nodes","r":{"id":"1"}}`))
	f.Add([]byte("{\"t\":\"keys\",\"r\":{\"id\":\"1\"}}\n{\"t\":\"done\",\"r\":null}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		in := bytes.NewBufferString("muster-snapshot 1\n")
		rows := bytes.Split(raw, []byte("\n"))
		end, err := json.Marshal(map[string]any{"t": "end", "r": map[string]int{"index": 9, "rows": len(rows)}})
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range append(rows, end) {
			head := binary.BigEndian.AppendUint32(nil, uint32(len(row))) //nolint:gosec // a fuzzer's rows are short
			in.Write(binary.BigEndian.AppendUint32(head, crc32.ChecksumIEEE(row)))
			in.Write(row)
		}
		l := newLog(t)
		if l.m.Restore(io.NopCloser(in)) != nil {
			return
		}
		again := newLog(t)
		if err := again.m.Restore(io.NopCloser(bytes.NewReader(persist(t, l.m)))); err != nil {
			t.Fatalf("not understood again: %v", err)
		}
		same(t, l.m, again.m)
	})
}
