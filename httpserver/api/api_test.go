package api_test

import (
	"testing"

	"muster"
	"muster/httpserver/api"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAFieldThatDoesNotFitIsNamed(t *testing.T) {
	for body, want := range map[string]string{
		`{"query":"a","options":{"nodse":["a"]}}`:               "options.nodse",
		`{"query":"a","options":{"NODES":["a"]}}`:               "options.NODES",
		`{"query":"a","limitt":5}`:                              "limitt",
		`{"query":"a","options":{"nodes":["a"],"nodes":["b"]}}`: "options.nodes",
		`{"query":"a","limit":"five"}`:                          "limit",
	} {
		err := api.Decode([]byte(body), &muster.Query{})
		var fields map[string][]string
		if e, ok := err.(*muster.Error); ok { //nolint:errorlint // Decode returns it bare
			fields = e.Fields
		}
		if muster.KindOf(err) != muster.Invalid || len(fields[want]) == 0 {
			t.Errorf("%s: %v %v", body, err, fields)
		}
	}
	for _, body := range []string{``, `{`, `{"query":"a"} {"query":"b"}`, "{\"query\":\"\xff\"}"} {
		if err := api.Decode([]byte(body), &muster.Query{}); muster.KindOf(err) != muster.Malformed {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"query":"a"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := api.Decode(raw, &muster.Query{}); err != nil && muster.KindOf(err) == muster.Internal {
			t.Fatal(err)
		}
	})
}
