package httpserver_test

import (
	"net/http"
	"strings"
	"testing"

	"muster"
	"muster/httpserver"
)

// shelf is a cache of answers.
type shelf struct {
	after   string
	limit   int
	flushed int
}

func (s *shelf) Cached(after string, limit int) muster.SearchCache {
	s.after, s.limit = after, limit
	return muster.SearchCache{Entries: []muster.CachedAnswer{{QueryHash: "f00d", Query: "plum", NodeIDs: []string{"1"}, Hits: 2}}, Cursor: "f00d", Total: 3}
}

func (s *shelf) FlushCache() int { s.flushed++; return 3 }

func TestTheCacheOfAnswersIsListedAndEmptied(t *testing.T) {
	kept := &shelf{}
	base, _ := serve(t, &house{}, func(c *httpserver.Config) { c.Cache = kept })
	url := base + "/v1/search/cache"
	got := ask(t, "GET", url, "mk_admin", "")
	if got.code != http.StatusOK || kept.after != "" || kept.limit != 100 {
		t.Errorf("%+v, asked after %q for %d", got, kept.after, kept.limit)
	}
	for _, part := range []string{`"query_hash":"f00d"`, `"query":"plum"`, `"node_ids":["1"]`, `"created_at":`, `"expires_at":`, `"hits":2`, `"bytes":0`, `"cursor":"f00d"`, `"total":3`} {
		if !strings.Contains(got.body, part) {
			t.Errorf("no %s in %s", part, got.body)
		}
	}
	if ask(t, "GET", url+"?limit=7&cursor=ab", "mk_admin", ""); kept.after != "ab" || kept.limit != 7 {
		t.Errorf("asked after %q for %d", kept.after, kept.limit)
	}
	if got := ask(t, "GET", url+"?limit=1001", "mk_admin", ""); got.code != http.StatusUnprocessableEntity {
		t.Errorf("%+v", got)
	}
	if got := ask(t, "DELETE", url, "mk_admin", ""); got.code != http.StatusOK || got.body != `{"deleted":3}`+"\n" && got.body != `{"deleted":3}` || kept.flushed != 1 {
		t.Errorf("%+v", got)
	}
	if got := ask(t, "DELETE", url, "mk_read", ""); got.code != http.StatusForbidden || kept.flushed != 1 {
		t.Errorf("%+v", got)
	}
}
