package httpserver_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster"
	"muster/httpserver"
	"muster/httpserver/api"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// house stands for a cluster of one node that never fails.
type house struct {
	mu       sync.Mutex
	nodes    []muster.Node
	listed   int      // how often Nodes was called
	commands [][]byte // as Apply got them, not copied
	calls    []api.Call
	sent     []api.Request // as Forward got them
	lost     error         // what Forward ends with
	index    uint64
	rights   muster.Rights // of the key mk_rights
	spec     muster.KeySpec
	rotated  []string // what RotateKey and NodeKey were asked for
	shown    *string  // the key that a registration shows
	edit     muster.Edit
	synced   muster.Sync
	cleaned  muster.Cleanup
	moved    []string
	master   string                      // ID
	stale    int64                       // ms
	level    func(context.Context) error // what Linearize does; nil: nothing
	behind   []string                    // the scopes in a node's call; nil: some
}

func (h *house) Register(_ context.Context, _ muster.Write, g muster.Registration) (muster.Registered, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.index++
	return muster.Registered{Success: true, Node: muster.Node{Name: g.Name, Slug: g.Slug}, APIKey: h.shown}, nil
}

func (h *house) CreateKey(_ context.Context, _ muster.Write, k muster.KeySpec) (muster.Key, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.spec = k
	return muster.Key{Name: k.Name, Plain: h.shown, MaxRisk: k.MaxRisk}, nil
}

func (h *house) RotateKey(_ context.Context, _ muster.Write, id string, overlap time.Duration) (muster.Key, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rotated = append(h.rotated, fmt.Sprint(id, " ", overlap))
	return muster.Key{ID: id, Plain: h.shown}, nil
}

func (h *house) NodeKey(ctx context.Context, w muster.Write, n muster.Node, id string, overlap time.Duration) (muster.Key, error) {
	return h.RotateKey(ctx, w, n.Slug+" "+id, overlap)
}

func (h *house) RevokeKey(context.Context, muster.Write, string) error  { return nil }
func (h *house) RemovePeer(context.Context, muster.Write, string) error { return nil }
func (h *house) Status() muster.ClusterStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	return muster.ClusterStatus{AppliedIndex: h.index, StaleMs: h.stale, Master: &muster.MasterRef{Slug: fmt.Sprint("m", h.index), ID: cmp.Or(h.master, "1")}}
}

func (h *house) Sight() muster.Sight {
	s := h.Status()
	self, _ := h.Node("1")
	return muster.Sight{Self: self.Slug, Master: s.Master.Slug, Applied: s.AppliedIndex, Stale: time.Duration(s.StaleMs) * time.Millisecond}
}

func (h *house) Nodes() []muster.Node {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listed++
	return slices.Clone(h.nodes)
}

func (h *house) Node(id string) (muster.Node, bool) {
	for _, n := range h.nodes {
		if n.ID == id {
			return n, true
		}
	}
	return muster.Node{}, false
}

// Forward notes what is sent on.
func (h *house) Forward(_ context.Context, to muster.Node, _ muster.Rights, r api.Request) (api.Response, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sent = append(h.sent, r)
	return api.Response{Status: http.StatusOK, Body: []byte(`{"to":"` + to.ID + `"}`)}, h.lost
}

func (h *house) WaitIndex(context.Context, uint64) error { return nil }
func (h *house) Linearize(ctx context.Context) error {
	if h.level != nil {
		return h.level(ctx)
	}
	return nil
}

func (h *house) Level(context.Context)                     {}
func (h *house) OldSeals() int                             { return 0 }
func (h *house) ReadIndex(context.Context) (uint64, error) { return 7, nil }
func (h *house) Join(context.Context, muster.Joining) (muster.Joined, error) {
	return muster.Joined{}, nil
}

func (h *house) Apply(_ context.Context, _ string, command []byte) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.commands = append(h.commands, command)
	return []byte("{}"), nil
}

func (h *house) Search(context.Context, muster.Query) (muster.Answer, error) {
	return muster.Answer{Results: []muster.Hit{{ID: "1"}}}, nil
}

func (h *house) Add(_ context.Context, ndjson []byte) (muster.Indexed, error) {
	return muster.Indexed{Indexed: bytes.Count(ndjson, []byte("\n"))}, nil
}

func (h *house) Get(_ context.Context, collection, id string) (muster.Document, error) {
	return muster.Document{Collection: collection, ID: id}, nil
}

func (h *house) Delete(_ context.Context, _ string, ids []string) (int, error) { return len(ids), nil }

func (h *house) Stats(context.Context) (muster.IndexStats, error)      { return muster.IndexStats{}, nil }
func (h *house) Rebuild(context.Context) error                         { return nil }
func (h *house) DeleteCollection(context.Context, string) (int, error) { return 0, nil }

type shard struct{}

func (shard) Pin(context.Context, muster.ShardQuery) (muster.ShardStats, error) {
	return muster.ShardStats{}, nil
}

func (shard) Search(context.Context, muster.ShardSearch) (muster.ShardHits, error) {
	return muster.ShardHits{}, nil
}

// Key grants the scope that the key spells: mk_<scope>.
func (h *house) Key(_ context.Context, plain string) (muster.Rights, error) {
	scope := strings.TrimPrefix(plain, "mk_")
	switch scope {
	case "bad":
		return muster.Rights{}, muster.Errorf(muster.Unauthorized, "Invalid API key")
	case "rights":
		return h.rights, nil
	}
	return muster.Rights{Principal: "key:1", Scopes: []string{scope}}, nil
}

// Call takes every other token for one of a node, but for a forged one.
func (h *house) Call(token, _, _, _ string, body func(httpserver.Caller) ([]byte, error)) (httpserver.Caller, error) {
	if strings.HasPrefix(token, "forged") {
		return httpserver.Caller{}, muster.Errorf(muster.Unauthorized, "signed call: bad signature")
	}
	by := httpserver.Caller{Node: "1", Rights: muster.Rights{
		Principal: "node:1", Scopes: []string{muster.ScopeNode, muster.ScopeSearch, muster.ScopeRead, "run:app.*"},
	}}
	if h.behind != nil {
		by.Rights.Scopes = h.behind
	}
	_, err := body(by)
	return by, err
}

func serve(t *testing.T, h *house, with ...func(*httpserver.Config)) (base string, s *httpserver.Server) {
	t.Helper()
	if h.shown == nil {
		h.shown = new("mk_once")
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	cfg := httpserver.Config{
		Addr: addr, ID: "1", Name: "a", Auth: h, Cluster: h, Log: slog.New(slog.DiscardHandler), Forward: h,
		Search: h, Docs: h, Engine: h, Shard: shard{}, Keys: func() []muster.Key { return nil }, Waiting: func() map[string]string { return nil },
		Record: func(c api.Call) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.calls = append(h.calls, c)
		},
	}
	for _, change := range with {
		change(&cfg)
	}
	s = httpserver.New(cfg)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	return "http://" + addr, s
}

type answer struct {
	code   int
	body   string
	header http.Header
}

func ask(t *testing.T, method, url, token, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 1; i < len(header); i += 2 {
		req.Header.Set(header[i-1], header[i])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	got, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.Body.Close() }()
	raw, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{got.StatusCode, string(raw), got.Header}
}

// scopes are all that a key can hold, one of a kind.
func scopes() []string {
	return []string{
		muster.ScopeRead, muster.ScopeSearch, muster.ScopeIndex, muster.ScopeTx, muster.ScopeRegistry, muster.ScopeAdmin, "run:app.*", "run:web.*",
	}
}

func TestEveryRouteAsksForItsScope(t *testing.T) {
	c := &clock{now: time.Now()}
	base, s := serve(t, &house{}, withActions(&hands{}), func(cfg *httpserver.Config) { cfg.Now = c.Now })
	for _, r := range s.Routes() {
		if r.Scope == "" {
			t.Errorf("%s %s has no scope", r.Method, r.Path)
		}
		c.pass(time.Minute) // all keys have the same name here
		name, url := r.Method+" "+r.Path, base+strings.NewReplacer("{slug}", "x", "{id}", "x", "{name}", "app.x").Replace(r.Path)
		body, want := "", []string{r.Scope}
		switch {
		case strings.HasPrefix(r.Path, "/v1/jobs"): // whoever runs something
			want = []string{"run:app.x", "run:web.x"}
		case strings.HasPrefix(r.Scope, "run:"): // the handler says which
			body, want = `{"action":"app.x","on":{"all":true}}`, []string{"run:app.x"}
		case strings.Contains(r.Path, "{name}"):
			want = []string{muster.ScopeRead, "run:app.x"}
		}
		none, garbage := ask(t, r.Method, url, "", body), ask(t, r.Method, url, "mk_bad", body)
		if r.Scope == muster.ScopePublic {
			if none.code == 401 || none.code == 403 {
				t.Errorf("%s is public but answers %d", name, none.code)
			}
			continue
		}
		if none.code != 401 || !strings.Contains(none.body, "API key required") {
			t.Errorf("%s without a key: %d %s", name, none.code, none.body)
		}
		if garbage.code != 401 || !strings.Contains(garbage.body, "Invalid API key") {
			t.Errorf("%s with a bad key: %d %s", name, garbage.code, garbage.body)
		}
		if got := ask(t, r.Method, url, "forged", body); got.code != 401 {
			t.Errorf("%s with a forged signature: %d %s", name, got.code, got.body)
		}
		for _, scope := range scopes() {
			may := slices.ContainsFunc(want, (muster.Rights{Principal: "key:1", Scopes: []string{scope}}).May)
			if got := ask(t, r.Method, url, "mk_"+scope, body); got.code == 401 || (got.code == 403) == may {
				t.Errorf("%s with %s: %d %s", name, scope, got.code, got.body)
			}
		}
		if got := ask(t, r.Method, url, "a.node.token", body); r.Scope == muster.ScopeNode && (got.code == 401 || got.code == 403 && r.Path != api.PathJoin) {
			t.Errorf("%s by a node: %d %s", name, got.code, got.body)
		}
	}
	if got := ask(t, "GET", base+api.PathReadIndex, "mk_node", ""); got.code != 403 {
		t.Errorf("a key with the scope node: %d", got.code)
	}
}

func TestWhatAHandlerKeepsStaysAsItWas(t *testing.T) {
	h := &house{}
	base, _ := serve(t, h)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	want := make([]string, 0, 50)
	for i := range 50 { // over one connection, whose buffer is used again
		body := fmt.Sprintf(`{"n":%d,"pad":%q}`, i, strings.Repeat("x", 500-i))
		want = append(want, body)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+api.PathApply, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer a.node.token")
		got, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, got.Body)
		_ = got.Body.Close()
	}
	for i, command := range h.commands {
		if string(command) != want[i] {
			t.Fatalf("command %d became %q", i, command)
		}
	}
}

func TestBadRequestsAreRefusedWithTheirReason(t *testing.T) {
	base, _ := serve(t, &house{nodes: []muster.Node{{ID: "1", Slug: "a"}}})
	good := `{"name":"shop","slug":"shop","url":"http://127.0.0.1:9/x"}`
	for _, c := range []struct {
		name, method, path, body string
		header                   []string
		code                     int
		says                     string
	}{
		{"good", "POST", "/v1/nodes", good, nil, 201, "mk_once"},
		{"charset", "POST", "/v1/nodes", good, []string{"Content-Type", `Application/JSON;charset="UTF-8"`}, 201, ""},
		{"another charset", "POST", "/v1/nodes", good, []string{"Content-Type", "application/json; charset=utf-16"}, 415, "hint"},
		{"a form", "POST", "/v1/nodes", good, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "hint"},
		{"plain text", "POST", "/v1/nodes", good, []string{"Content-Type", "text/plain"}, 415, "hint"},
		{"no body", "POST", "/v1/nodes", "", nil, 400, "empty"},
		{"too large", "POST", "/v1/nodes", `{"name":"` + strings.Repeat("x", 1<<20) + `"}`, nil, 413, "over"},
		{"far too large", "POST", "/v1/nodes", strings.Repeat("x", 20<<20), nil, 413, "over"},
		{"master", "POST", "/v1/nodes", `{"name":"a","url":"http://h/","type":"master"}`, nil, 422, "elects"},
		{"metadata address", "POST", "/v1/nodes", `{"name":"a","url":"http://169.254.169.254/"}`, nil, 422, `"url"`},
		{"no scheme", "POST", "/v1/nodes", `{"name":"a","url":"h:1"}`, nil, 422, `"url"`},
		{"bad slug", "POST", "/v1/nodes", `{"name":"a","url":"http://h/","slug":"A_b"}`, nil, 422, `"slug"`},
		{"no scopes", "POST", "/v1/keys", `{"name":"k","scopes":[]}`, nil, 422, `"scopes"`},
		{"a node's scope", "POST", "/v1/keys", `{"name":"k","scopes":["node"]}`, nil, 422, `"scopes"`},
		{"for ever", "POST", "/v1/keys", `{"name":"k","scopes":["read"],"expires_in":"99999999h"}`, nil, 422, `"expires_in"`},
		{"misspelt", "POST", "/v1/keys", `{"name":"k","scopes":["read"],"expiresIn":"1h"}`, nil, 422, "expiresIn"},
		{"limit", "GET", "/v1/nodes?limit=0", "", nil, 422, `"limit"`},
		{"unknown filter", "GET", "/v1/nodes?helthy=true", "", nil, 422, "helthy"},
		{"consistency", "GET", "/v1/nodes?consistency=strong", "", nil, 422, `"consistency"`},
		{"status", "GET", "/v1/nodes?status=dead", "", nil, 422, `"status"`},
		{"type", "GET", "/v1/nodes?type=slave", "", nil, 422, `"type"`},
		{"healthy", "GET", "/v1/nodes?healthy=1", "", nil, 422, `"healthy"`},
		{"index", "GET", "/v1/nodes?min_index=x", "", nil, 422, `"min_index"`},
		{"no index", "GET", "/v1/nodes?min_index=", "", nil, 422, `"min_index"`},
		{"twice", "GET", "/v1/nodes?limit=1&limit=2", "", nil, 422, `"limit"`},
		{"ready for what", "GET", "/readyz?for=read", "", nil, 422, `"for"`},
		{"what is not a query", "GET", "/v1/nodes?%zz", "", nil, 400, "query string"},
		{"a long key", "POST", "/v1/nodes", good, []string{"Idempotency-Key", strings.Repeat("k", 256)}, 422, `"Idempotency-Key"`},
		{"the longest key", "POST", "/v1/nodes", good, []string{"Idempotency-Key", strings.Repeat("k", 255)}, 201, ""},
		{"a key of bytes", "POST", "/v1/nodes", good, []string{"Idempotency-Key", "a\xffb"}, 422, `"Idempotency-Key"`},
		{"a key with a tab", "POST", "/v1/nodes", good, []string{"Idempotency-Key", "a\tb"}, 422, `"Idempotency-Key"`},
		{"a name with a bell", "POST", "/v1/nodes", `{"name":"a\u0007","slug":"a","url":"http://h/"}`, nil, 422, `"name"`},
		{"a name that turns", "POST", "/v1/nodes", `{"name":"a\u202eb","slug":"a","url":"http://h/"}`, nil, 422, `"name"`},
		{"a version with a line", "POST", "/v1/nodes", `{"name":"a","url":"http://h/","version":"1\n2"}`, nil, 422, `"version"`},
		{"a long description", "POST", "/v1/nodes", `{"name":"a","url":"http://h/","description":"` + strings.Repeat("x", 4097) + `"}`, nil, 422, `"description"`},
		{"an escape", "POST", "/v1/nodes", `{"name":"a","url":"http://h/","description":"\u001b[2J"}`, nil, 422, `"description"`},
		{"a key's name", "POST", "/v1/keys", `{"name":"k\u0000","scopes":["read"]}`, nil, 422, `"name"`},
		{"a risk", "POST", "/v1/keys", `{"name":"k","scopes":["read"],"max_risk":"huge"}`, nil, 422, `"max_risk"`},
		{"targets", "POST", "/v1/keys", `{"name":"k","scopes":["read"],"targets":"env=prod && zone in (a,b)"}`, nil, 201, ""},
		{"no condition", "POST", "/v1/keys", `{"name":"k","scopes":["read"],"targets":"env"}`, nil, 422, `"targets"`},
		{"no targets", "POST", "/v1/keys", `{"name":"k","scopes":["read"],"targets":""}`, nil, 422, `"targets"`},
		{"long targets", "POST", "/v1/keys", `{"name":"k","scopes":["read"],"targets":"a=` + strings.Repeat("b", 1024) + `"}`, nil, 422, `"targets"`},
		{"a filter", "POST", "/v1/keys", `{"name":"k","scopes":["read"],"filter":{"a":1,"b":["c","d"]}}`, nil, 201, ""},
		{"a range", "POST", "/v1/keys", `{"name":"k","scopes":["read"],"filter":{"a":{"gt":1}}}`, nil, 422, "not supported yet"},
		{"an empty filter", "POST", "/v1/keys", `{"name":"k","scopes":["read"],"filter":{}}`, nil, 422, `"filter"`},
		{"a filter of nothing", "POST", "/v1/keys", `{"name":"k","scopes":["read"],"filter":{"a":[]}}`, nil, 422, `"filter"`},
		{"a filter of null", "POST", "/v1/keys", `{"name":"k","scopes":["read"],"filter":{"a":null}}`, nil, 422, `"filter"`},
		{"a long filter", "POST", "/v1/keys", `{"name":"k","scopes":["read"],"filter":{"a":"` + strings.Repeat("b", 1024) + `"}}`, nil, 422, `"filter"`},
		{"long scopes", "POST", "/v1/keys", `{"name":"k","scopes":["run:` + strings.Repeat("b", 2048) + `"]}`, nil, 422, `"scopes"`},
		{"no end", "POST", "/v1/keys", `{"name":"k","scopes":["read"],"expires_in":""}`, nil, 422, `"expires_in"`},
		{"no overlap", "POST", "/v1/keys/k/rotate", `{"overlap":""}`, nil, 422, `"overlap"`},
		{"overlap below 0", "POST", "/v1/nodes/a/key", `{"overlap":"-1s"}`, nil, 422, `"overlap"`},
		{"the key of nobody", "POST", "/v1/nodes/nobody/key", "", nil, 404, "nobody"},
		{"no duration", "GET", "/v1/nodes", "", []string{"X-Muster-Timeout-Ms", "soon"}, 422, `"X-Muster-Timeout-Ms"`},
		{"a search", "GET", "/v1/search?q=a&limit=x", "", nil, 422, `"limit"`},
		{"another search", "GET", "/v1/search?q=a&local=perhaps", "", nil, 422, `"local"`},
		{"a cached search", "GET", "/v1/search?q=a&cache=perhaps", "", nil, 422, `"cache"`},
		{"which collection", "DELETE", "/v1/documents", "", nil, 422, `"collection"`},
		{"such node", "GET", "/v1/nodes/a?min_index=1&consistency=linearizable", "", nil, 200, `"a"`},
		{"no such node", "GET", "/v1/nodes/nobody", "", nil, 404, "nobody"},
		{"no such path", "GET", "/v2/nodes", "", nil, 404, "/v2/nodes"},
		{"another method", "PUT", "/v1/nodes", "", nil, 405, `"Method Not Allowed"`},
		{"nothing to say", "POST", "/v1/nodes/a/restore", `{}`, nil, 200, ""},
		{"a restore that says more", "POST", "/v1/nodes/a/restore", `{"slug":"b"}`, nil, 422, `"slug"`},
		{"a removal that says more", "DELETE", "/v1/nodes/a", `{"force":true}`, nil, 422, `"force"`},
		{"a list with a body", "GET", "/v1/nodes", `{"status":"error"}`, nil, 422, `"status"`},
		{"a rebuild that says more", "POST", "/v1/index/rebuild", `{"now":true}`, nil, 422, `"now"`},
	} {
		got := ask(t, c.method, base+c.path, "mk_admin", c.body, c.header...)
		if got.code != c.code || !strings.Contains(got.body, c.says) {
			t.Errorf("%s: %d %s", c.name, got.code, got.body)
		}
		if got.code == 405 && got.header.Get("Allow") != "GET, POST" {
			t.Errorf("Allow: %q", got.header.Get("Allow"))
		}
	}
}

func TestAServerIsAskedAsHTTPAllows(t *testing.T) {
	base, _ := serve(t, &house{nodes: []muster.Node{{ID: "1", Slug: "a", Weight: 2}}})
	for path, code := range map[string]int{"/healthz": 200, "/readyz": 200, "/api/ai-engine/health": 200, "/v1/nodes": 405} {
		if got := ask(t, http.MethodHead, base+path, "mk_admin", ""); got.code != code || got.body != "" {
			t.Errorf("HEAD %s: %d %q", path, got.code, got.body)
		}
	}
	for header, code := range map[string]int{"bearer mk_admin": 200, "BEARER  mk_admin": 200, "Bearer": 401, "Basic mk_admin": 401, "Bearermk_admin": 401} {
		if got := ask(t, http.MethodGet, base+"/v1/nodes", "", "", "Authorization", header); got.code != code {
			t.Errorf("%s: %d %s", header, got.code, got.body)
		}
	}
	got := ask(t, http.MethodGet, base+"/api/ai-engine/status", "mk_admin", "")
	if !strings.Contains(got.body, `"load":{"active_requests":1,"weight":2}`) {
		t.Errorf("the status tells no load: %s", got.body)
	}
}

func TestARequestThatDoesNotSayTakesTheUsualTimeAtMost(t *testing.T) {
	h := &stuck{house: &house{nodes: []muster.Node{{ID: "1", Slug: "a"}}}}
	base, _ := serve(t, h.house, func(c *httpserver.Config) { c.Cluster, c.Usual = h, 3*time.Second })
	for path, header := range map[string][]string{"/v1/nodes?min_index=9": nil, "/v1/stats?min_index=9": {"X-Muster-Timeout-Ms", "7000"}} {
		if got := ask(t, http.MethodGet, base+path, "mk_admin", "", header...); got.code != 504 {
			t.Fatalf("%d %s", got.code, got.body)
		}
		want := 3 * time.Second
		if header != nil {
			want = 7 * time.Second
		}
		if h.given < want-time.Second || h.given > want {
			t.Errorf("%s had %v, not %v", path, h.given, want)
		}
	}
}

// stuck is a copy of the registry that does not go on.
type stuck struct {
	*house

	given time.Duration // until the deadline
}

func (s *stuck) WaitIndex(ctx context.Context, _ uint64) error {
	end, _ := ctx.Deadline()
	s.given = time.Until(end)
	return context.DeadlineExceeded
}

func TestNoWayLeadsToLoopbackFromOtherMachines(t *testing.T) {
	for _, distant := range []bool{false, true} {
		base, _ := serve(t, &house{nodes: []muster.Node{{ID: "1", Slug: "a"}}}, func(c *httpserver.Config) { c.Distant = distant })
		for _, c := range []struct{ method, path, body string }{
			{"POST", "/v1/nodes", `{"name":"b","slug":"b","url":"http://localhost:9"}`},
			{"PATCH", "/v1/nodes/a", `{"url":"http://127.0.0.1:9"}`},
			{"POST", "/v1/nodes/sync", `{"nodes":[{"name":"b","url":"http://[::1]:9"}]}`},
		} {
			got := ask(t, c.method, base+c.path, "mk_admin", c.body)
			if strings.Contains(got.body, "must not lead to loopback") != distant {
				t.Errorf("distant %v: %s %s: %d %s", distant, c.method, c.path, got.code, got.body)
			}
		}
	}
}

func TestAnIDInAPathArrivesByteForByte(t *testing.T) {
	base, _ := serve(t, &house{})
	for _, id := range []string{"a/b", "%2F", "..", ".", "a//b", "a+b", "x ", "\\", `"q"`, "日本", "https://e.org/p?q=1#f"} {
		path := strings.ReplaceAll(url.PathEscape(id), ".", "%2E")
		got := ask(t, "GET", base+"/v1/documents/"+path+"?collection=c", "mk_index", "")
		var d muster.Document
		if err := json.Unmarshal([]byte(got.body), &d); err != nil || d.ID != id || d.Collection != "c" {
			t.Errorf("%q: %d %s", id, got.code, got.body)
		}
	}
	body := strings.Repeat("{\"id\":\"1\"}\n", 200_000) // over the limit of other routes
	if got := ask(t, "POST", base+"/v1/documents", "mk_index", body, "Content-Type", api.MediaNDJSON); !strings.Contains(got.body, "200000") {
		t.Errorf("%d %s", got.code, got.body)
	}
	if got := ask(t, "POST", base+"/v1/documents", "mk_index", "{}"); got.code != 415 {
		t.Errorf("as JSON: %d", got.code)
	}
}

func TestARequestKeepsItsIDAndIsRecorded(t *testing.T) {
	h := &house{nodes: []muster.Node{{ID: "1", Slug: "a"}}}
	base, _ := serve(t, h)
	if got := ask(t, "GET", base+"/v1/nodes/a", "mk_read", "", "X-Request-Id", "r-1"); got.header.Get("X-Request-Id") != "r-1" || got.header.Get("X-Muster-Node") != "a" {
		t.Fatalf("%v", got.header)
	}
	if got := ask(t, "GET", base+"/healthz", "", "", "X-Request-Id", strings.Repeat("x", 500)); len(got.header.Get("X-Request-Id")) != 36 {
		t.Fatalf("%v", got.header)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.calls) != 2 || h.calls[0].RequestID != "r-1" || h.calls[0].Caller != "key:1" || h.calls[0].Status != 200 {
		t.Fatalf("%+v", h.calls)
	}
}

func TestPagesShowEveryNodeOnce(t *testing.T) {
	h := &house{}
	want := make([]string, 0, 12)
	for _, slug := range []string{"a", "a-b", "a-b-c", "a0", "ab", "b"} {
		for _, id := range []string{"1", "2"} { // a slug may be used again after a node is gone
			h.nodes = append(h.nodes, muster.Node{ID: slug + id, Slug: slug})
			want = append(want, slug+id)
		}
	}
	base, _ := serve(t, h)
	for limit := 1; limit <= len(want)+1; limit++ {
		var got []string
		for cursor := ""; ; {
			var page api.Nodes
			a := ask(t, "GET", fmt.Sprintf("%s/v1/nodes?limit=%d&cursor=%s", base, limit, url.QueryEscape(cursor)), "mk_read", "")
			if err := json.Unmarshal([]byte(a.body), &page); err != nil || page.Total != len(want) {
				t.Fatalf("%v %s", err, a.body)
			}
			for _, n := range page.Nodes {
				got = append(got, n.ID)
			}
			if cursor = page.Cursor; cursor == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %v", limit, got)
		}
	}
}
