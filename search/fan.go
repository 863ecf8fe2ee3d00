package search

import (
	"context"
	"errors"
	"time"

	"muster"
)

// downGrace is how long a search waits at least for nodes believed to be down
// while the others have answered.
const downGrace = 50 * time.Millisecond

// slotTime is how long a call that gets no answer counts against MaxParallel.
const slotTime = 100 * time.Millisecond

type reason string

func (r reason) Error() string { return string(r) }

// Why a node is missing from an answer.
const (
	errNoAnswer = reason("no answer in time")
	errDown     = reason("down")
	errScoring  = reason("another scoring version")
	errNoIndex  = reason("not the answer of an index")
)

func timedOut(err error) bool {
	return errors.Is(err, errNoAnswer) || errors.Is(err, context.DeadlineExceeded) || muster.KindOf(err) == muster.Timeout
}

// job is one call to one node. do reads nothing that changes later, for it may
// outlive the search.
type job[T any] struct {
	m    *member
	down bool // not worth waiting for
	do   func(context.Context) (T, error)
}

// reply is what came of a job.
type reply[T any] struct {
	m     *member
	down  bool
	value T
	took  time.Duration
	err   error
}

// fan does jobs as start does, and returns the replies that came before ctx ended
// or the federation stopped. Calls that ignore their context are left to Stop. Jobs marked down are waited for until the others
// have answered, and downGrace has passed.
func fan[T any](ctx context.Context, f *Federation, jobs []job[T]) []reply[T] {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	replies := make(chan reply[T], len(jobs)) // room for all: nobody waits to hand in a late one
	up := 0
	for _, j := range jobs {
		if !j.down {
			up++
		}
	}
	waiting := up
	start(ctx, f, jobs, replies)
	got := make([]reply[T], 0, len(jobs))
	var patience <-chan time.Time
	for len(got) < len(jobs) {
		if up > 0 && waiting == 0 && patience == nil {
			patience = time.After(downGrace - time.Since(began))
		}
		select {
		case r := <-replies:
			got = append(got, r)
			if !r.down {
				waiting--
			}
			continue
		case <-patience:
		case <-ctx.Done():
		case <-f.stopping:
		}
		for range len(replies) {
			got = append(got, <-replies)
		}
		return got
	}
	return got
}

// start begins jobs in their order, MaxParallel at once. A call that gets no
// answer gives its slot to the next one after a while and goes on beside it, so
// that nodes that hang do not keep healthy ones from being asked.
func start[T any](ctx context.Context, f *Federation, jobs []job[T], replies chan<- reply[T]) {
	queue := make(chan job[T], len(jobs))
	for _, j := range jobs {
		queue <- j
	}
	close(queue)
	patience := slot(ctx, len(jobs), f.cfg.MaxParallel)
	for range min(f.cfg.MaxParallel, len(jobs)) {
		f.calls.Go(func() {
			for j := range queue {
				if ctx.Err() != nil {
					return
				}
				answered := make(chan struct{})
				f.calls.Go(func() {
					defer close(answered)
					replies <- j.call(ctx)
				})
				select {
				case <-answered:
				case <-time.After(patience):
				case <-ctx.Done():
				}
			}
		})
	}
}

// slot is how long each of so many calls may hold its slot. In half the time
// that ctx leaves, all of them are begun.
func slot(ctx context.Context, calls, parallel int) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return slotTime
	}
	rounds := (calls + parallel - 1) / parallel
	return min(slotTime, time.Until(deadline)/time.Duration(2*max(rounds, 1)))
}

func (j job[T]) call(ctx context.Context) reply[T] {
	began := time.Now()
	value, err := j.do(ctx)
	return reply[T]{m: j.m, down: j.down, value: value, took: time.Since(began), err: err}
}
