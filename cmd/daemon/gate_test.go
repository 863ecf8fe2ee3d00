package daemon_test

import (
	"context"
	"encoding/json"
	"errors"
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

func TestAKeyIsLookedForAtTheMasterBeforeItIsRefused(t *testing.T) {
	reg := fsm.New()
	id, plain, hash := trust.NewKey()
	status := func(s muster.Status) fsm.NodeUpdate {
		return fsm.NodeUpdate{Slug: "shop", Change: muster.NodeChange{Status: &s}}
	}
	steps := []struct {
		op     fsm.Op
		body   any
		before muster.Kind // without a master to ask
		after  muster.Kind
	}{
		{fsm.OpNodeRegister, fsm.NodeRegister{
			ID: "1", Slug: "shop", Registration: muster.Registration{Name: "shop", URL: "http://shop"},
			Key: fsm.KeyCreate{ID: id, Name: "shop", Hash: hash, NodeID: "1", Scopes: []string{"read"}},
		}, muster.Unauthorized, ""},
		{fsm.OpNodeUpdate, status(muster.StatusMaintenance), "", muster.Forbidden},
		{fsm.OpNodeUpdate, status(muster.StatusActive), muster.Forbidden, ""},
		{fsm.OpNodeDelete, fsm.NodeDelete{Slug: "shop"}, "", muster.Unauthorized},
		{fsm.OpNodeRestore, fsm.NodeRestore{Slug: "shop"}, muster.Unauthorized, ""},
	}
	kind := func(err error) muster.Kind {
		if err == nil {
			return ""
		}
		return muster.KindOf(err)
	}
	for _, s := range steps {
		alone := daemon.KeysOf(reg, func(context.Context) error { return errors.New("no master") })
		if _, err := alone(t.Context(), plain); kind(err) != s.before {
			t.Errorf("before %s: %v", s.op, err)
		}
		done := false // at the master, which this copy hears of when it asks
		behind := daemon.KeysOf(reg, func(context.Context) error {
			done = true
			written(t, reg, s.op, s.body)
			return nil
		})
		_, err := behind(t.Context(), plain)
		if s.before != "" && (!done || kind(err) != s.after) {
			t.Errorf("%s at another node: %v", s.op, err)
		}
		if !done {
			written(t, reg, s.op, s.body)
		}
		if _, err := alone(t.Context(), plain); kind(err) != s.after {
			t.Errorf("after %s: %v", s.op, err)
		}
	}
}
