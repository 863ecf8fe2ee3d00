package daemon_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/cluster/trust"
)

func TestTheMetricsHoldThoseOfEveryPartByName(t *testing.T) {
	a, b := pair(t)
	if _, err := a.op.AddDocuments(t.Context(), "", []byte(`{"id":"1","content":"rain"}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.op.Search(t.Context(), muster.Query{Text: "rain"}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.op.Register(t.Context(), muster.Registration{Name: "app", URL: "http://127.0.0.1:9"}, ""); err != nil {
		t.Fatal(err)
	}
	read := *a.key(t, "read", "").Plain
	missing := func(o *one, names []string) (left []string) {
		code, text := o.ask(t, call{"GET", "/metrics", ""}, read)
		for _, name := range names {
			if code != http.StatusOK || !strings.Contains(text, "\n"+name) {
				left = append(left, name)
			}
		}
		return left
	}
	// b started last, so what this process' libraries count is told by b.
	names := []string{
		"muster_raft_apply ", "muster_raft_commitTime_count ", "muster_raft_fsm_applyBatch_count ",
		"muster_raft_boltdb_storeLogs_count ", "muster_raft_boltdb_logSize_count ",
		"muster_raft_boltdb_numFreePages ", "muster_raft_boltdb_totalReadTxn ", "muster_raft_boltdb_txstats_write ", "muster_raft_boltdb_txstats_writeTime_count ",
		"muster_memberlist_tcp_accept ", "muster_memberlist_msg_alive ", "muster_memberlist_gossip_count ", "muster_memberlist_udp_sent ",
		`muster_http_requests_total{code="200",route="POST /v1/search"} 1`, `muster_http_request_duration_seconds_count{route="POST /v1/search"} 1`,
		`muster_calls_total{result="ok",type="search"} 2`, `muster_call_duration_seconds_count{type="sync"}`,
		`muster_searches_total{result="complete"} 1`, "muster_search_duration_seconds_count 1", `muster_search_nodes_total{status="ok"} 1`,
		"muster_cluster_master 0", "muster_cluster_term ", "muster_cluster_commit_index ", "muster_cluster_can_lose ", "muster_cluster_stale_seconds ",
		"muster_registry_index ", `muster_registry_nodes{status="active"} `, "muster_registry_keys 2",
		`muster_gossip_peers{state="alive"} `, "muster_index_generation ", "muster_index_documents 0",
		`muster_circuits{state="closed"} 2`, `muster_circuits{state="open"} 0`,
		"muster_request_log_rows_total ", "muster_request_log_dropped_total 0", "muster_request_log_strangers_total ", "muster_request_log_queue ", "muster_request_log_bytes ",
		`muster_build_info{version="` + muster.Version + `"} 1`, "go_goroutines ", "process_open_fds ",
	}
	var left []string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("still missing: %q", left)
		}
	})
	until(t, "all metrics", func() bool {
		left = missing(b, names)
		return len(left) == 0
	})
	if left = missing(a, []string{"muster_cluster_master 1", "muster_index_documents 1"}); len(left) > 0 {
		t.Errorf("a lacks %q", left)
	}
}

func TestTheMetricsTellHowTheSearchCacheDoes(t *testing.T) {
	cfg := settings(t)
	cfg.MetricsOpen, cfg.CacheSize, cfg.CacheTTL = true, 1<<20, time.Minute
	d, err := start(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ready(t, d)
	secrets, err := trust.LoadSecrets(trust.DefaultSecretPath(os.Getenv))
	if err != nil {
		t.Fatal(err)
	}
	o := &one{base: d.Addr(), op: operator(d.Addr(), secrets[0])}
	search := func(times int) {
		for range times {
			if _, err := o.op.Search(t.Context(), muster.Query{Text: "rain"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	search(3)
	if _, err := o.op.AddDocuments(t.Context(), "", []byte(`{"id":"1","content":"rain"}`)); err != nil {
		t.Fatal(err)
	}
	search(1)
	_, text := o.ask(t, call{"GET", "/metrics", ""}, "")
	for _, want := range []string{"answers 1", "bytes ", "max_bytes 1.048576e+06", "hits_total 2", "misses_total 2", "shared_total 0", "stale_total 1"} {
		if !strings.Contains(text, "\nmuster_search_cache_"+want) {
			t.Errorf("no muster_search_cache_%s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "\nmuster_search_cache_bytes 0\n") {
		t.Error("an answer without a size")
	}
}

func TestMetricsNeedAKeyUnlessTheyAreOpen(t *testing.T) {
	cfg := settings(t)
	d, err := start(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Name, cfg.MetricsOpen, cfg.DataDir = "b", true, t.TempDir()
	cfg.HTTP, cfg.Gossip, cfg.Raft = free(t), free(t), free(t)
	open, err := start(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for base, want := range map[string]int{d.Addr(): http.StatusUnauthorized, open.Addr(): http.StatusOK} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = got.Body.Close()
		if media := got.Header.Get("Content-Type"); got.StatusCode != want || want == http.StatusOK && !strings.HasPrefix(media, "text/plain; version=0.0.4") {
			t.Errorf("%s: %d %s", base, got.StatusCode, media)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
