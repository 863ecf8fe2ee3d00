package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"muster"
)

// application serves fixed answers by path; 404 elsewhere.
func application(t *testing.T, answers map[string]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := answers[r.URL.Path]
		if !known {
			w.WriteHeader(http.StatusNotFound)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestACheckSaysRequestByRequestWhatToMend(t *testing.T) {
	url := application(t, map[string]string{
		"/api/ai-engine/health":  `{"status":"healthy","version":3}`,
		"/api/ai-engine/search":  `{"results":[{"id":"1"},{"id":"2","title":"x"}],"total_results":1}`,
		"/api/ai-engine/actions": `{"success":true}`,
	})
	code, out := words(t, "node", "check", url, "--credential", "s3cret-s3cret")
	if code != 1 {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{
		`GET /api/ai-engine/health`, `mend  "ready" must be there`, `mend  "version" should be a text`, `mend  "capabilities" should be a list`,
		`mend  it was asked for one result and gave 2`, `mend  results[0] has neither title nor content`, `mend  "total_results" must be`,
		`it must answer 401 to those without the credential, it answers 200`, `it must answer 400, it answers 200`,
		`it must answer 400 to an action it does not have`, `ok    it answers 404`, "things to mend",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("not said: %s", want)
		}
	}
	if strings.Contains(out, "s3cret") || t.Failed() {
		t.Error(out)
	}
	if code, out := words(t, "node", "check", "http://127.0.0.1:1"); code != 1 || !strings.Contains(out, "no answer") {
		t.Errorf("nobody there: exit %d\n%s", code, out)
	}
	if code, out := words(t, "node", "check", "shop"); code != 2 || !strings.Contains(out, "shop is not a URL") {
		t.Errorf("no URL: exit %d\n%s", code, out)
	}
}

func TestAnAgentPassesTheCheckAndNodesArePingedFromTheCommandLine(t *testing.T) {
	d, name := agents(t, "a")
	k, err := d.client(name).CreateKey(t.Context(), muster.KeySpec{Name: "check", Scopes: []string{"search", "run:*"}})
	if err != nil {
		t.Fatal(err)
	}
	if code, out := words(t, "node", "check", d.urls[name], "--credential", *k.Plain); code != 0 || strings.Contains(out, "mend") {
		t.Fatalf("exit %d\n%s", code, out)
	}
	shop := application(t, map[string]string{"/api/ai-engine/health": `{"status":"healthy","ready":true,"capabilities":["web"]}`})
	if code, out := d.words(t, name, "node", "register", "shop", shop, "--capabilities", "web"); code != 0 || !strings.Contains(out, "mc_") {
		t.Fatalf("exit %d\n%s", code, out)
	}
	if code, out := d.words(t, name, "node", "ping", "--all"); code != 0 || strings.Count(out, " ok ") != 2 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	if code, out := d.words(t, name, "node", "show", "shop"); code != 0 || !strings.Contains(out, "Circuit       closed") {
		t.Fatalf("exit %d\n%s", code, out)
	}
	if code, out := d.words(t, name, "node", "register", "dead", "http://127.0.0.1:9", "--credential", "given"); code != 0 || strings.Contains(out, "given") {
		t.Fatalf("exit %d\n%s", code, out)
	}
	if code, out := d.words(t, name, "node", "ping", "shop", "dead"); code != 1 || !strings.Contains(out, "1 of 2") {
		t.Fatalf("exit %d\n%s", code, out)
	}
	if code, out := d.words(t, name, "node", "ping"); code != 2 {
		t.Fatalf("exit %d\n%s", code, out)
	}
}
