package muster_test

import (
	"testing"

	"muster"
)

func TestAScopeGrantsWhatItSaysAndNoMore(t *testing.T) {
	for _, c := range []struct {
		have, want string
		ok         bool
	}{
		{"search", "search", true},
		{"search", "index", false},
		{"admin", "index", true},
		{"admin", "run:app.deploy", true},
		{"admin", "node", false},
		{"node", "node", true},
		{"run:app.*", "run:app.deploy", true},
		{"run:app.*", "run:web.deploy", false},
		{"run:app.?", "run:app.*", false},
		{"run:app.[*]", "run:app.*", false},
		{"run:*", "run:app.*", true},
		{"run:app.*", "run:app.*", true},
		{"run:[", "run:x", false},
		{"", "public", true},
		{"", "read", false},
	} {
		r := muster.Rights{Principal: "key:1", Scopes: []string{c.have}}
		if got := r.May(c.want); got != c.ok {
			t.Errorf("%q for %q: %v", c.have, c.want, got)
		}
	}
	if (muster.Rights{}).May(muster.ScopeAny) {
		t.Error("nobody passes for somebody")
	}
}

func TestOnlyRealScopesCanBeGranted(t *testing.T) {
	for scope, ok := range map[string]bool{
		"read": true, "run:*": true, "run:app.deploy": true, "run:": false, "run:[": false, "node": false, "": false, "READ": false,
	} {
		if got := muster.ValidScope(scope); got != ok {
			t.Errorf("%q: %v", scope, got)
		}
	}
}
