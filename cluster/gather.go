package cluster

import "sync"

// gather has things done together that come together: what comes while a round
// is under way waits for the next one. Nothing waits for more to come.
type gather[T any] struct {
	do   func(round []T)              // does a round, in the order it came
	run  func(func()) bool            // begins a goroutine; false: none is begun any more
	lost func(T)                      // hears of what is not done because of that
	full func(round []T, next T) bool // whether the next one does not fit in; nil: it always does
	most int                          // rounds at once

	mu      sync.Mutex
	waiting []T // guarded by mu
	rounds  int // guarded by mu; under way
}

// add has one more done, in a round that begins after this call did.
func (g *gather[T]) add(t T) {
	g.mu.Lock()
	g.waiting = append(g.waiting, t)
	begin := g.rounds < g.most
	if begin {
		g.rounds++
	}
	g.mu.Unlock()
	if !begin || g.run(func() { g.rest(g.do) }) {
		return
	}
	g.rest(func(round []T) {
		for _, t := range round {
			g.lost(t)
		}
	})
}

// rest does rounds until nothing waits.
func (g *gather[T]) rest(do func(round []T)) {
	for round := g.next(); round != nil; round = g.next() {
		do(round)
	}
}

// next is what the next round does; nil ends the rounds.
func (g *gather[T]) next() []T {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for n < len(g.waiting) && (n == 0 || g.full == nil || !g.full(g.waiting[:n], g.waiting[n])) {
		n++
	}
	if n == 0 {
		g.rounds--
		g.waiting = nil
		return nil
	}
	round := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	return round
}
