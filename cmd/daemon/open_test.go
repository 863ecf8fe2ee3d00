package daemon_test

import (
	"net/http"
	"testing"

	"muster"
	"muster/cmd/daemon"
	"muster/httpserver/api"
)

func TestWhoRegistersWithoutAKeyWaitsForAnOperator(t *testing.T) {
	dir := t.TempDir()
	a := raiseWith(t, dir, "a", func(c *daemon.Config) { c.OpenRegistration = true })
	b := raise(t, dir, "b", a.gossip)
	stranger := func(o *one) *api.Client { return &api.Client{Addrs: []string{o.base}, HTTP: o.op.HTTP} }
	offer := func(o *one, g muster.Registration) (done muster.Registered, err error) {
		return done, stranger(o).Do(t.Context(), http.MethodPost, "/api/ai-engine/register", g, &done)
	}
	shop := muster.Registration{Name: "shop", URL: "http://127.0.0.1:9/x"}
	if _, err := offer(b, shop); muster.KindOf(err) != muster.Unauthorized {
		t.Errorf("at a node that is not open: %v", err)
	}
	if err := stranger(a).Do(t.Context(), http.MethodPost, "/v1/nodes", shop, nil); muster.KindOf(err) != muster.Unauthorized {
		t.Errorf("by the cluster's own route: %v", err)
	}
	done, err := offer(a, shop)
	if err != nil || done.Node.Status != muster.StatusInactive || done.APIKey == nil {
		t.Fatal(done, err)
	}
	own := a.with(api.NewKey{Plain: done.APIKey})
	if _, err := own.Status(t.Context()); muster.CodeOf(err) != "node_inactive" {
		t.Errorf("its key: %v", err)
	}
	greedy := shop
	greedy.Name, greedy.Scopes = "greedy", []string{"admin"}
	if _, err := offer(a, greedy); muster.CodeOf(err) != "exceeds_caller" {
		t.Errorf("with scopes: %v", err)
	}
	known := a.with(a.key(t, "registry", ""))
	if err := known.Do(t.Context(), http.MethodPost, "/api/ai-engine/register", muster.Registration{Name: "wiki", URL: "http://127.0.0.1:9/y"}, &done); err != nil ||
		done.Node.Status != muster.StatusActive {
		t.Errorf("with a key: %+v %v", done, err)
	}
	for n := range 30 {
		more := muster.Registration{Name: "x" + string(rune('a'+n)), URL: "http://127.0.0.1:9/z"}
		if _, err = offer(a, more); err != nil {
			break
		}
	}
	if muster.KindOf(err) != muster.Limited {
		t.Errorf("thirty at once: %v", err)
	}
}
