package daemon_test

import (
	"testing"

	"muster"
	"muster/httpserver/api"
)

func TestAKeyWorksAsLongAsItsNodeIsActive(t *testing.T) {
	o := raise(t, t.TempDir(), "a")
	shop, err := o.op.Register(t.Context(), muster.Registration{Name: "shop", URL: "http://127.0.0.1:9"}, "")
	if err != nil {
		t.Fatal(err)
	}
	own := &api.Client{Addrs: []string{o.base}, HTTP: o.op.HTTP, Key: *shop.APIKey}
	works := func() error {
		_, err := own.Nodes(t.Context())
		return err
	}
	for _, status := range []muster.Status{muster.StatusMaintenance, muster.StatusInactive, muster.StatusActive} {
		if _, err := o.op.UpdateNode(t.Context(), "shop", 0, api.NodePatch{NodeChange: muster.NodeChange{Status: &status}}); err != nil {
			t.Fatal(err)
		}
		err := works()
		if status == muster.StatusActive && err != nil || status != muster.StatusActive && muster.CodeOf(err) != "node_"+string(status) {
			t.Errorf("%s: %v", status, err)
		}
		code, body := o.ask(t, call{method: "GET", path: "/v1/nodes"}, *shop.APIKey)
		var e api.Error
		if code == 403 && (api.Decode([]byte(body), &e) != nil || e.NodeStatus != status) {
			t.Errorf("%s: %d %s", status, code, body)
		}
	}
	if _, err := o.op.DeleteNode(t.Context(), "shop", 0); err != nil {
		t.Fatal(err)
	}
	if err := works(); muster.KindOf(err) != muster.Unauthorized {
		t.Errorf("deleted: %v", err)
	}
	if _, err := o.op.RestoreNode(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	if err := works(); err != nil {
		t.Errorf("restored: %v", err)
	}
}
