package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"muster"
)

func TestAParameterHasTheTypeThatAllVersionsDeclareAndElseANoteSaysWhy(t *testing.T) {
	rows := func(params ...string) string {
		all := make([]string, len(params))
		for i, p := range params {
			all[i] = `{"action":"app.x","params":` + p + `}`
		}
		return `{"actions":[` + strings.Join(all, ",") + `]}`
	}
	const text, number = `{"text":{"type":"string"}}`, `{"text":{"type":"int"}}`
	for _, c := range []struct {
		name, catalog string
		code          int
		sent, note    string
	}{
		{"one version", rows(text), 200, `"text":"5"`, ""},
		{"two that agree", rows(text, text), 200, `"text":"5"`, ""},
		{"two that differ", rows(text, number), 200, `"text":5`, "differ in the type of text"},
		{"one without it", rows(text, `{}`), 200, `"text":5`, "differ in the type of text"},
		{"one with it", rows(`{}`, text), 200, `"text":5`, "differ in the type of text"},
		{"not declared", rows(`{}`), 200, `"text":5`, ""},
		{"no scope", `{"message":"this needs the scope read","code":"forbidden"}`, 403, `"text":5`, "this needs the scope read"},
		{"no catalog", `{}`, 503, `"text":5`, "note: the types of the parameters are not known"},
	} {
		var sent string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				w.WriteHeader(c.code)
				_, _ = io.WriteString(w, c.catalog)
				return
			}
			raw, _ := io.ReadAll(r.Body)
			sent = string(raw)
			_, _ = io.WriteString(w, `{"success":true}`)
		}))
		code, out := words(t, "run", "app.x", "--all", "-p", "text=5", "--addr", server.URL, "--key", "mk_x")
		server.Close()
		if code != 0 || !strings.Contains(sent, c.sent) || (c.note != "") != strings.Contains(out, "note:") || !strings.Contains(out, c.note) {
			t.Errorf("%s: exit %d, sent %s, %s", c.name, code, sent, out)
		}
	}
}

func TestWhatIsSaidOfARunOverTellsHowItWent(t *testing.T) {
	of := func(states ...muster.State) (a muster.RunAnswer) {
		a.Results = map[string]muster.Result{}
		for i, s := range states {
			a.Results[string(rune('a'+i))] = muster.Result{State: s}
			switch s {
			case muster.StateOK:
				a.SuccessCount++
			case muster.StateSkipped:
				a.SkippedCount++
			default:
				a.FailureCount++
			}
		}
		return a
	}
	for want, a := range map[muster.Kind]muster.RunAnswer{
		muster.Partial:        of(muster.StateSkipped, muster.StateSkipped),
		muster.Internal:       of(muster.StateFailed, muster.StateSkipped),
		muster.OutcomeUnknown: of(muster.StateUnreachable, muster.StateUnknown),
		muster.Forbidden:      of(muster.StateDenied),
		muster.Invalid:        of(muster.StateInvalid, muster.StateSkipped),
	} {
		if got := muster.KindOf(verdict(a)); got != want {
			t.Errorf("%+v: %s, not %s", a, got, want)
		}
	}
	if got := muster.KindOf(verdict(of(muster.StateOK, muster.StateSkipped))); got != muster.Partial {
		t.Error(got)
	}
}

func TestTheHelpOfARunAndItsLimitsAreTrue(t *testing.T) {
	if code, out := words(t, "run", "--help"); code != 0 || strings.Contains(out, "Not supported") || !strings.Contains(out, "--rolling") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if code, out := words(t, "run", "node.ping", "--all", "--timeout", "11m", "--addr", "http://127.0.0.1:1", "--key", "mk_x"); code != 2 || !strings.Contains(out, "--timeout") {
		t.Errorf("exit %d\n%s", code, out)
	}
}
