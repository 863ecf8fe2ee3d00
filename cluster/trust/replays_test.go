package trust_test

import (
	"testing"
	"time"

	"muster"
	"muster/cluster/trust"

	"github.com/google/uuid"
)

func TestFullReplaysRefuseAndRecoverWhenCallsExpire(t *testing.T) {
	var r trust.Replays
	start := time.Now()
	for range trust.MaxReplays {
		if err := r.Admit(uuid.New(), start); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Admit(uuid.New(), start.Add(trust.ReplayMemory-1)); muster.CodeOf(err) != "replays_full" || muster.KindOf(err) != muster.Limited {
		t.Error(err)
	}
	if err := r.Admit(uuid.New(), start.Add(trust.ReplayMemory)); err != nil || r.Len() != 1 {
		t.Errorf("%v, %d kept", err, r.Len())
	}
}
