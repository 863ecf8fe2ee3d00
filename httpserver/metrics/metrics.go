// Package metrics counts what a node does and tells it in Prometheus' words,
// with what raft, memberlist and boltdb count of themselves. It never decides
// anything, and no label of it grows with what callers send.
package metrics

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"muster"
	"muster/httpserver/api"
)

// Metrics are one node's.
type Metrics struct {
	all      *prometheus.Registry
	requests *prometheus.CounterVec
	served   *prometheus.HistogramVec
	calls    *prometheus.CounterVec
	called   *prometheus.HistogramVec
	searches *prometheus.CounterVec
	shards   *prometheus.CounterVec
	searched prometheus.Histogram
	sinks    sinks

	mu      sync.Mutex
	sources []func(Put) // guarded by mu
}

// New makes the metrics of a node; Start lets the libraries' own in.
func New() *Metrics {
	m := &Metrics{
		all:      prometheus.NewRegistry(),
		requests: counters("http_requests_total", "Requests answered, by route and status.", "route", "code"),
		served:   histograms("http_request_duration_seconds", "How long requests took, by route.", "route"),
		calls:    counters("calls_total", "Calls to other nodes, by type and result (ok, refused, failed, unreachable).", "type", "result"),
		called:   histograms("call_duration_seconds", "How long calls to other nodes took, by type.", "type"),
		searches: counters("searches_total", "Federated searches, by result (complete, partial, failed).", "result"),
		shards:   counters("search_nodes_total", "Nodes in federated searches, by how they took part.", "status"),
		searched: prometheus.NewHistogram(histogram("search_duration_seconds", "How long federated searches took.")),
	}
	m.all.MustRegister(m.requests, m.served, m.calls, m.called, m.searches, m.shards, m.searched, &asked{m},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func histogram(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16)}
}

func histograms(name, help string, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(histogram(name, help), labels)
}

const namespace = "muster"

// Call counts a call that is over, by its route: paths are the callers' own.
func (m *Metrics) Call(c api.Call) {
	if c.Pending {
		return
	}
	if c.Direction == "in" {
		route := c.Route
		if route == "" {
			route = "none"
		}
		m.requests.WithLabelValues(route, strconv.Itoa(c.Status)).Inc()
		m.served.WithLabelValues(route).Observe(c.Duration.Seconds())
		return
	}
	kind := api.TypeOf(c.Method, c.Path)
	if kind == "" {
		kind = "other"
	}
	m.calls.WithLabelValues(kind, resultOf(c.Status)).Inc()
	m.called.WithLabelValues(kind).Observe(c.Duration.Seconds())
}

func resultOf(status int) string {
	switch {
	case status == 0:
		return "unreachable"
	case status >= 500:
		return "failed"
	case status >= 400:
		return "refused"
	default:
		return "ok"
	}
}

// Search counts a federated search that this node led.
func (m *Metrics) Search(a muster.Answer, err error, took time.Duration) {
	result := "complete"
	switch {
	case err != nil:
		result = "failed"
	case a.Partial:
		result = "partial"
	}
	m.searches.WithLabelValues(result).Inc()
	m.searched.Observe(took.Seconds())
	for _, n := range a.Nodes {
		m.shards.WithLabelValues(n.Status).Inc()
	}
}

// Put takes one value of a source. A name that ends with _total is a counter,
// any other a gauge; labels are names and values in turn, of which there must
// be few.
type Put func(name, help string, value float64, labels ...string)

// Add has a source asked whenever the metrics are told.
func (m *Metrics) Add(source func(Put)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources = append(m.sources, source)
}

// Text is all metrics in the text format of Prometheus, version 0.0.4.
func (m *Metrics) Text() ([]byte, error) {
	families, err := m.all.Gather()
	if err != nil && len(families) == 0 {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	var out bytes.Buffer
	enc := expfmt.NewEncoder(&out, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, family := range families {
		if err := enc.Encode(family); err != nil {
			return nil, fmt.Errorf("write metrics: %w", err)
		}
	}
	return out.Bytes(), nil
}

// asked collects from the sources. It describes nothing in advance: which
// values there are, they know when they are asked.
type asked struct{ *Metrics }

// Describe describes nothing.
func (*asked) Describe(chan<- *prometheus.Desc) {}

// Collect asks all sources.
func (a *asked) Collect(out chan<- prometheus.Metric) {
	a.mu.Lock()
	sources := slices.Clone(a.sources)
	a.mu.Unlock()
	put := func(name, help string, value float64, labels ...string) {
		kind := prometheus.GaugeValue
		if strings.HasSuffix(name, "_total") {
			kind = prometheus.CounterValue
		}
		var names, values []string
		for i := 1; i < len(labels); i += 2 {
			names, values = append(names, labels[i-1]), append(values, labels[i])
		}
		desc := prometheus.NewDesc(name, help, names, nil)
		metric, err := prometheus.NewConstMetric(desc, kind, value, values...)
		if err != nil {
			metric = prometheus.NewInvalidMetric(desc, err)
		}
		out <- metric
	}
	for _, source := range sources {
		source(put)
	}
}
