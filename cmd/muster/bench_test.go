package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/httpserver/api"
	"muster/testdata/corpora"
	"muster/testdata/ports"
)

// The benchmarks run real agents. Beside each stands a bare round trip over
// loopback, so that figures can be given as ratios.

// steady is a client that keeps its connections, as a program would.
func steady(b *testing.B, d *demo, at string) *api.Client {
	b.Helper()
	c := d.client(at)
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	b.Cleanup(transport.CloseIdleConnections)
	c.HTTP = &http.Client{Transport: transport}
	return c
}

func BenchmarkLoopbackRoundTrip(b *testing.B) {
	answer := bytes.Repeat([]byte("x"), 3000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(answer)
	}))
	defer s.Close()
	client := s.Client()
	for b.Loop() {
		got, err := client.Post(s.URL, "application/json", strings.NewReader(`{"query":"waterproof rain jacket"}`)) //nolint:noctx // the barest round trip
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, got.Body)
		_ = got.Body.Close()
	}
}

func BenchmarkSearchOverThreeAgents(b *testing.B) {
	d, _ := agents(b, "shop", "wiki", "helpdesk")
	if err := d.index(b.Context(), []corpus{{"shop", corpora.Shop}, {"wiki", corpora.Wiki}, {"helpdesk", corpora.Helpdesk}}); err != nil {
		b.Fatal(err)
	}
	c := steady(b, d, "shop")
	for b.Loop() {
		a, err := c.Search(b.Context(), muster.Query{Text: "waterproof rain jacket", Options: muster.QueryOptions{Cache: new(bool)}})
		if err != nil || a.NodesSearched != 3 {
			b.Fatal(a.NodesSearched, err)
		}
	}
}

func BenchmarkCachedSearchOverThreeAgents(b *testing.B) {
	d, _ := agents(b, "shop", "wiki", "helpdesk")
	if err := d.index(b.Context(), []corpus{{"shop", corpora.Shop}, {"wiki", corpora.Wiki}, {"helpdesk", corpora.Helpdesk}}); err != nil {
		b.Fatal(err)
	}
	c := steady(b, d, "shop")
	q := muster.Query{Text: "waterproof rain jacket"}
	for { // gossip has to have told of what was indexed
		if a, err := c.Search(b.Context(), q); err != nil || a.Cached {
			break
		}
	}
	for b.Loop() {
		a, err := c.Search(b.Context(), q)
		if err != nil || !a.Cached {
			b.Fatal(a.Cached, err)
		}
	}
}

func BenchmarkRunOnThreeAgents(b *testing.B) {
	d, master := agents(b, "shop", "wiki", "helpdesk")
	c := steady(b, d, master)
	for b.Loop() {
		a, err := c.Run(b.Context(), muster.Run{Action: "node.ping", On: muster.Selector{All: true}})
		if err != nil || a.SuccessCount != 3 {
			b.Fatalf("%+v, %v", a, err)
		}
	}
}

func BenchmarkRegisterThroughAFollower(b *testing.B) {
	d, master := agents(b, "a", "b", "c")
	c := steady(b, d, other(d, master))
	for i := 0; b.Loop(); i++ {
		g := muster.Registration{Name: fmt.Sprint("app ", i), URL: "http://127.0.0.1:9/x"}
		if _, err := c.Register(b.Context(), g, ""); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStartToReady starts one agent on an empty directory and stops it,
// and reports besides how much memory it holds and how large the program is.
func BenchmarkStartToReady(b *testing.B) {
	var took time.Duration
	var memory float64
	for b.Loop() {
		d := newDemo(b.TempDir(), streams{io.Discard, io.Discard}, "all")
		d.self = os.Getenv("MUSTER_BIN")
		addrs, err := ports.Free(b.Context(), 3)
		if err != nil {
			b.Fatal(err)
		}
		d.urls["all"] = "http://" + addrs[0]
		d.args["all"] = []string{"agent", "--name", "all", "--data-dir", d.dir + "/all", "--http", addrs[0], "--gossip", addrs[1], "--raft", addrs[2]}
		started := time.Now()
		if err := d.start("all"); err != nil {
			b.Fatal(err)
		}
		for {
			got, err := http.Get(d.urls["all"] + "/readyz") //nolint:noctx // a benchmark's own loop
			if err == nil {
				_ = got.Body.Close()
				if got.StatusCode == http.StatusOK {
					break
				}
			}
			pause(b.Context(), time.Millisecond)
		}
		took += time.Since(started)
		pause(b.Context(), time.Second) // idle
		memory = resident(b, d.procs["all"].Process.Pid)
		if err := d.clean(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms-to-ready")
	b.ReportMetric(memory, "MiB-idle")
	if info, err := os.Stat(os.Getenv("MUSTER_BIN")); err == nil {
		b.ReportMetric(float64(info.Size())/(1<<20), "MiB-binary")
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// resident is a process's resident memory in MiB.
func resident(b *testing.B, pid int) float64 {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0 // only Linux tells it this way
	}
	for row := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(row, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kb / 1024
		}
	}
	return 0
}
