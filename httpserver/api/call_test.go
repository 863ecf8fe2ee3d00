package api_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"muster"
	"muster/httpserver/api"
)

func TestACallThatLeavesARowIsHeardOfWhenItBeginsAndWhenItIsOver(t *testing.T) {
	var heard []api.Call
	begun := make(chan int, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		begun <- len(heard)
		_, _ = io.WriteString(w, `{"count":1}`)
	}))
	defer server.Close()
	c := (&api.Client{HTTP: server.Client(), Caller: "key:1", Record: func(c api.Call) { heard = append(heard, c) }}).To(server.URL, "n1")
	if _, err := c.Search(t.Context(), muster.Query{Text: "x"}); err != nil || <-begun != 1 || len(heard) != 2 {
		t.Fatalf("%v %+v", err, heard)
	}
	first, last := heard[0], heard[1]
	if !first.Pending || first.Status != 0 || first.Response != nil || !strings.Contains(string(first.Payload), `"query":"x"`) {
		t.Errorf("begun: %+v", first)
	}
	if last.Pending || last.ID != first.ID || last.Status != http.StatusOK || string(last.Response) != `{"count":1}` || last.NodeID != "n1" || last.Caller != "key:1" {
		t.Errorf("over: %+v", last)
	}
}

func TestATraceIsContinuedAndABadOneIsNot(t *testing.T) {
	const id, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for header, want := range map[string]bool{
		"00-" + id + "-" + span + "-01":                      true,
		"cc-" + id + "-" + span + "-01-what-the-future-has":  true,
		"00-" + id + "-" + span + "-01-more":                 false,
		"ff-" + id + "-" + span + "-01":                      false,
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01": false,
		"00-" + id + "-" + strings.Repeat("0", 16) + "-01":   false,
		"00-" + strings.ToUpper(id) + "-" + span + "-01":     false,
		"00-" + id[1:] + "-" + span + "-01":                  false,
		"":                                                   false,
	} {
		trace, ok := api.ParseTrace(header)
		if ok != want || ok && (trace.ID != id || trace.Flags != "01") {
			t.Errorf("%q: %+v %v", header, trace, ok)
		}
	}
	var sent []string
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		sent = append(sent, r.Header.Get("traceparent"))
		_, _ = io.WriteString(w, `{}`)
	})
	ctx := api.WithTrace(t.Context(), api.Trace{ID: id, Flags: "01"})
	for range 2 {
		if _, err := c.Cluster(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Cluster(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, ok := api.ParseTrace(sent[0])
	if !ok || a.ID != id || sent[0] == sent[1] || strings.Contains(sent[0], span) {
		t.Errorf("two calls of one trace have spans of their own: %q", sent)
	}
	if b, ok := api.ParseTrace(sent[2]); !ok || b.ID == id {
		t.Errorf("a call without a trace begins one: %q", sent)
	}
}

func TestEachKindOfCallLeavesItsRow(t *testing.T) {
	for call, want := range map[string]string{
		"POST /v1/search": "search", "GET /v1/search": "search", "POST /app/api/ai-engine/search": "search", "POST " + api.PathPin: "search",
		"DELETE /v1/search/cache": "", "POST /v1/context": "search",
		"POST /v1/run": "action", "POST " + api.PathRun: "action", "POST /api/ai-engine/actions": "action", "POST /v1/jobs/j_1/cancel": "action",
		"GET /v1/jobs/j_1": "", "POST /v1/tx": "action", "POST /v1/tx/1/skip": "action", "GET /v1/tx/1": "",
		"POST " + api.PathApply: "sync", "POST " + api.PathJoin: "sync", "POST /v1/nodes": "sync", "POST /v1/nodes/sync": "sync",
		"POST /api/ai-engine/register": "sync", "GET /v1/nodes": "", "POST /v1/nodes/a/ping": "ping", "POST /v1/nodes/ping": "ping",
		"GET /app/api/ai-engine/health": "ping", "GET /v1/requests": "", "POST /v1/documents": "", "POST /v1/keys": "",
	} {
		method, path, _ := strings.Cut(call, " ")
		if got := api.TypeOf(method, path); got != want {
			t.Errorf("%s: %q, want %q", call, got, want)
		}
	}
}
