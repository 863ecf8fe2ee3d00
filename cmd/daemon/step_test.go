package daemon_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"muster"
	"muster/cluster/trust"
	"muster/cmd/daemon"
)

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
