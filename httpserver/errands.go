package httpserver

import (
	"context"
	"sync"
)

// errands are pieces of work that outlive the requests that began them.
type errands struct {
	wg sync.WaitGroup

	mu   sync.Mutex
	over chan struct{} // guarded by mu; made by the first errand, closed by stop
	shut bool          // guarded by mu
}

// run begins an errand. It has the values of ctx, but ends when the server
// stops. After that it is not begun, and run returns false.
func (e *errands) run(ctx context.Context, do func(context.Context)) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.shut {
		return false
	}
	if e.over == nil {
		e.over = make(chan struct{})
	}
	over := e.over
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.wg.Go(func() {
		defer cancel()
		do(ctx)
	})
	e.wg.Go(func() {
		select {
		case <-over:
			cancel()
		case <-ctx.Done():
		}
	})
	return true
}

// stop ends all errands and waits for them, or until ctx ends.
func (e *errands) stop(ctx context.Context) error {
	e.mu.Lock()
	if !e.shut && e.over != nil {
		close(e.over)
	}
	e.shut = true
	e.mu.Unlock()
	done := make(chan struct{})
	go func() {
		e.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
