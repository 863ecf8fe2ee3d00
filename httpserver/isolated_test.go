package httpserver_test

import (
	"slices"
	"strings"
	"testing"

	"muster"
	"muster/httpserver/api"
)

func TestANodeThatLostTheMasterReadsAndSearchesOnly(t *testing.T) {
	h := &house{nodes: []muster.Node{{ID: "1", Slug: "x"}}, behind: []string{muster.ScopeNode, muster.ScopeAdmin}}
	base, s := serve(t, h, withActions(&hands{}))
	reads := []string{muster.ScopePublic, muster.ScopeAny, muster.ScopeRead, muster.ScopeSearch}
	for _, stale := range []int64{59_999, 60_000} {
		h.stale = stale
		for _, r := range s.Routes() {
			url := base + strings.NewReplacer("{slug}", "x", "{id}", "x", "{name}", "app.x").Replace(r.Path)
			for _, token := range []string{"mk_admin", "a.node.token"} {
				got := ask(t, r.Method, url, token, "")
				may := slices.Contains(reads, r.Scope) || strings.HasPrefix(r.Path, "/v1/actions") || r.Path == api.PathDoctor
				if r.Scope == muster.ScopeNode {
					may = r.Path != api.PathRun && r.Path != api.PathLead || token == "mk_admin" // which is not let in at all
				}
				refused := got.code == 503 && strings.Contains(got.body, `"code":"no_master"`)
				if refused != (stale >= 60_000 && !may) {
					t.Errorf("%s %s by %s after %d ms: %d %s", r.Method, r.Path, token, stale, got.code, got.body)
				}
			}
		}
	}
	if got := ask(t, "POST", base+"/v1/nodes", "mk_read", "{}"); got.code != 403 {
		t.Errorf("a key that may not: %d", got.code)
	}
}
