package httpserver_test

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/httpserver"
)

// bodies are one good body of each route that takes one.
var bodies = map[string]string{
	"POST /api/ai-engine/register":   `{"name":"app","url":"http://127.0.0.1:9/x","capabilities":["search"],"metadata":{"a":[1,{"b":null}]},"scopes":["read"]}`,
	"POST /v1/nodes":                 `{"name":"app","url":"http://127.0.0.1:9/x","type":"child","weight":2,"credential":"s","replica_of":"b"}`,
	"PATCH /v1/nodes/{slug}":         `{"status":"maintenance","metadata":{"a":"b"},"credential":"c"}`,
	"POST /v1/nodes/{slug}/key":      `{"overlap":"1h"}`,
	"POST /v1/nodes/sync":            `{"nodes":[{"name":"app","url":"http://127.0.0.1:9/x"}],"apply":true,"prune":true}`,
	"POST /v1/nodes/cleanup":         `{"days":14,"statuses":["error"],"apply":true}`,
	"POST /v1/cluster/transfer":      `{"to":"b"}`,
	"POST /v1/keys":                  `{"name":"k","scopes":["run:app.*"],"max_risk":"low","targets":"env=prod","filter":{"lang":["en",1,true]},"expires_in":"720h"}`,
	"POST /v1/keys/{id}/rotate":      `{"overlap":"90m"}`,
	"POST /api/ai-engine/search":     `{"query":"a","limit":5,"options":{"filters":{"y":{"gte":1}},"facets":["y"],"nodes":["a"]}}`,
	"POST /v1/search":                `{"query":"\"a b\" -c","options":{"min_coverage":0.5,"timeout_ms":10,"cursor":"x"}}`,
	"POST /v1/documents":             `{"id":"1","title":"a","metadata":{"n":9007199254740993}}`,
	"POST /api/ai-engine/actions":    `{"action":"app.x","params":{"a":1},"timeout_ms":5}`,
	"POST /v1/run":                   `{"action":"app.x","on":{"where":"env in (a,b)","exclude":["c"],"sample":2},"how":{"mode":"rolling","batches":["1","25%"],"max_fail":"10%"},"key":"k"}`,
	"POST /internal/v1/join":         `{"id":"01a211a1-5664-729f-9c97-7a65fe614b9f","name":"a","url":"http://a","raft":"a:1","proof":"AA=="}`,
	"POST /internal/v1/apply":        `{"v":1,"op":"term.open","body":{}}`,
	"POST /internal/v1/search/stats": `{"query":"a"}`,
}

// FuzzTheBodyOfEveryRoute hands bodies to the handlers as they arrive, behind
// authentication. What is wrong with one is the caller's fault, never the node's.
func FuzzTheBodyOfEveryRoute(f *testing.F) {
	h := &house{nodes: []muster.Node{{ID: "1", Slug: "a", Name: "a"}}}
	with := &hands{}
	s := httpserver.New(httpserver.Config{
		Addr: "127.0.0.1:0", ID: "1", Name: "a", Auth: h, Cluster: h, Log: slog.New(slog.DiscardHandler), Forward: h,
		Search: h, Docs: h, Engine: h, Shard: shard{}, Keys: func() []muster.Key { return nil }, Waiting: func() map[string]string { return nil },
		Actions: with, Runner: with,
	})
	taking := slices.DeleteFunc(s.Routes(), func(r httpserver.Route) bool {
		return r.Method == http.MethodGet || r.Method == http.MethodDelete || strings.HasSuffix(r.Path, "/ping") || strings.Contains(r.Path, "/jobs/")
	})
	left := maps.Clone(bodies)
	for i, r := range taking {
		delete(left, r.Method+" "+r.Path)
		f.Add(byte(i), []byte(bodies[r.Method+" "+r.Path]))
		f.Add(byte(i), []byte("{}"))
	}
	if len(left) > 0 {
		f.Fatalf("bodies of no route: %v", left)
	}
	f.Fuzz(func(t *testing.T, n byte, raw []byte) {
		r := taking[int(n)%len(taking)]
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.Handle(ctx, &httpserver.Request{
			ID: "r", Method: r.Method, Path: r.Path, Route: r.Method + " " + r.Path, Body: raw, Query: url.Values{}, Node: "1",
			Params: map[string]string{"slug": "a", "id": "1", "name": "app.x"}, Rights: muster.Rights{Principal: "operator", Scopes: []string{muster.ScopeAdmin}},
		})
		if muster.KindOf(err) == muster.Internal && err != nil {
			t.Fatalf("%s %s: %v", r.Method, r.Path, err)
		}
	})
}
