package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"muster"
	"muster/httpserver/api"
)

func TestEachCallHasItsRoute(t *testing.T) {
	var asked, body string
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		asked, body = r.Method+" "+r.URL.RequestURI(), string(raw)
		_, _ = io.WriteString(w, `{"job":"j_1_2","state":"ok","actions":[{"action":"app.x"}],"key":null,"hint":"h","name":"k","generation":7,"health":{"ping_failures":1}}`)
	})
	ctx := t.Context()
	for want, call := range map[string]func() (bool, error){
		"POST /v1/run": func() (bool, error) {
			a, err := c.Run(ctx, muster.Run{Action: "app.x", On: muster.Selector{All: true}, Params: muster.Params{"n": json.RawMessage("12345678901234567890")}})
			return a.Job == "j_1_2" && a.Results == nil && strings.Contains(body, `"params":{"n":12345678901234567890},"on":{"all":true`), err
		},
		"GET /v1/actions?limit=1000&cursor=": func() (bool, error) { a, err := c.Actions(ctx); return len(a.Actions) == 1, err },
		"GET " + api.PathActions:             func() (bool, error) { a, err := c.OwnActions(ctx, nil); return len(a.Actions) == 1, err },
		"GET " + api.PathActions + "?names=app.x%2Capp.y": func() (bool, error) {
			a, err := c.OwnActions(ctx, []string{"app.x", "app.y"})
			return len(a.Actions) == 1, err
		},
		"GET /v1/actions/app%2Fx": func() (bool, error) { a, err := c.Action(ctx, "app/x"); return len(a.Actions) == 1, err },
		"POST " + api.PathRun: func() (bool, error) {
			r, err := c.Execute(ctx, muster.Execution{Job: "j"})
			return r.State == "ok", err
		},
		"POST /v1/keys": func() (bool, error) {
			k, err := c.CreateKey(ctx, muster.KeySpec{})
			return k.Plain == nil && k.Hint == "h" && k.Name == "k", err
		},
		"GET /api/ai-engine/status":  func() (bool, error) { s, err := c.Status(ctx); return s.Health.PingFailures == 1, err },
		"POST /v1/search":            func() (bool, error) { _, err := c.Search(ctx, muster.Query{}); return true, err },
		"DELETE /v1/search/cache":    func() (bool, error) { return true, c.FlushSearchCache(ctx) },
		"GET /v1/nodes/a%2Fb":        func() (bool, error) { n, err := c.Node(ctx, "a/b"); return n.Name == "k", err },
		"POST /v1/nodes":             func() (bool, error) { r, err := c.Register(ctx, muster.Registration{}, "k"); return r.Hint == "h", err },
		"DELETE /v1/keys/k1":         func() (bool, error) { return true, c.RevokeKey(ctx, "k1") },
		"DELETE /v1/cluster/peers/a": func() (bool, error) { return true, c.RemovePeer(ctx, "a") },
		"GET /v1/index?node=a":       func() (bool, error) { s, err := c.IndexStats(ctx, "a"); return s.Generation == 7, err },
		"POST /v1/index/rebuild":     func() (bool, error) { s, err := c.RebuildIndex(ctx, ""); return s.Generation == 7, err },
		"DELETE /v1/documents/%2E%2E?collection=c": func() (bool, error) {
			return true, c.DeleteDocument(ctx, "", "c", "..")
		},
	} {
		if ok, err := call(); err != nil || !ok || asked != want {
			t.Errorf("%s: asked %s with %s: %v %v", want, asked, body, ok, err)
		}
	}
}

func TestAListOfNamesThatIsTooLongForAPathIsNotSent(t *testing.T) {
	var asked string
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.RawQuery
		_, _ = io.WriteString(w, `{"actions":[]}`)
	})
	for name, fits := range map[string]bool{strings.Repeat("a", 1024): true, strings.Repeat("a", 1025): false, strings.Repeat(" \x01", 300): false} {
		if _, err := c.OwnActions(t.Context(), []string{name}); err != nil || (asked != "") != fits {
			t.Errorf("%.10q: asked for %q, %v", name, asked, err)
		}
	}
}

func TestAllPagesOfTheCacheAreFetched(t *testing.T) {
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		page := `{"entries":[{"query_hash":"b"}],"total":2}`
		if r.URL.Query().Get("cursor") == "" {
			page = `{"entries":[{"query_hash":"a"}],"total":2,"cursor":"a"}`
		}
		_, _ = io.WriteString(w, page)
	})
	all, err := c.SearchCache(t.Context())
	if err != nil || len(all.Entries) != 2 || all.Entries[1].QueryHash != "b" || all.Total != 2 || all.Cursor != "" {
		t.Errorf("%+v %v", all, err)
	}
}

func TestAllPagesOfTheRegistryAreFetched(t *testing.T) {
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		page := `{"nodes":[{"slug":"b"}],"total":2}`
		if r.URL.Query().Get("cursor") == "" {
			page = `{"nodes":[{"slug":"a"}],"total":2,"cursor":"a 1"}`
		}
		_, _ = io.WriteString(w, page)
	})
	if all, err := c.Nodes(t.Context()); err != nil || len(all.Nodes) != 2 || all.Nodes[1].Slug != "b" {
		t.Error(all, err)
	}
}

func TestAnAnswerThatIsNoJSONLeavesTheOutcomeUnknown(t *testing.T) {
	c, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
	if _, err := c.Actions(t.Context()); muster.KindOf(err) != muster.OutcomeUnknown {
		t.Error(err)
	}
	if _, err := c.AddDocuments(t.Context(), "", nil); muster.KindOf(err) != muster.OutcomeUnknown {
		t.Error(err)
	}
	if _, err := c.Health(t.Context()); muster.KindOf(err) != muster.Unavailable {
		t.Error(err)
	}
}

func TestANodeIsHeldByTheOneThatAnswersWithItsID(t *testing.T) {
	c, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"id":"n1"}`) })
	addr := c.Addrs[0]
	if !c.Holds(t.Context(), addr, "n1") || c.Holds(t.Context(), addr, "n2") {
		t.Error("it does not tell who holds the ID")
	}
	if _, err := (&api.Client{}).Health(t.Context()); muster.KindOf(err) != muster.Invalid {
		t.Error(err)
	}
}
