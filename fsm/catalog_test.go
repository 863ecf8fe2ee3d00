package fsm_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"muster"
	"muster/fsm"
)

// offer has a node say what it offers: names with a digest's letter, described
// but for those in brackets.
func (l *log) offer(id string, words ...string) fsm.Result {
	l.t.Helper()
	body := fsm.CatalogSet{Node: id, Digests: []string{}}
	for _, word := range words {
		name, known := strings.CutSuffix(word, "?")
		body.Digests = append(body.Digests, name)
		if !known {
			body.Actions = append(body.Actions, muster.ActionInfo{
				Action: "app." + name[:1], Version: "1.0." + name[1:], Digest: name, Risk: muster.RiskLow, Params: json.RawMessage(`{"n":{"type":"int"}}`),
			})
		}
	}
	return l.do(fsm.OpCatalogSet, "", "", body)
}

func catalog(m fsm.Machine) string {
	all := m.Catalog()
	words := make([]string, 0, len(all))
	for _, a := range all {
		words = append(words, fmt.Sprint(a.Action, "/", a.Version, a.Nodes))
	}
	return strings.Join(words, " ")
}

func TestTheCatalogKeepsEachVersionOnceWithItsNodes(t *testing.T) {
	l := newLog(t)
	for _, id := range []string{"1", "2", "3"} {
		l.do(fsm.OpNodeJoin, "", "", agent(id, "n"+id))
	}
	before, _ := l.m.Node("1")
	for _, step := range []struct {
		what string
		do   func() fsm.Result
		want string
	}{
		{"one node", func() fsm.Result { return l.offer("1", "x1", "y1") }, "app.x/1.0.1[n1] app.y/1.0.1[n1]"},
		{"another, which need not describe what is described", func() fsm.Result { return l.offer("2", "y1?") }, "app.x/1.0.1[n1] app.y/1.0.1[n1 n2]"},
		{"another version of one", func() fsm.Result { return l.offer("2", "y2", "y2") }, "app.x/1.0.1[n1] app.y/1.0.1[n1] app.y/1.0.2[n2]"},
		{"what nobody described is left out", func() fsm.Result { return l.offer("3", "z1?", "x1?") }, "app.x/1.0.1[n1 n3] app.y/1.0.1[n1] app.y/1.0.2[n2]"},
		{"a node offers nothing more", func() fsm.Result { return l.offer("1") }, "app.x/1.0.1[n3] app.y/1.0.2[n2]"},
		{"and something again", func() fsm.Result { return l.offer("1", "w1") }, "app.w/1.0.1[n1] app.x/1.0.1[n3] app.y/1.0.2[n2]"},
		{"a node is removed", func() fsm.Result { return l.do(fsm.OpNodeRemove, "", "", fsm.NodeRemove{Slug: "n3"}) }, "app.w/1.0.1[n1] app.y/1.0.2[n2]"},
		{"a node leaves", func() fsm.Result { return l.do(fsm.OpNodeLeave, "", "", fsm.NodeLeave{ID: "2"}) }, "app.w/1.0.1[n1]"},
	} {
		if res := step.do(); res.Err() != nil || catalog(l.m) != step.want {
			t.Errorf("%s: %s, want %s; %v", step.what, catalog(l.m), step.want, res.Err())
		}
	}
	if after, _ := l.m.Node("1"); after.Index != before.Index {
		t.Errorf("what it offers moved the record from %d to %d", before.Index, after.Index)
	}
	if l.m.Described("y1") || !l.m.Described("w1") || fmt.Sprint(l.m.Offered("1")) != "[w1]" || len(l.m.Versions("app.w")) != 1 || len(l.m.Versions("app.y")) != 0 {
		t.Errorf("%v %v", l.m.Offered("1"), l.m.Versions("app.w"))
	}
	for _, id := range []string{"2", "3", "4"} {
		if err := l.offer(id, "x1").Err(); muster.KindOf(err) != muster.NotFound {
			t.Errorf("of node %s: %v", id, err)
		}
	}
	fresh := newLog(t)
	if err := fresh.m.Restore(io.NopCloser(bytes.NewReader(persist(t, l.m)))); err != nil || catalog(fresh.m) != catalog(l.m) {
		t.Errorf("restored: %s, %v", catalog(fresh.m), err)
	}
}
