package actions

import (
	"context"
	"sync"
)

// calls are the calls under way, which stop can end.
type calls struct {
	mu      sync.Mutex
	stopped bool                            // guarded by mu
	next    int                             // guarded by mu
	cancels map[int]context.CancelCauseFunc // guarded by mu
	wg      sync.WaitGroup
}

// begin counts a call in. Its context ends with ctx, at stop with errStopping,
// and when end is called. After stop it is refused with errStopping.
func (c *calls) begin(ctx context.Context) (_ context.Context, end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return ctx, nil, errStopping
	}
	if c.cancels == nil {
		c.cancels = map[int]context.CancelCauseFunc{}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	c.next++
	id := c.next
	c.cancels[id] = cancel
	c.wg.Add(1)
	return ctx, func() {
		c.mu.Lock()
		delete(c.cancels, id)
		c.mu.Unlock()
		cancel(nil)
		c.wg.Done()
	}, nil
}

// stop ends all calls, refuses new ones and waits until the last has returned
// or ctx ends.
func (c *calls) stop(ctx context.Context) error {
	c.mu.Lock()
	c.stopped = true
	for _, cancel := range c.cancels {
		cancel(errStopping)
	}
	c.mu.Unlock()
	done := make(chan struct{})
	go func() {
		c.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
