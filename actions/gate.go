package actions

import (
	"context"
	"slices"

	"muster"
)

// gate lets so many executions of an action in at once, and so many wait.
type gate struct {
	places chan struct{} // running and waiting
	slots  chan struct{} // running
}

func newGate(l Limits) *gate {
	return &gate{places: make(chan struct{}, *l.Concurrency+*l.Queue), slots: make(chan struct{}, *l.Concurrency)}
}

// enter waits for a slot. A full queue is a Limited error at once; leave must
// be called if there is none.
func (g *gate) enter(ctx context.Context) (leave func(), err error) {
	select {
	case g.places <- struct{}{}:
	default:
		return nil, muster.Errorf(muster.Limited, "as many executions as may wait do so already").WithCode(muster.CodeQueueFull)
	}
	if err := take(ctx, g.slots); err != nil {
		<-g.places
		return nil, err
	}
	return func() { <-g.slots; <-g.places }, nil
}

// take puts a token into a channel unless ctx ends first.
func take(ctx context.Context, tokens chan struct{}) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case tokens <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lock takes this node's locks of the given names, in their order, so that two
// executions never wait for each other.
func (e *Executor) lock(ctx context.Context, names []string) (unlock func(), err error) {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	var held []chan struct{}
	unlock = func() {
		for _, l := range held {
			<-l
		}
	}
	for _, name := range names {
		l := e.lockNamed(name)
		if err := take(ctx, l); err != nil {
			unlock()
			return nil, err
		}
		held = append(held, l)
	}
	return unlock, nil
}

func (e *Executor) lockNamed(name string) chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.locks[name] == nil {
		e.locks[name] = make(chan struct{}, 1)
	}
	return e.locks[name]
}
