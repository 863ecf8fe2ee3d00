package daemon_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"muster"
	"muster/httpserver/api"
)

// app is an application that is a node: a real server of the node protocol,
// whose answers a test may change.
type app struct {
	*httptest.Server

	mu      sync.Mutex
	health  string            // guarded by mu
	search  string            // guarded by mu; empty: 500
	actions string            // guarded by mu
	status  int               // guarded by mu: of search and actions, if not 200
	asked   []string          // guarded by mu: method and path of each request
	bearer  map[string]string // guarded by mu: Authorization by path
	bodies  map[string]string // guarded by mu: the last by path
	headers http.Header       // guarded by mu: of the last search
}

func newApp(t *testing.T) *app {
	t.Helper()
	a := &app{
		health: `{"status":"healthy","ready":true,"version":"3.1","capabilities":["search","actions"]}`,
		search: `{"results":[]}`, actions: `{"success":true,"result":{"done":1}}`,
		bearer: map[string]string{}, bodies: map[string]string{},
	}
	a.Server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.Close)
	return a
}

func (a *app) serve(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	name := strings.TrimPrefix(r.URL.Path, "/shop/api/ai-engine/")
	a.asked = append(a.asked, r.Method+" "+r.URL.Path)
	a.bearer[name], a.bodies[name] = r.Header.Get("Authorization"), string(raw)
	answer := map[string]string{"health": a.health, "search": a.search, "actions": a.actions}[name]
	if name == "search" {
		a.headers = r.Header
	}
	switch {
	case name != "health" && a.status != 0:
		w.WriteHeader(a.status)
	case answer == "":
		w.WriteHeader(http.StatusInternalServerError)
	}
	_, _ = io.WriteString(w, answer)
}

func (a *app) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

func (a *app) count(what string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, asked := range a.asked {
		if strings.HasSuffix(asked, what) {
			n++
		}
	}
	return n
}

func (a *app) register(t *testing.T, o *one, g muster.Registration) muster.Registered {
	t.Helper()
	g.Name, g.URL = "Shop", a.URL+"/shop/"
	r, err := o.op.Register(t.Context(), g, "k")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (o *one) shop(t *testing.T) muster.Node {
	t.Helper()
	n, err := o.op.Node(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCallsToAnApplicationAreRowsOfItsNodeAndMakeItsSuccessRate(t *testing.T) {
	a := raise(t, t.TempDir(), "a")
	shop := newApp(t)
	key := *shop.register(t, a, muster.Registration{}).APIKey
	until(t, "healthy", func() bool { return a.shop(t).Healthy })
	if _, err := a.op.Search(t.Context(), muster.Query{Text: "rain", Limit: 1}); err != nil {
		t.Fatal(err)
	}
	shop.set(func() { shop.health = "" }) // 500
	if _, err := a.op.Ping(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	kinds := func() map[string]string {
		page, err := a.op.Requests(t.Context(), api.RequestFilter{Node: "shop"})
		if err != nil {
			t.Fatal(err)
		}
		by := map[string]string{}
		for _, row := range page.Requests {
			if row.NodeID != a.shop(t).ID || row.Node != "shop" || row.Direction != "out" {
				t.Fatalf("%+v", row)
			}
			by[row.RequestType] = row.Caller
		}
		return by
	}
	until(t, "a search and pings", func() bool { return len(kinds()) == 2 })
	if by := kinds(); by[api.TypeSearch] != "operator" || !strings.HasPrefix(by[api.TypePing], "node:") {
		t.Errorf("asked by %v", by)
	}
	own := &api.Client{Addrs: []string{a.base}, Key: key}
	until(t, "a success rate", func() bool {
		var said struct {
			Health struct {
				SuccessRate *float64 `json:"success_rate"`
			} `json:"health"`
		}
		err := own.Do(t.Context(), http.MethodGet, "/api/ai-engine/status", nil, &said)
		return err == nil && said.Health.SuccessRate != nil && *said.Health.SuccessRate > 0 && *said.Health.SuccessRate < 100
	})
}

func TestAnApplicationIsPingedWhenItIsRegisteredAndWhenSomebodyAsks(t *testing.T) {
	dir := t.TempDir()
	a := raise(t, dir, "a")
	b := raise(t, dir, "b", a.gossip)
	shop := newApp(t)
	shop.register(t, b, muster.Registration{})
	for _, o := range []*one{a, b} {
		until(t, "healthy at both", func() bool { n := o.shop(t); return n.Healthy && n.Version == "3.1" })
	}
	shop.set(func() { shop.health = `{"status":"unhealthy","ready":false}` })
	var last muster.Pings
	for range 3 {
		pings, err := b.op.Ping(t.Context(), "shop") // b follows: the master pings, and b knows it when it answers
		if err != nil {
			t.Fatal(err)
		}
		last = pings
	}
	got := last.Results["shop"]
	if last.Failed != 1 || got.Status != muster.StatusError || !strings.Contains(got.Error, "not ready") {
		t.Fatalf("%+v", last)
	}
	if n := b.shop(t); n.Status != muster.StatusError || n.Healthy {
		t.Fatalf("%+v", n)
	}
	shop.set(func() { shop.health = `{"status":"healthy"}` })
	pings, err := b.op.Ping(t.Context(), "")
	if err != nil || pings.Total != 3 || pings.Healthy != 3 {
		t.Fatalf("%+v %v", pings, err)
	}
	n := b.shop(t)
	if !n.Healthy || n.PingFailures != 0 || n.Version != "3.1" || n.AvgResponseTime == nil {
		t.Fatalf("%+v", n)
	}
	if shop.count("GET /shop/api/ai-engine/health") < 5 {
		t.Fatalf("asked for %v", shop.asked)
	}
	if _, err := b.op.Ping(t.Context(), "nobody"); muster.KindOf(err) != muster.NotFound {
		t.Fatal(err)
	}
}

func TestACredentialGoesToItsApplicationOnlyAndIsFoundNowhere(t *testing.T) {
	dir := t.TempDir()
	o := raise(t, dir, "a")
	shop := newApp(t)
	const given = "canary-credential-7f3a9c"
	r := shop.register(t, o, muster.Registration{Credential: given})
	if r.Credential != nil {
		t.Fatal("a credential that was given is shown")
	}
	until(t, "a ping", func() bool { return o.shop(t).Healthy })
	if _, err := o.op.Run(t.Context(), muster.Run{Action: "app.x", On: muster.Selector{Nodes: &[]string{"shop"}}}); err != nil {
		t.Fatal(err)
	}
	shop.mu.Lock()
	health, actions := shop.bearer["health"], shop.bearer["actions"]
	shop.mu.Unlock()
	if health != "" || actions != "Bearer "+given {
		t.Fatalf("sent %q with health, %q with actions", health, actions)
	}
	raw, err := json.Marshal(o.shop(t))
	if err != nil || strings.Contains(string(raw), given) {
		t.Fatal(string(raw), err)
	}
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(raw), given) {
			t.Errorf("%s holds the credential", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestACredentialThatIsMadeIsShownOnceAndUsed(t *testing.T) {
	o := raise(t, t.TempDir(), "a")
	shop := newApp(t)
	r := shop.register(t, o, muster.Registration{})
	if r.Credential == nil || r.APIKey == nil || *r.Credential == *r.APIKey {
		t.Fatalf("%+v", r)
	}
	if again := shop.register(t, o, muster.Registration{}); again.Credential == nil || *again.Credential != *r.Credential {
		t.Fatalf("the same request gets another answer: %+v", again)
	}
	if _, err := o.op.Run(t.Context(), muster.Run{Action: "app.x", On: muster.Selector{Nodes: &[]string{"shop"}}}); err != nil {
		t.Fatal(err)
	}
	shop.mu.Lock()
	defer shop.mu.Unlock()
	if shop.bearer["actions"] != "Bearer "+*r.Credential {
		t.Fatalf("sent %q", shop.bearer["actions"])
	}
}

func (o *one) find(t *testing.T, text string) muster.Answer {
	t.Helper()
	a, err := o.op.Search(t.Context(), muster.Query{Text: text})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func ofShop(a muster.Answer) (r muster.NodeReport) {
	for _, r = range a.Nodes {
		if r.Node == "shop" {
			return r
		}
	}
	return muster.NodeReport{Node: "shop", Status: "not there"}
}

func TestAnApplicationIsFoundInFromAnyNode(t *testing.T) {
	dir := t.TempDir()
	a := raise(t, dir, "a")
	b := raise(t, dir, "b", a.gossip)
	docs := `{"id":"1","title":"Plum jam","content":"Boil plums with sugar."}` + "\n" + `{"id":"2","title":"Bread","content":"Flour and water."}` + "\n"
	if _, err := a.op.AddDocuments(t.Context(), "", []byte(docs)); err != nil {
		t.Fatal(err)
	}
	shop := newApp(t)
	shop.set(func() {
		shop.search = `{"results":[{"id":7,"title":"Fork","content":"Not for plums alone, for pears and for bread, too."},
			{"id":"p","title":"Plum jam","content":"A jar of plum jam, of plums."}],"total_results":31}`
	})
	shop.register(t, a, muster.Registration{Credential: "to-the-shop"})
	for _, o := range []*one{a, b} {
		until(t, "both nodes know the shop", func() bool { return o.shop(t).Healthy })
		got := o.find(t, "plum jam")
		ids := make([]string, 0, 3)
		for _, h := range got.Results {
			ids = append(ids, h.SourceNode+"/"+h.ID)
		}
		r := ofShop(got)
		if strings.Join(ids, " ") != "shop/p a/1 shop/7" && strings.Join(ids, " ") != "a/1 shop/p shop/7" {
			t.Errorf("%v", ids)
		}
		if got.Merge != "rescore" || r.Status != "ok" || r.Merge != "rescore" || r.Matched != 31 || got.Partial || got.Coverage != 1 {
			t.Errorf("%+v", got)
		}
	}
	shop.mu.Lock()
	if shop.bearer["search"] != "Bearer to-the-shop" || shop.headers.Get("X-Muster-Timeout-Ms") == "" ||
		!strings.Contains(shop.bodies["search"], `"query":"plum jam","limit":10`) {
		t.Errorf("asked %s with %v", shop.bodies["search"], shop.headers)
	}
	shop.mu.Unlock()
	shop.set(func() { shop.search = `<html>` })
	got := b.find(t, "plum jam")
	if r := ofShop(got); r.Status != "failed" || !strings.Contains(r.Error, "node protocol") || !got.Partial || got.Count != 1 {
		t.Errorf("%+v", got)
	}
}

func TestAnApplicationThatFailsIsLeftAloneForAWhileAndThatIsSaid(t *testing.T) {
	o := raise(t, t.TempDir(), "a")
	shop := newApp(t)
	shop.register(t, o, muster.Registration{})
	until(t, "a ping", func() bool { return o.shop(t).Healthy })
	if c := o.shop(t).Circuit; c == nil || c.State != "closed" {
		t.Fatalf("%+v", c)
	}
	shop.set(func() { shop.status = http.StatusUnprocessableEntity })
	for range 6 {
		if r := ofShop(o.find(t, "plum")); r.Status != "failed" {
			t.Fatalf("%+v", r)
		}
	}
	shop.set(func() { shop.status = http.StatusInternalServerError })
	before := shop.count("search")
	for range 5 {
		o.find(t, "plum")
	}
	a := o.find(t, "plum")
	if r := ofShop(a); r.Status != "circuit_open" || r.Error == "" || !a.Partial {
		t.Fatalf("%+v", a)
	}
	if n := shop.count("search") - before; n != 5 {
		t.Fatalf("asked %d times", n)
	}
	if c := o.shop(t).Circuit; c.State != "open" || c.Failures != 5 || c.RetryAt == nil {
		t.Fatalf("%+v", c)
	}
	run, err := o.op.Run(t.Context(), muster.Run{Action: "app.x", On: muster.Selector{Nodes: &[]string{"shop"}}})
	if r := run.Results["shop"]; err != nil || r.State != muster.StateSkipped || r.Error.Code != "circuit_open" {
		t.Fatalf("%+v %v", run, err)
	}
	if s, err := o.op.Status(t.Context()); err != nil || s.Circuit == nil || s.Circuit.State != "closed" {
		t.Fatalf("%+v %v", s.Circuit, err)
	}
}

func TestAnUnknownActionIsNoFailureOfItsNode(t *testing.T) {
	o := raise(t, t.TempDir(), "a")
	shop := newApp(t)
	shop.set(func() {
		shop.status, shop.actions = http.StatusBadRequest, `{"success":false,"error":"unknown action"}`
	})
	shop.register(t, o, muster.Registration{Capabilities: []muster.Capability{"search", "actions"}})
	for range 7 {
		run, err := o.op.Run(t.Context(), muster.Run{Action: "app.none", On: muster.Selector{Nodes: &[]string{"shop"}}})
		if r := run.Results["shop"]; err != nil || r.State != muster.StateInvalid || run.FailureCount != 1 {
			t.Fatalf("%+v %v", run, err)
		}
	}
	if c := o.shop(t).Circuit; c == nil || c.State != "closed" || c.Failures != 0 || o.shop(t).Status != muster.StatusActive {
		t.Errorf("%+v", o.shop(t))
	}
}

func TestAnApplicationsOwnWordOnAnActionReachesTheCaller(t *testing.T) {
	o := raise(t, t.TempDir(), "a")
	shop := newApp(t)
	shop.set(func() { shop.actions = `{"success":false,"error":{"code":"full","message":"no room"}}` })
	shop.register(t, o, muster.Registration{Capabilities: []muster.Capability{"search", "actions"}})
	run, err := o.op.Run(t.Context(), muster.Run{
		Action: "app.put", Params: muster.Params{"n": []byte("1")}, On: muster.Selector{Nodes: &[]string{"shop"}},
	})
	if r := run.Results["shop"]; err != nil || r.State != muster.StateFailed || r.Error.Code != "full" || r.NodeName != "Shop" {
		t.Fatalf("%+v %v", run, err)
	}
	shop.mu.Lock()
	defer shop.mu.Unlock()
	if shop.bodies["actions"] != `{"action":"app.put","params":{"n":1}}` {
		t.Fatal(shop.bodies["actions"])
	}
}

func TestTheMetricsTellHowTheCircuitsStandAndForgetThoseThatAreGone(t *testing.T) {
	o := raise(t, t.TempDir(), "a")
	shop := newApp(t)
	shop.register(t, o, muster.Registration{})
	until(t, "healthy", func() bool { return o.shop(t).Healthy })
	told := func() (lines []string) {
		code, text := o.ask(t, call{"GET", "/metrics", ""}, o.operator(t, call{"GET", "/metrics", ""}))
		if code != http.StatusOK {
			t.Fatal(code, text)
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "muster_circuit") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		return lines
	}
	expect := func(when string, want ...string) {
		t.Helper()
		if got := told(); !slices.Equal(got, want) {
			t.Errorf("%s: %q", when, got)
		}
	}
	expect("at first", `muster_circuits{state="closed"} 1`, `muster_circuits{state="half_open"} 0`, `muster_circuits{state="open"} 0`)
	shop.set(func() { shop.status = http.StatusInternalServerError })
	for range 5 {
		o.find(t, "plum")
	}
	expect("after five failures", `muster_circuit_not_closed{node="shop"} 1`,
		`muster_circuits{state="closed"} 0`, `muster_circuits{state="half_open"} 0`, `muster_circuits{state="open"} 1`)
	if _, err := o.op.DeleteNode(t.Context(), "shop", 0); err != nil {
		t.Fatal(err)
	}
	expect("without it", `muster_circuits{state="closed"} 0`, `muster_circuits{state="half_open"} 0`, `muster_circuits{state="open"} 0`)
}

func TestAChangedCredentialIsSentFromThenOnAndShownToNobody(t *testing.T) {
	dir := t.TempDir()
	a := raise(t, dir, "a")
	b := raise(t, dir, "b", a.gossip)
	shop := newApp(t)
	shop.register(t, a, muster.Registration{Credential: "the-first"})
	change := func(slug, text string) (muster.Node, error) {
		return b.op.UpdateNode(t.Context(), slug, 0, api.NodePatch{Credential: &text}) // b follows
	}
	n, err := change("shop", "the-second")
	if err != nil || n.Slug != "shop" {
		t.Fatal(n, err)
	}
	for _, o := range []*one{a, b} {
		until(t, "asked with the second", func() bool {
			o.find(t, "plum")
			shop.mu.Lock()
			defer shop.mu.Unlock()
			return shop.bearer["search"] == "Bearer the-second"
		})
	}
	for _, path := range []string{"/v1/nodes/shop", "/v1/requests?limit=100"} {
		c := call{"GET", path, ""}
		if _, text := b.ask(t, c, b.operator(t, c)); strings.Contains(text, "the-second") {
			t.Errorf("%s shows it: %s", path, text)
		}
	}
	for slug, text := range map[string]string{"shop": "two words", "a": "for-an-agent"} {
		if _, err := change(slug, text); muster.KindOf(err) != muster.Invalid || !namesField(err, "credential") {
			t.Errorf("%s: %v", slug, err)
		}
	}
	if _, err := change("shop", ""); muster.KindOf(err) != muster.Invalid {
		t.Error("an empty one:", err)
	}
	if n, err := b.op.UpdateNode(t.Context(), "shop", 0, api.NodePatch{NodeChange: muster.NodeChange{Description: new("sells"), Capabilities: &[]muster.Capability{}}}); err != nil ||
		n.Description != "sells" || len(n.Capabilities) != 0 {
		t.Errorf("without capabilities: %+v %v", n, err)
	}
	if n, err := b.op.UpdateNode(t.Context(), "shop", 0, api.NodePatch{NodeChange: muster.NodeChange{Description: new("")}}); err != nil || n.Description != "" {
		t.Errorf("without a description: %+v %v", n, err)
	}
	if _, err := change("nobody", "x"); muster.KindOf(err) != muster.NotFound {
		t.Error("of nobody:", err)
	}
}

func namesField(err error, field string) bool {
	e, ok := errors.AsType[*muster.Error](err)
	return ok && len(e.Fields[field]) > 0
}
