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

// refusing answers 503 to everything, and counts.
type refusing struct{ asked int }

func (r *refusing) RoundTrip(*http.Request) (*http.Response, error) {
	r.asked++
	return &http.Response{StatusCode: http.StatusServiceUnavailable, Body: io.NopCloser(strings.NewReader(`{}`)), Header: http.Header{}}, nil
}

func TestAStepOfATransactionIsAskedForWhateverTheCircuitSays(t *testing.T) {
	id, err := trust.LoadOrCreateIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	network := &refusing{}
	execute := daemon.ExecuteOf(id, &http.Client{Transport: network})
	n := muster.Node{ID: "n", Slug: "n", Kind: muster.KindAgent, URL: "http://a"}
	for range 6 {
		_, err = execute(t.Context(), n, muster.Rights{}, muster.Execution{Action: "app.x", Job: "j"})
	}
	if network.asked != 5 || muster.CodeOf(err) != muster.CodeCircuitOpen {
		t.Errorf("asked %d times: %v", network.asked, err)
	}
	_, err = execute(t.Context(), n, muster.Rights{}, muster.Execution{Action: "app.x", Job: "j", Tx: &muster.TxOp{Tx: "t", Step: "s", Op: muster.OpUndo}})
	if network.asked != 6 || muster.CodeOf(err) == muster.CodeCircuitOpen {
		t.Errorf("asked %d times: %v", network.asked, err)
	}
}
