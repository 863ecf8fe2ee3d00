package actions

import (
	"context"
	"slices"
	"sync"
)

// calls are the calls under way, which stop can end.
type calls struct {
	mu      sync.Mutex
	stopped bool                            // guarded by mu
	next    int                             // guarded by mu
	cancels map[int]context.CancelCauseFunc // guarded by mu
	names   map[int]string                  // guarded by mu
	over    []string                        // names that were ended, the latest last; guarded by mu
	wg      sync.WaitGroup
}

// maxOver is how many ended names are remembered: a call may be on its way when
// its name is ended.
const maxOver = 1000

// begin counts a call in. Its context ends with ctx, at stop with errStopping,
// when its name is cancelled with errCancelled, and when end is called. After that
// a call is refused with the same.
func (c *calls) begin(ctx context.Context, name string) (_ context.Context, end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return ctx, nil, errStopping
	}
	if name != "" && slices.Contains(c.over, name) {
		return ctx, nil, errCancelled
	}
	if c.cancels == nil {
		c.cancels, c.names = map[int]context.CancelCauseFunc{}, map[int]string{}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	c.next++
	id := c.next
	c.cancels[id], c.names[id] = cancel, name
	c.wg.Add(1)
	return ctx, func() {
		c.mu.Lock()
		delete(c.cancels, id)
		delete(c.names, id)
		c.mu.Unlock()
		cancel(nil)
		c.wg.Done()
	}, nil
}

// cancel ends the calls of a name, and those that come yet; without a name none.
func (c *calls) cancel(name string) {
	if name == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = append(c.over, name)
	c.over = c.over[max(0, len(c.over)-maxOver):]
	for id, named := range c.names {
		if named == name {
			c.cancels[id](errCancelled)
		}
	}
}

// stopping reports whether stop was called.
func (c *calls) stopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped
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
