package gossip

import (
	"context"
	"time"
)

const (
	factsEvery = 500 * time.Millisecond // from one change told to the next
	factsTimes = 3                      // each is told so often
	factsLate  = 3                      // and then so often at greater distance
	factsAgain = 2 * time.Second        // that distance; also while nobody has founded the cluster
)

// rhythm decides when to tell. Each change is told factsTimes times, and
// factsLate times more: gossip reaches each peer only probably, less so on a
// busy machine, and what some packets did not carry would come with the next
// exchange of lists, up to half a minute later. While always
// holds, facts are told again all the time: nodes wait for each other to found
// a cluster.
type rhythm struct {
	changed <-chan struct{}
	always  func() bool
	tell    func()
}

func (r rhythm) keep(ctx context.Context) {
	changed, left := r.changed, 0
	timer := time.NewTimer(factsAgain)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			changed, left = nil, factsTimes+factsLate // later ones wait for the timer, and go out together
		case <-timer.C:
			switch {
			case changed == nil && r.waiting():
				left = factsTimes + factsLate
			case left == 0 && !r.always():
				timer.Reset(factsAgain)
				continue
			default:
				changed = r.changed
			}
		}
		r.tell()
		left = max(left-1, 0)
		timer.Reset(factsEvery)
		if left <= factsLate {
			timer.Reset(factsAgain)
		}
	}
}

func (r rhythm) waiting() bool {
	select {
	case <-r.changed:
		return true
	default:
		return false
	}
}
