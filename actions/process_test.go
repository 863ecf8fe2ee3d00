package actions //nolint:testpackage // the moment between its turn and its start cannot be met from outside

import (
	"context"
	"testing"
	"time"

	"muster"
)

func TestProgramThatIsCutOffBeforeItsStartIsNoFailure(t *testing.T) {
	h := Handler{Argv: []string{"/bin/true"}}
	for cause, code := range map[error]string{errStopping: "interrupted", errTimeout: "timeout", context.Canceled: "cancelled"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		o := h.do(ctx, call{def: &Definition{Limits: Limits{Output: 1 << 10, KillAfter: Duration(time.Second)}}, argv: h.Argv})
		if o.state != muster.StateCancelled || o.fault.Code != code {
			t.Errorf("%v: %s %+v", cause, o.state, o.fault)
		}
	}
}
