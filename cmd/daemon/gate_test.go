package daemon_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"muster"
	"muster/cluster/trust"
	"muster/cmd/daemon"
	"muster/fsm"
	"muster/httpserver"
)

// written is a registry after some commands.
func written(t *testing.T, reg *fsm.Registry, op fsm.Op, body any) {
	t.Helper()
	cmd, err := fsm.NewCommand(op, time.Now(), "operator", body)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(cmd)
	if err != nil {
		t.Fatal(err)
	}
	res, ok := fsm.Machine{Registry: reg}.Apply(&raft.Log{Index: reg.Index() + 1, Data: raw}).(fsm.Result)
	if !ok || res.Err() != nil {
		t.Fatalf("%s: %v", op, res.Err())
	}
}

func identity(t *testing.T) trust.Identity {
	t.Helper()
	id, err := trust.LoadOrCreateIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestARemovedNodesSignatureOpensNoRoute(t *testing.T) {
	reg := fsm.New()
	here, there := identity(t), identity(t)
	check := daemon.CallsOf(reg, here)
	written(t, reg, fsm.OpNodeJoin, fsm.NodeJoin{
		Joining: muster.Joining{ID: there.ID, Name: "b", URL: "http://127.0.0.1:1", PublicKey: there.PublicKey()}, Slug: "b",
	})
	call := func(r httpserver.Route) error {
		t.Helper()
		token, err := there.Sign(trust.Call{
			Method: r.Method, Path: r.Path, Audience: here.ID, Rights: muster.Rights{Principal: "node:" + there.ID, Scopes: []string{muster.ScopeNode}},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = check(token, r.Method, r.Path, "", func(httpserver.Caller) ([]byte, error) { return nil, nil })
		return err
	}
	routes := httpserver.New(httpserver.Config{}).Routes()
	for _, r := range routes {
		if err := call(r); err != nil {
			t.Errorf("%s %s while it is in: %v", r.Method, r.Path, err)
		}
	}
	written(t, reg, fsm.OpNodeRemove, fsm.NodeRemove{Slug: "b"})
	for _, r := range routes {
		if err := call(r); muster.KindOf(err) != muster.Unauthorized {
			t.Errorf("%s %s after it was removed: %v", r.Method, r.Path, err)
		}
	}
}
