package daemon_test

import (
	"encoding/json"
	"testing"
	"time"

	"muster"
	"muster/httpserver/api"
)

// TestRunEndsWithTheKeyThatItWasAskedBy revokes a key between two batches.
func TestRunEndsWithTheKeyThatItWasAskedBy(t *testing.T) {
	dir := t.TempDir()
	a := raise(t, dir, "a")
	raise(t, dir, "b", a.gossip)
	key := a.key(t, "run:node.ping", "")
	revoked := make(chan error, 1)
	time.AfterFunc(300*time.Millisecond, func() { revoked <- a.op.RevokeKey(t.Context(), key.ID) })
	caller := &api.Client{Addrs: []string{a.base}, HTTP: a.op.HTTP, Key: *key.Plain}
	run, err := caller.Run(t.Context(), muster.Run{
		Action: "node.ping", On: muster.Selector{All: true},
		How: muster.Strategy{Mode: "rolling", Batches: []json.RawMessage{json.RawMessage("1")}, Pause: "2s"},
	})
	if err != nil || <-revoked != nil {
		t.Fatal(err)
	}
	if b := run.Results["b"]; !run.Results["a"].Success || b.State != muster.StateSkipped || b.Error.Code != "unauthorized" {
		t.Errorf("%+v", run)
	}
}
