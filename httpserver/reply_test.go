package httpserver_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"muster"
	"muster/httpserver"
)

func TestAnAnswerThatIsNoJSONIsLoggedAndKeepsItsID(t *testing.T) {
	var log bytes.Buffer
	h := &house{nodes: []muster.Node{{ID: "1", Slug: "a"}}}
	hands := &hands{result: muster.Result{Success: true, State: muster.StateOK, Result: json.RawMessage(`{"a":1,"a":2}`)}}
	base, s := serve(t, h, withActions(hands), func(c *httpserver.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	got := ask(t, "POST", base+pathActions, "mk_run:app.*", `{"action":"app.x"}`, "X-Request-Id", "r-1")
	if got.code != 500 || !strings.Contains(got.body, `"code":"internal"`) || !strings.Contains(got.body, `"request_id":"r-1"`) {
		t.Errorf("%d %s", got.code, got.body)
	}
	if err := s.Stop(t.Context()); err != nil { // the log is whole
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "request_id=r-1") || !strings.Contains(log.String(), "duplicate") {
		t.Errorf("logged %q", log.String())
	}
	if len(h.calls) != 2 || h.calls[1].ID != h.calls[0].ID || h.calls[1].Status != 500 { // begun, and over
		t.Errorf("recorded %+v", h.calls)
	}
}

func TestAHitThatIsNotCutDoesNotSpeakOfIt(t *testing.T) {
	base, _ := serve(t, &house{})
	if got := ask(t, "POST", base+"/v1/search", "mk_search", `{"query":"a"}`); got.code != 200 || !strings.Contains(got.body, `"id":"1"`) || strings.Contains(got.body, "truncated") {
		t.Errorf("%d %s", got.code, got.body)
	}
}
