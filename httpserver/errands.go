package httpserver

import (
	"context"
	"sync"
)

// errands are pieces of work that outlive the requests that began them.
type errands struct {
	wg sync.WaitGroup

	mu   sync.Mutex
	ends map[int]context.CancelFunc // of those under way; guarded by mu
	last int                        // guarded by mu; the number of the newest
	shut bool                       // guarded by mu
}

// run begins an errand. It has the values of ctx, but ends when the server
// stops. After that it is not begun, and run returns false.
func (e *errands) run(ctx context.Context, do func(context.Context)) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.shut {
		return false
	}
	if e.ends == nil {
		e.ends = map[int]context.CancelFunc{}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.last++
	n := e.last
	e.ends[n] = cancel
	e.wg.Go(func() {
		defer e.over(n)
		do(ctx)
	})
	return true
}

func (e *errands) over(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ends[n]()
	delete(e.ends, n)
}

// stop ends all errands and waits for them, or until ctx ends.
func (e *errands) stop(ctx context.Context) error {
	e.mu.Lock()
	for _, end := range e.ends {
		end()
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
