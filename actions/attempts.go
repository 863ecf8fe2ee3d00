package actions

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"muster"
)

// again says on which grounds an execution may be tried again. Where it may have
// done something, only an idempotent one may.
type again struct {
	on     string
	undone bool // nothing was done
}

// What an execution may be tried again on.
const (
	onUnavailable = "unavailable"
	onTimeout     = "timeout"
)

// exitAgain is the exit code by which a program says that it did nothing and may
// be started again (EX_TEMPFAIL of sysexits.h).
const exitAgain = 75

const (
	defaultFirst = time.Second
	defaultMax   = 30 * time.Second
)

// mayAgain reports whether an execution that came to this may be tried once more.
func (d *Definition) mayAgain(tries int, o outcome) bool {
	if d.Retry == nil || tries >= d.Retry.Attempts {
		return false
	}
	why := o.again
	if o.state == muster.StateTimeout && o.fault != nil && o.fault.Code == "timeout" {
		why = &again{on: onTimeout}
	}
	return why != nil && slices.Contains(d.Retry.On, why.on) && (why.undone || d.Idempotent)
}

// pause is how long to wait after so many tries: twice as long each time, up to
// Max. With jitter it is drawn from the upper half of that.
func (r *Retry) pause(tries int) time.Duration {
	most := max(time.Duration(cmp.Or(r.Max, Duration(defaultMax))), time.Duration(r.First))
	d := time.Duration(cmp.Or(r.First, Duration(defaultFirst)))
	for range tries - 1 {
		d = min(2*d, most)
	}
	d = min(d, most)
	if r.Jitter {
		d -= rand.N(d/2 + 1) //nolint:gosec // it spreads load, it keeps no secret
	}
	return d
}

// rest waits, and reports whether ctx let it.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
