package api

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"muster"
)

const (
	openAfter  = 5                // failures in a row
	openFor    = 30 * time.Second // then one probe may pass
	closeAfter = 2                // successes of probes
	fairTime   = 500 * time.Millisecond
)

// The states of a circuit.
const (
	CircuitClosed   = "closed"
	CircuitOpen     = "open"
	CircuitHalfOpen = "half_open"
)

// Breakers keep calls from nodes that fail one after the other (M. Nygard,
// Release It!, 2nd ed., 5.2). Each node has a circuit of its own: five failures
// in a row open it for 30 seconds, then one call at a time may try, and two that
// succeed close it. The zero value is ready. It runs no goroutine and no timer:
// a circuit changes when somebody calls or looks.
type Breakers struct {
	mu    sync.Mutex
	nodes map[string]*circuit // by node ID; guarded by mu
}

type circuit struct {
	failures  int       // in a row
	successes int       // of probes in a row
	opened    time.Time // zero while closed
	probing   bool      // the one probe is under way
}

func (c *circuit) state(now time.Time) string {
	switch {
	case c.opened.IsZero():
		return CircuitClosed
	case now.Sub(c.opened) < openFor:
		return CircuitOpen
	default:
		return CircuitHalfOpen
	}
}

// Do makes a call to a node unless its circuit is open: then the error is
// Unavailable with the code circuit_open, and nothing was sent.
func (b *Breakers) Do(ctx context.Context, node string, call func() error) error {
	probe, err := b.enter(node)
	if err != nil {
		return err
	}
	began, counted := time.Now(), false
	defer func() {
		if !counted { // call panicked: nobody knows, but the probe is over
			b.leave(node, probe, unheard)
		}
	}()
	err = call()
	counted = true
	b.leave(node, probe, judge(ctx, err, time.Since(began)))
	return err
}

func (b *Breakers) enter(node string) (probe bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, known := b.nodes[node]
	if !known {
		return false, nil
	}
	now := time.Now()
	state := c.state(now)
	if state == CircuitOpen || state == CircuitHalfOpen && c.probing {
		wait := max(0, openFor-now.Sub(c.opened)).Round(time.Second)
		return false, muster.Errorf(muster.Unavailable, "not asked: it failed %d times in a row; the next try is in %v", c.failures, wait).
			WithCode(muster.CodeCircuitOpen)
	}
	c.probing = state == CircuitHalfOpen
	return c.probing, nil
}

// verdict is what a call says of its target.
type verdict int

const (
	unheard verdict = iota // nothing: the caller went away, or did not wait long enough
	answered
	failing
)

// judge tells faults of the target from those of the caller. An answer below 500
// is an answer, whatever it says; a caller who waits for a blink proves nothing.
func judge(ctx context.Context, err error, took time.Duration) verdict {
	switch {
	case err == nil:
		return answered
	case slices.Contains([]string{codeBadAnswer, codeTooLarge, codeRedirected, codeRunning}, muster.CodeOf(err)):
		return answered
	case slices.Contains([]string{codeBadAddress, muster.CodeCircuitOpen}, muster.CodeOf(err)):
		return unheard
	case errors.Is(ctx.Err(), context.Canceled), ctx.Err() != nil && took < fairTime:
		return unheard
	case Status(err) < 500:
		return answered
	default:
		return failing
	}
}

func (b *Breakers) leave(node string, probe bool, v verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, known := b.nodes[node]
	if !known {
		if v != failing {
			return
		}
		if b.nodes == nil {
			b.nodes = map[string]*circuit{}
		}
		c = &circuit{}
		b.nodes[node] = c
	}
	if probe {
		c.probing = false
	}
	switch {
	case v == unheard, !c.opened.IsZero() && !probe: // a call from before it opened decides nothing any more
	case v == failing:
		c.fail(time.Now(), probe)
	case !probe:
		c.failures = 0
	default:
		if c.successes++; c.successes >= closeAfter {
			*c = circuit{}
		}
	}
}

func (c *circuit) fail(now time.Time, probe bool) {
	c.failures++
	c.successes = 0
	if probe || c.failures >= openAfter {
		c.opened = now
	}
}

// Circuit returns a node's circuit as it is now.
func (b *Breakers) Circuit(node string) muster.Circuit {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, known := b.nodes[node]
	if !known {
		return muster.Circuit{State: CircuitClosed}
	}
	out := muster.Circuit{State: c.state(time.Now()), Failures: c.failures}
	if !c.opened.IsZero() {
		opened, retry := c.opened.UTC(), c.opened.Add(openFor).UTC()
		out.OpenedAt, out.RetryAt = &opened, &retry
	}
	return out
}

// Circuits returns the circuits of all nodes that ever failed, by node ID. All
// others are closed.
func (b *Breakers) Circuits() map[string]muster.Circuit {
	b.mu.Lock()
	ids := slices.Collect(maps.Keys(b.nodes))
	b.mu.Unlock()
	all := map[string]muster.Circuit{}
	for _, id := range ids {
		all[id] = b.Circuit(id)
	}
	return all
}

// Back closes the circuit of a node that is known to live again since a time, if
// it was opened before.
func (b *Breakers) Back(node string, since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c, known := b.nodes[node]; known && !c.opened.IsZero() && c.opened.Before(since) {
		delete(b.nodes, node)
	}
}
