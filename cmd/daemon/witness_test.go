package daemon_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/httpserver/api"
)

// pair is two nodes of one cluster that know each other.
func pair(t *testing.T) (a, b *one) {
	t.Helper()
	dir := t.TempDir()
	a = raise(t, dir, "a")
	b = raise(t, dir, "b", a.gossip)
	until(t, "a knows b", func() bool {
		_, err := a.op.Node(t.Context(), "b")
		return err == nil
	})
	return a, b
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-end:
			t.Fatal("not within 20 s: ", what)
		}
	}
}

// rows waits until at least n rows fit, and returns them.
func rows(t *testing.T, c *api.Client, f api.RequestFilter, n int) (got []api.Row) {
	t.Helper()
	until(t, "rows of "+f.Query(), func() bool {
		page, err := c.Requests(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		got = page.Requests
		return len(got) >= n && !slices.ContainsFunc(got, func(r api.Row) bool { return r.Status == api.RowPending })
	})
	return got
}

const (
	traceID     = "0af7651916cd43dd8448eb211c80319c"
	traceparent = "00-" + traceID + "-b7ad6b7169203331-01"
)

func TestOneTraceJoinsTheRowsOfASearchOnAllNodes(t *testing.T) {
	a, b := pair(t)
	search := a.key(t, "search", "")
	for n, text := range map[*one]string{a: "rain", b: "rain again"} {
		if _, err := n.op.AddDocuments(t.Context(), "", []byte(`{"id":"1","content":"`+text+`"}`)); err != nil {
			t.Fatal(err)
		}
	}
	c := &api.Client{Addrs: []string{a.base}, HTTP: a.op.HTTP, Key: *search.Plain}
	ctx := api.WithTrace(t.Context(), api.Trace{ID: traceID, Flags: "01"})
	if got, err := c.Search(ctx, muster.Query{Text: "rain"}); err != nil || got.NodesSearched != 2 {
		t.Fatal(got, err)
	}
	all := rows(t, b.op, api.RequestFilter{Trace: traceID, Everyone: true}, 5)
	seen := map[string]int{}
	for _, r := range all {
		seen[r.RecordedBy+" "+r.Direction+" "+r.Node]++
		if r.RequestType != "search" || r.Status != "success" || r.StatusCode != http.StatusOK || r.Caller != "key:"+search.ID || r.TraceID != traceID || r.RequestID == "" {
			t.Errorf("%+v", r)
		}
	}
	if len(all) != 5 || seen["a in a"] != 1 || seen["a out b"] != 2 || seen["b in b"] != 2 {
		t.Errorf("%v", seen)
	}
	if first := all[len(all)-1]; !strings.Contains(string(first.Payload), `"query":"rain"`) || !strings.Contains(string(first.Response), `"total_results":2`) {
		t.Errorf("%s %s", first.Payload, first.Response)
	}
	if own := rows(t, b.op, api.RequestFilter{Trace: traceID}, 2); len(own) != 2 {
		t.Errorf("b alone: %+v", own)
	}
}

func TestTheRowsOfAllNodesArePagedAsOneList(t *testing.T) {
	a, b := pair(t)
	for range 5 {
		for _, n := range []*one{a, b} {
			if _, err := n.op.Search(t.Context(), muster.Query{Text: "x", Options: muster.QueryOptions{Local: true}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	f := api.RequestFilter{Type: "search", Everyone: true}
	want := rows(t, a.op, f, 10)
	var got []api.Row
	for f.Limit = 3; ; {
		page, err := b.op.Requests(t.Context(), f)
		if err != nil || len(page.Requests) > 3 || len(page.Missing) > 0 {
			t.Fatal(page, err)
		}
		got = append(got, page.Requests...)
		if f.Cursor = page.Cursor; f.Cursor == "" {
			break
		}
	}
	same := func(a, b api.Row) bool { return a.ID == b.ID }
	if len(want) != 10 || !slices.EqualFunc(got, want, same) {
		t.Errorf("%d rows in pages, %d at once", len(got), len(want))
	}
}

func TestAKeySeesItsOwnRowsAndAnAdminAll(t *testing.T) {
	a, b := pair(t)
	created, err := a.op.CreateKey(t.Context(), muster.KeySpec{Name: "k", Scopes: []string{"read", "search"}})
	if err != nil {
		t.Fatal(err)
	}
	by := &api.Client{Addrs: []string{b.base}, HTTP: a.op.HTTP, Key: *created.Plain}
	for _, c := range []*api.Client{by, b.op} {
		if _, err := c.Search(t.Context(), muster.Query{Text: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	f := api.RequestFilter{Type: "search", Everyone: true}
	all := rows(t, b.op, f, 6) // both searches at b, and what a was asked for each
	mine := rows(t, by, f, 3)
	if len(mine) != 3 || len(all) != 6 || slices.ContainsFunc(mine, func(r api.Row) bool { return r.Caller != "key:"+created.ID }) {
		t.Errorf("%d of %d: %+v", len(mine), len(all), mine)
	}
	blind := &api.Client{Addrs: []string{b.base}, HTTP: a.op.HTTP, Key: *a.key(t, "search", "").Plain}
	if _, err := blind.Requests(t.Context(), f); muster.KindOf(err) != muster.Forbidden {
		t.Errorf("without read: %v", err)
	}
}

func TestSearchesActionsWritesAndPingsLeaveRowsThatTheStatusCounts(t *testing.T) {
	a, b := pair(t)
	for _, action := range []string{"node.ping", "no.such"} {
		_, err := b.op.Run(t.Context(), muster.Run{Action: action, On: muster.Selector{All: true}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.op.Register(t.Context(), muster.Registration{Name: "app", URL: "http://127.0.0.1:9"}, ""); err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string][]string{
		"action": {"in b", "in b", "out a", "out a"}, "sync": {"in b", "out a", "out a", "out a"}, // b joined and told its actions, too
	} {
		got := make([]string, 0, len(want))
		for _, r := range rows(t, b.op, api.RequestFilter{Type: kind}, len(want)) {
			got = append(got, r.Direction+" "+r.Node)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: %v", kind, got)
		}
	}
	if pings := rows(t, b.op, api.RequestFilter{Type: "ping"}, 1); pings[0].Direction != "in" || pings[0].StatusCode != http.StatusOK {
		t.Errorf("pings: %+v", pings)
	}
	failed := rows(t, b.op, api.RequestFilter{Type: "action", Status: "failed"}, 2)
	if len(failed) != 2 { // the run, and what a was asked
		t.Errorf("failed: %+v", failed)
	}
	raw, err := json.Marshal(rows(t, a.op, api.RequestFilter{Everyone: true, Type: "sync"}, 2))
	if err != nil || strings.Contains(string(raw), "mk_") {
		t.Errorf("a key is in the log: %s", raw)
	}
	s, err := b.op.Status(t.Context())
	if err != nil || s.Health.SuccessRate == nil || *s.Health.SuccessRate <= 0 || *s.Health.SuccessRate >= 100 {
		t.Errorf("%+v %v", s.Health, err)
	}
}

func TestAListOfRequestsRefusesWhatItDoesNotUnderstand(t *testing.T) {
	o := raise(t, t.TempDir(), "a")
	for query, field := range map[string]string{
		"type=x": "type", "status=ok": "status", "since=yesterday": "since", "since=-1h": "since", "slow_ms=-1": "slow_ms", "slow_ms=1s": "slow_ms",
		"limit=0": "limit", "limit=1001": "limit", "cursor=x": "cursor", "scope=all": "scope", "nodes=a": "nodes", "type=search&type=ping": "type",
	} {
		c := call{"GET", "/v1/requests?" + query, ""}
		if code, body := o.ask(t, c, o.operator(t, c)); code != http.StatusUnprocessableEntity || !strings.Contains(body, `"`+field+`"`) {
			t.Errorf("%s: %d %s", query, code, body)
		}
	}
	for _, since := range []string{"1h", "2026-01-02T15:04:05Z", "2026-01-02T15:04:05.5%2B01:00"} {
		c := call{"GET", "/v1/requests?since=" + since, ""}
		if code, body := o.ask(t, c, o.operator(t, c)); code != http.StatusOK || !strings.Contains(body, `"requests":[`) || !strings.Contains(body, `"dropped":0`) {
			t.Errorf("since=%s: %d %s", since, code, body)
		}
	}
	c := call{"GET", api.PathHealth, ""}
	req, err := http.NewRequestWithContext(t.Context(), c.method, o.base+c.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("traceparent", traceparent)
	got, err := o.op.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = got.Body.Close()
	if ping := rows(t, o.op, api.RequestFilter{Trace: traceID}, 1); ping[0].RequestType != "ping" || ping[0].Caller != "" {
		t.Errorf("a ping with a trace: %+v", ping)
	}
}
