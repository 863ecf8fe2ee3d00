package metrics_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	old "github.com/armon/go-metrics"
	gometrics "github.com/hashicorp/go-metrics"
	"go.uber.org/goleak"

	"muster"
	"muster/httpserver/api"
	"muster/httpserver/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func text(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	raw, err := m.Text()
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func expect(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
}

func TestCallsAreCountedByRouteAndNoLabelComesFromACaller(t *testing.T) {
	m := metrics.New()
	for i := range 50 {
		m.Call(api.Call{Direction: "in", Method: "GET", Route: "GET /v1/nodes/{slug}", Path: fmt.Sprint("/v1/nodes/strange-", i), Status: 404, Caller: fmt.Sprint("strange-", i)})
		m.Call(api.Call{Direction: "in", Method: "STRANGE", Path: fmt.Sprint("/strange-", i), Status: 404})
		m.Call(api.Call{Direction: "out", Method: "POST", Path: api.PathPin, Node: fmt.Sprint("strange-", i), Status: []int{0, 200, 401, 503, 200}[i%5], Duration: time.Millisecond})
		m.Call(api.Call{Direction: "out", Method: "GET", Path: fmt.Sprint("/strange-", i), Status: 200})
		m.Call(api.Call{Direction: "out", Method: "POST", Path: api.PathPin, Pending: true})
	}
	got := text(t, m)
	expect(t, got,
		`muster_http_requests_total{code="404",route="GET /v1/nodes/{slug}"} 50`, `muster_http_requests_total{code="404",route="none"} 50`,
		`muster_http_request_duration_seconds_count{route="none"} 50`,
		`muster_calls_total{result="ok",type="search"} 20`, `muster_calls_total{result="unreachable",type="search"} 10`,
		`muster_calls_total{result="refused",type="search"} 10`, `muster_calls_total{result="failed",type="search"} 10`,
		`muster_calls_total{result="ok",type="other"} 50`, `muster_call_duration_seconds_count{type="search"} 50`)
	if strings.Contains(strings.ToLower(got), "strange") {
		t.Error("what a caller sent is in the metrics")
	}
	if !strings.Contains(got, "go_goroutines ") || !strings.Contains(got, "process_start_time_seconds ") {
		t.Error("the runtime's own are missing")
	}
}

func TestSearchesAreCountedByWhatCameOfThem(t *testing.T) {
	m := metrics.New()
	m.Search(muster.Answer{Nodes: []muster.NodeReport{{Status: "ok"}, {Status: "empty"}}}, nil, time.Second)
	m.Search(muster.Answer{Partial: true, Nodes: []muster.NodeReport{{Status: "ok"}, {Status: "timed_out"}}}, nil, time.Second)
	m.Search(muster.Answer{}, errors.New("refused"), time.Second)
	expect(t, text(t, m), `muster_searches_total{result="complete"} 1`, `muster_searches_total{result="partial"} 1`, `muster_searches_total{result="failed"} 1`,
		`muster_search_nodes_total{status="ok"} 2`, `muster_search_nodes_total{status="timed_out"} 1`, `muster_search_duration_seconds_count 3`)
}

func TestASourceIsAskedEachTime(t *testing.T) {
	m := metrics.New()
	asked := 0.0
	m.Add(func(put metrics.Put) {
		asked++
		put("muster_x", "X.", asked, "node", "a", "state", "open")
		put("muster_y_total", "Y.", 7)
	})
	expect(t, text(t, m), `muster_x{node="a",state="open"} 1`, "# TYPE muster_x gauge", "muster_y_total 7", "# TYPE muster_y_total counter")
	expect(t, text(t, m), `muster_x{node="a",state="open"} 2`)
}

func TestWhatLibrariesCountArrivesByEitherRoadAndStopsWithTheNode(t *testing.T) {
	first, second := metrics.New(), metrics.New()
	for _, m := range []*metrics.Metrics{first, second} {
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
	}
	report := func() {
		gometrics.IncrCounterWithLabels([]string{"new", "counter"}, 1, []gometrics.Label{{Name: "a", Value: "b"}})
		gometrics.SetGauge([]string{"new", "gauge"}, 2)
		old.IncrCounterWithLabels([]string{"old", "counter"}, 1, []old.Label{{Name: "a", Value: "b"}})
		old.SetGaugeWithLabels([]string{"old", "gauge"}, 2, []old.Label{{Name: "a", Value: "b"}})
		old.AddSampleWithLabels([]string{"old", "sample"}, 3, []old.Label{{Name: "a", Value: "b"}})
		old.AddSample([]string{"old", "plain"}, 3)
	}
	if err := first.Stop(); err != nil { // the second has taken over
		t.Fatal(err)
	}
	report()
	want := []string{
		`muster_new_counter{a="b"} 1`, `muster_new_gauge 2`, `muster_old_counter{a="b"} 1`, `muster_old_gauge{a="b"} 2`,
		`muster_old_sample_count{a="b"} 1`, `muster_old_plain_count 1`,
	}
	expect(t, text(t, second), want...)
	if err := second.Stop(); err != nil {
		t.Fatal(err)
	}
	report()
	expect(t, text(t, second), want...)
}
