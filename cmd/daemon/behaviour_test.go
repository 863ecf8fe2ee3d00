package daemon_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"muster"
	"muster/httpserver/api"
)

func TestARegistrationHasItsDefaultsAndStandsThoughItsPingFails(t *testing.T) {
	o := raise(t, t.TempDir(), "a")
	done, err := o.op.Register(t.Context(), muster.Registration{Name: "My Shop", URL: "http://127.0.0.1:9"}, "")
	if err != nil || done.APIKey == nil {
		t.Fatal(done, err)
	}
	n := done.Node
	if n.Slug != "my-shop" || n.Type != muster.TypeChild || n.Version != "1.0.0" || n.Status != muster.StatusActive || n.Weight != 1 || n.Healthy ||
		!slices.Equal(n.Capabilities, []muster.Capability{muster.CapSearch, muster.CapActions}) {
		t.Errorf("%+v", n)
	}
	pings, err := o.op.Ping(t.Context(), "my-shop")
	if err != nil || pings.Failed != 1 {
		t.Fatal(pings, err)
	}
	if n, err = o.op.Node(t.Context(), "my-shop"); err != nil || n.Status != muster.StatusActive || n.Healthy || n.LastPingAt != nil {
		t.Errorf("after a ping that failed: %+v %v", n, err)
	}
	for _, again := range []muster.Registration{{Name: "MY SHOP", URL: "http://127.0.0.1:9"}, {Name: "other", Slug: "my-shop", URL: "http://127.0.0.1:9"}} {
		if _, err := o.op.Register(t.Context(), again, ""); muster.KindOf(err) != muster.Conflict {
			t.Errorf("%+v: %v", again, err)
		}
	}
	for _, path := range []string{"/v1/nodes", "/v1/nodes/my-shop"} {
		c := call{"GET", path, ""}
		if _, text := o.ask(t, c, o.operator(t, c)); strings.Contains(text, *done.APIKey) || strings.Contains(text, "api_key") || strings.Contains(text, "credential") {
			t.Errorf("%s shows a secret: %s", path, text)
		}
	}
}

func TestAKeyInTheQueryStringOpensNothing(t *testing.T) {
	o := raise(t, t.TempDir(), "a")
	key := *o.key(t, "read", "").Plain
	for _, name := range []string{"api_key", "key", "token", "access_token"} {
		if code, body := o.ask(t, call{"GET", "/v1/nodes?" + name + "=" + key, ""}, ""); code != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, code, body)
		}
		if code, body := o.ask(t, call{"GET", "/v1/nodes?" + name + "=" + key, ""}, key); code != http.StatusUnprocessableEntity || strings.Contains(body, key) {
			t.Errorf("%s beside a good header: %d %s", name, code, body)
		}
	}
}

func TestASearchIsHeldToItsLimitsAndNamesWhatItCannotAsk(t *testing.T) {
	o := raise(t, t.TempDir(), "a")
	if _, err := o.op.Register(t.Context(), muster.Registration{Name: "doer", URL: "http://127.0.0.1:9", Capabilities: []muster.Capability{muster.CapActions}}, ""); err != nil {
		t.Fatal(err)
	}
	docs := ""
	for i := range 3 {
		docs += fmt.Sprintf("{\"id\":\"%d\",\"content\":\"rain number %d\"}\n", i, i)
	}
	if _, err := o.op.AddDocuments(t.Context(), "", []byte(docs)); err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]struct {
		code int
		says string
	}{
		`{"query":"rain","limit":1}`:                          {200, `"total_results":3,"count":1`},
		`{"query":"rain","limit":100}`:                        {200, `"total_results":3,"count":3`},
		`{"query":"rain"}`:                                    {200, `"count":3`},
		`{"query":"rain","limit":0}`:                          {422, `"limit"`},
		`{"query":"rain","limit":101}`:                        {422, `"limit"`},
		`{"query":"rain","options":{"nodes":[]}}`:             {422, `"options.nodes"`},
		`{"query":"rain","options":{"nodes":["a","lost"]}}`:   {422, `lost`},
		`{"query":"rain","options":{"nodes":["a","doer"]}}`:   {422, `doer`},
		`{"query":"rain","options":{"nodes":["a"],"x":true}}`: {422, `x`},
	} {
		if body == `{"query":"rain","limit":0}` {
			c := call{"GET", "/v1/search?q=rain&limit=0", ""}
			if code, text := o.ask(t, c, o.operator(t, c)); code != 422 {
				t.Errorf("%s: %d %s", c.path, code, text)
			}
		}
		c := call{"POST", "/v1/search", body}
		if code, text := o.ask(t, c, o.operator(t, c)); code != want.code || !strings.Contains(text, want.says) {
			t.Errorf("%s: %d %s", body, code, text)
		}
	}
}

func TestAChangeOfTheRegistryIsInTheNextAnswer(t *testing.T) {
	search := func(o *one) muster.Answer {
		t.Helper()
		a, err := o.op.Search(t.Context(), muster.Query{Text: "plum"})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	o := raise(t, t.TempDir(), "a")
	search(o)
	before := search(o)
	shop := newApp(t)
	shop.register(t, o, muster.Registration{})
	after := search(o)
	if before.NodesAsked != 1 || after.NodesAsked != 2 || after.Cached {
		t.Errorf("%d asked before, %d after it was registered (cached %v)", before.NodesAsked, after.NodesAsked, after.Cached)
	}
	if _, err := o.op.UpdateNode(t.Context(), "shop", 0, api.NodePatch{NodeChange: muster.NodeChange{Status: new(muster.StatusMaintenance)}}); err != nil {
		t.Fatal(err)
	}
	if a := search(o); a.NodesAsked != 1 || a.Partial || !slices.ContainsFunc(a.Nodes, func(r muster.NodeReport) bool { return r.Node == "shop" && r.Status == "skipped" }) {
		t.Errorf("in maintenance: %+v", a)
	}
}
