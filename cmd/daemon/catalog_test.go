package daemon_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"muster"
	"muster/actions"
	"muster/cluster/trust"
	"muster/cmd/daemon"
)

type registry []muster.Node

func (r registry) Nodes() []muster.Node { return r }

// agents stands for the network and all agents behind it; each takes a while.
type agents struct{ now, most atomic.Int32 }

func (a *agents) RoundTrip(*http.Request) (*http.Response, error) {
	if n := a.now.Add(1); n > a.most.Load() {
		a.most.Store(n)
	}
	defer a.now.Add(-1)
	<-time.After(10 * time.Millisecond)
	body := io.NopCloser(strings.NewReader(`{"actions":[{"action":"app.x","digest":"d"}]}`))
	return &http.Response{StatusCode: http.StatusOK, Body: body, Header: http.Header{}}, nil
}

func TestTheCatalogAsksAsManyAgentsAtOnceAsItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id, err := trust.LoadOrCreateIdentity(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		own, err := actions.NewExecutor(actions.ExecutorConfig{ID: id.ID})
		if err != nil {
			t.Fatal(err)
		}
		can := []muster.Capability{muster.CapActions}
		nodes := make(registry, 0, 13)
		nodes = append(nodes, muster.Node{ID: id.ID, Slug: "self", Kind: muster.KindAgent, Capabilities: can})
		for i := range 12 {
			nodes = append(nodes, muster.Node{ID: fmt.Sprint(i), Slug: fmt.Sprint(i), Kind: muster.KindAgent, URL: "http://a", Capabilities: can})
		}
		network := &agents{}
		all, missing := daemon.CatalogOf(id, nodes, own, &http.Client{Transport: network}, 3)(t.Context())
		if len(missing) > 0 || len(all) != 1+len(own.Infos()) || all[0].Action != "app.x" || len(all[0].Nodes) != 12 {
			t.Errorf("%+v, missing %v", all, missing)
		}
		if network.most.Load() != 3 {
			t.Errorf("%d were asked at once", network.most.Load())
		}
	})
}
