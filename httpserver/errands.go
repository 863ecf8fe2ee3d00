package httpserver

import (
	"context"
	"sync"
)

// errands are pieces of work that outlive the requests that began them.
type errands struct {
	wg sync.WaitGroup

	mu   sync.Mutex
	over context.Context    // guarded by mu; made by the first errand, ended by stop
	end  context.CancelFunc // guarded by mu; of over
	shut bool               // guarded by mu
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
		e.over, e.end = context.WithCancel(context.Background())
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	forget := context.AfterFunc(e.over, cancel)
	e.wg.Go(func() {
		defer cancel()
		defer forget()
		do(ctx)
	})
	return true
}

// stop ends all errands and waits for them, or until ctx ends.
func (e *errands) stop(ctx context.Context) error {
	e.mu.Lock()
	if !e.shut && e.over != nil {
		e.end()
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
