package metrics

import (
	"fmt"

	old "github.com/armon/go-metrics"
	gometrics "github.com/hashicorp/go-metrics"
	gomprom "github.com/hashicorp/go-metrics/prometheus"
)

// sinks are where the libraries report. Raft and memberlist report to
// hashicorp/go-metrics, raft-boltdb v2.3.0 still to armon/go-metrics, each to
// the one global sink of a process: of several nodes in one process the last
// that started hears all.
type sinks struct {
	now    *gometrics.Metrics
	before *old.Metrics
}

// Start lets the libraries report here.
func (m *Metrics) Start() error {
	sink, err := gomprom.NewPrometheusSinkFrom(gomprom.PrometheusOpts{Registerer: m.all, Name: "muster_libraries"})
	if err != nil {
		return fmt.Errorf("register the libraries' metrics: %w", err)
	}
	config := gometrics.DefaultConfig(namespace)
	config.EnableHostname, config.EnableRuntimeMetrics = false, false
	if m.sinks.now, err = gometrics.NewGlobal(config, sink); err != nil {
		return fmt.Errorf("install the sink of metrics: %w", err)
	}
	earlier := old.DefaultConfig(namespace)
	earlier.EnableHostname, earlier.EnableRuntimeMetrics = false, false
	if m.sinks.before, err = old.NewGlobal(earlier, translated{sink}); err != nil {
		return fmt.Errorf("install the sink of metrics: %w", err)
	}
	return nil
}

// Stop ends that, unless another node has taken over.
func (m *Metrics) Stop() (err error) {
	quiet := &gometrics.Config{FilterDefault: true}
	if gometrics.Default() == m.sinks.now {
		_, err = gometrics.NewGlobal(quiet, &gometrics.BlackholeSink{})
	}
	if err == nil && old.Default() == m.sinks.before {
		_, err = old.NewGlobal(&old.Config{FilterDefault: true}, &old.BlackholeSink{})
	}
	return err
}

// translated is the sink as armon/go-metrics knows it.
type translated struct{ *gomprom.PrometheusSink }

func labels(in []old.Label) []gometrics.Label {
	out := make([]gometrics.Label, len(in))
	for i, l := range in {
		out[i] = gometrics.Label{Name: l.Name, Value: l.Value}
	}
	return out
}

// SetGaugeWithLabels passes a gauge on.
func (t translated) SetGaugeWithLabels(key []string, value float32, in []old.Label) {
	t.PrometheusSink.SetGaugeWithLabels(key, value, labels(in))
}

// IncrCounterWithLabels passes a counter on.
func (t translated) IncrCounterWithLabels(key []string, value float32, in []old.Label) {
	t.PrometheusSink.IncrCounterWithLabels(key, value, labels(in))
}

// AddSampleWithLabels passes a sample on.
func (t translated) AddSampleWithLabels(key []string, value float32, in []old.Label) {
	t.PrometheusSink.AddSampleWithLabels(key, value, labels(in))
}
