package daemon_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"

	"muster"
	"muster/cmd/daemon"
)

func TestAPortCountsAsReachedOnlyIfTheNodeItselfAnswersThere(t *testing.T) {
	d, err := start(t, settings(t))
	if err != nil {
		t.Fatal(err)
	}
	ready(t, d)
	ports, self := daemon.PortsOf(d), daemon.SelfOf(d)
	twin, closed := self, self
	twin.ID = uuid.NewString()
	closed.HTTP, closed.Gossip, closed.Raft = free(t), free(t), free(t)
	for port, reach := range map[string]func(context.Context, muster.Peer) error{
		"http":   func(ctx context.Context, p muster.Peer) error { _, err := ports.HTTP(ctx, p); return err },
		"gossip": ports.Gossip,
		"raft":   ports.Raft,
	} {
		if err := reach(t.Context(), self); err != nil {
			t.Errorf("%s of the node itself: %v", port, err)
		}
		if err := reach(t.Context(), twin); err == nil {
			t.Errorf("%s: another node counts, too", port)
		}
		if err := reach(t.Context(), closed); err == nil {
			t.Errorf("%s: nobody is there", port)
		}
	}
}

func TestANodeIsExaminedThroughAnyOther(t *testing.T) {
	a, b := pair(t)
	until(t, "b looks at a, asked by a", func() bool {
		got, err := a.op.Doctor(t.Context(), "b")
		if err != nil || len(got.Findings) == 0 {
			return false
		}
		reached := 0
		for _, f := range got.Findings {
			if f.Node != "b" {
				t.Fatalf("%+v", f)
			}
			if f.Peer == "a" && f.Status == "ok" && strings.Contains("http gossip raft clock", f.Check) {
				reached++
			}
		}
		return reached == 4
	})
	if got, err := b.op.Doctor(t.Context(), "b"); err != nil || got.Findings[0].Check != "secret" {
		t.Errorf("%+v %v", got, err)
	}
}
