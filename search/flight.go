package search

import (
	"context"
	"fmt"
	"time"

	"muster"
)

// flight is one fan-out that any number of callers wait for. Its results are
// valid once done is closed.
type flight struct {
	done   chan struct{}
	answer muster.Answer
	err    error
}

// find takes an answer from the cache, from an equal search under way, or from
// the nodes.
func (f *Federation) find(ctx context.Context, p plan, q muster.Query) (muster.Answer, error) {
	if f.cache == nil || !p.cache {
		return f.fanOut(ctx, p), nil
	}
	key, err := p.key(q, muster.RightsOf(ctx))
	if err != nil {
		return muster.Answer{}, err
	}
	now := f.marks(p.members)
	if a, ok := f.cache.load(key, now); ok {
		return a, nil
	}
	// Who has less time than was said must not cut the answer of others short.
	if end, ok := ctx.Deadline(); ok && time.Until(end) < p.timeout {
		f.cache.misses.Add(1)
		return f.fanOut(ctx, p), nil
	}
	fl, leads, hit := f.join(key, now)
	switch {
	case fl == nil:
		return hit, nil
	case leads:
		f.cache.misses.Add(1)
		own := context.WithoutCancel(ctx) // the others go on waiting when this caller goes away
		f.calls.Go(func() { f.fly(own, fl, p, key, now) })
	default:
		f.cache.shared.Add(1)
	}
	select {
	case <-fl.done:
		return fl.answer, fl.err
	case <-ctx.Done():
		return muster.Answer{}, muster.Errorf(muster.Timeout, "the search was not awaited: %w", context.Cause(ctx))
	}
}

// join returns the equal search under way, or a new one that the caller leads,
// or, without a flight, the answer that came just now.
func (f *Federation) join(key string, now []mark) (fl *flight, leads bool, hit muster.Answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl = f.flights[flightKey(key, now)]; fl != nil {
		return fl, false, hit
	}
	if hit, ok := f.cache.load(key, now); ok {
		return nil, false, hit
	}
	fl = &flight{done: make(chan struct{})}
	f.flights[flightKey(key, now)] = fl
	return fl, true, hit
}

// fly asks the nodes and keeps the answer before the flight ends, so that who
// comes later finds one of both. A panic is one search's, not the node's.
func (f *Federation) fly(ctx context.Context, fl *flight, p plan, key string, before []mark) {
	defer close(fl.done)
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.flights, flightKey(key, before))
	}()
	defer func() {
		if v := recover(); v != nil {
			fl.err = fmt.Errorf("search: %v", v)
		}
	}()
	fl.answer = f.fanOut(ctx, p)
	f.cache.store(key, p.shard.Text, fl.answer, p.members, before)
}

// flightKey tells searches apart whose answers could differ: by another request,
// or because a change of an index was heard of in between.
func flightKey(key string, now []mark) string { return fmt.Sprint(key, now) }
