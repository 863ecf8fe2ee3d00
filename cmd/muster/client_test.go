package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAKeyThatIsNotShownAgainComesWithTheWayOut(t *testing.T) {
	key := `null,"api_key":null,"hint":"rotate it"`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":"k1","name":"ci","scopes":["read"],"key":`+key+`}`)
	}))
	defer server.Close()
	commands := [][]string{{"key", "create", "--name", "ci", "--scope", "read"}, {"node", "register", "ci", "http://h/"}}
	for _, args := range commands {
		code, out := words(t, append(args, "--addr", server.URL, "--key", "mk_x")...)
		if code != 0 || !strings.Contains(out, "(not shown again)") || !strings.Contains(out, "hint: rotate it") {
			t.Errorf("%v: exit %d, %s", args, code, out)
		}
	}
	key = `"mk_once","api_key":"mk_once"`
	for _, args := range commands {
		code, out := words(t, append(args, "--addr", server.URL, "--key", "mk_x")...)
		if code != 0 || !strings.Contains(out, "mk_once") || !strings.Contains(out, "The key is not shown again.") {
			t.Errorf("%v: exit %d, %s", args, code, out)
		}
	}
}
