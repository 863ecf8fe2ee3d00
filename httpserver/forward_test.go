package httpserver_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"muster"
	"muster/httpserver/api"
)

func pair() *house {
	return &house{nodes: []muster.Node{
		{ID: "1", Slug: "a", Kind: muster.KindAgent}, {ID: "2", Slug: "b", Kind: muster.KindAgent}, {ID: "3", Slug: "app", Kind: muster.KindExternal},
	}}
}

func TestARequestGoesByTheIDOfTheNodeItNames(t *testing.T) {
	h := pair()
	base, _ := serve(t, h)
	for _, name := range []string{"b", "2"} {
		h.sent = nil
		got := ask(t, "DELETE", base+"/v1/documents/a%2Fb?collection=c&node="+name, "mk_index", "", "Idempotency-Key", "k", "X-Request-Id", "r")
		if got.code != 200 || got.body != `{"to":"2"}` || len(h.sent) != 1 {
			t.Fatalf("%d %s, sent %+v", got.code, got.body, h.sent)
		}
		if sent := h.sent[0]; sent.Path != "/v1/documents/a%2Fb?collection=c&node=2" || sent.Header.Get("Idempotency-Key") != "k" || sent.Header.Get("X-Request-Id") != "r" {
			t.Errorf("sent %+v", sent)
		}
	}
	got := ask(t, "GET", base+"/v1/documents/x?node=b", "mk_index", "", "X-Request-Id", strings.Repeat("x", 500))
	if id := h.sent[len(h.sent)-1].Header.Get("X-Request-Id"); id == "" || id != got.header.Get("X-Request-Id") {
		t.Errorf("sent on as %q, answered as %q", id, got.header.Get("X-Request-Id"))
	}
	for name, code := range map[string]int{"a": 200, "1": 200, "app": 422, "nobody": 422} {
		h.sent = nil
		if got := ask(t, "GET", base+"/v1/documents/x?node="+name, "mk_index", ""); got.code != code || h.sent != nil {
			t.Errorf("%s: %d %s, sent %+v", name, got.code, got.body, h.sent)
		}
	}
}

func TestWhatANodeSentGoesNoFurther(t *testing.T) {
	h := pair()
	base, _ := serve(t, h)
	got := ask(t, "GET", base+"/v1/index?node=b", "a.node.token", "")
	if got.code != 503 || !strings.Contains(got.body, "misrouted") || h.sent != nil {
		t.Errorf("%d %s, sent %+v", got.code, got.body, h.sent)
	}
	if got := ask(t, "GET", base+"/v1/index?node=1", "a.node.token", ""); got.code != 200 {
		t.Errorf("its own work: %d %s", got.code, got.body)
	}
}

func TestADeadlineThatPassesWhileForwardingIs504(t *testing.T) {
	for _, lost := range []error{
		fmt.Errorf("ask b: %w", context.DeadlineExceeded),
		muster.Errorf(muster.OutcomeUnknown, "no answer of b in time: %w", context.DeadlineExceeded),
	} {
		h := pair()
		h.lost = lost
		base, _ := serve(t, h)
		for method, code := range map[string]string{"GET": "timeout", "DELETE": "outcome_unknown"} {
			got := ask(t, method, base+"/v1/documents/x?node=b", "mk_index", "")
			if muster.KindOf(lost) == muster.OutcomeUnknown {
				code = "outcome_unknown"
			}
			if got.code != 504 || !strings.Contains(got.body, code) {
				t.Errorf("%s with %v: %d %s", method, lost, got.code, got.body)
			}
		}
	}
}

func TestASignatureThatAnotherNodeRefusesIsNotTheCallersFault(t *testing.T) {
	h := pair()
	h.master = "2"
	base, _ := serve(t, h)
	for _, code := range []string{"clock_skew", "restarted", ""} {
		h.lost = muster.Errorf(muster.Unauthorized, "signed 50s ago").WithCode(code)
		for request, key := range map[string]string{
			"DELETE /v1/documents/x?node=b":                                  "mk_index",
			"GET /v1/index?node=b":                                           "mk_read",
			"POST /v1/cluster/transfer":                                      "mk_admin",
			"GET /v1/jobs/j_1_01234567-89ab-7def-8123-456789abcdef/output/b": "mk_run:x",
			"POST /v1/nodes/ping":                                            "mk_registry",
			"GET /v1/jobs/j_2_01234567-89ab-7def-8123-456789abcdef":          "mk_run:x",
		} {
			method, path, _ := strings.Cut(request, " ")
			got := ask(t, method, base+path, key, "")
			if got.code != 503 || !strings.Contains(got.body, "node b refused the call of this node: signed 50s ago") || !strings.Contains(got.body, "doctor") {
				t.Errorf("%s after %q: %d %s", request, code, got.code, got.body)
			}
		}
	}
	h.lost = muster.Errorf(muster.Forbidden, "this needs the scope index")
	if got := ask(t, "DELETE", base+"/v1/documents/x?node=b", "mk_index", ""); got.code != 403 {
		t.Errorf("what the caller may not: %d %s", got.code, got.body)
	}
}

func TestAnAnswerCarriesTheIndexOfItsWrite(t *testing.T) {
	h := pair()
	base, _ := serve(t, h)
	got := ask(t, "POST", base+"/v1/nodes", "mk_registry", `{"name":"shop","url":"http://127.0.0.1:9"}`)
	if got.code != 201 || got.header.Get("X-Muster-Index") != "1" || got.header.Get("X-Muster-Master") != "m1" || got.header.Get("X-Muster-Node") != "a" {
		t.Errorf("%d %v", got.code, got.header)
	}
	if h.listed != 0 {
		t.Errorf("the whole registry was listed %d times for the headers", h.listed)
	}
	if got := ask(t, "GET", base+api.PathHealth, "", ""); got.code != 200 || h.listed != 0 {
		t.Errorf("%d %s, listed %d times", got.code, got.body, h.listed)
	}
}
