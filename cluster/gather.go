package cluster

import (
	"sync"
	"time"
)

const (
	few       = 4  // of fewer each goes as it comes
	mostAlone = 31 // rounds after which nobody is waited for, because nobody came
)

// gather has things done together that come together: what comes while a round
// is under way waits for the next one. Nothing waits for more to come, unless
// linger is set: then those who were answered get a moment to ask again; or pause:
// then all get one, unless the next round is full.
type gather[T any] struct {
	do   func(round []T)              // does a round, in the order it came
	run  func(func()) bool            // begins a goroutine; false: none is begun any more
	lost func(T)                      // hears of what is not done because of that
	full func(round []T, next T) bool // whether the next one does not fit in; nil: it always does
	most int                          // rounds at once

	linger func(took time.Duration) time.Duration          // at most, after a round that took that long; nil: not at all
	pause  func(did int, took time.Duration) time.Duration // before the next round begins; nil: none

	mu      sync.Mutex
	waiting []T           // guarded by mu
	rounds  int           // guarded by mu; under way
	wanted  int           // guarded by mu; as many as it waits for; 0: it does not
	enough  chan struct{} // holds one once they have come
	alone   int           // guarded by mu; rounds to come after which it does not wait
	doubt   int           // guarded by mu; how many that were when it last waited in vain
}

// add has one more done, in a round that begins after this call did.
func (g *gather[T]) add(t T) {
	g.mu.Lock()
	g.waiting = append(g.waiting, t)
	if g.wanted > 0 && len(g.waiting) >= g.wanted {
		g.wanted = 0
		g.enough <- struct{}{}
	}
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
		began := time.Now()
		do(round)
		took := time.Since(began)
		g.wait(len(round), took)
		if g.pause != nil && !g.isFull() {
			<-time.After(g.pause(len(round), took))
		}
	}
}

// wait gives those who were just answered a moment to ask again, so that they go
// with those who wait already: otherwise everybody would come in two halves that
// take turns, and each round does half as much at the same price. Who is alone
// waits for nobody; and after a wait in which not three of four came, the next
// rounds wait for nobody, the more of them the more often that happened.
func (g *gather[T]) wait(answered int, took time.Duration) {
	if g.linger == nil {
		return
	}
	g.mu.Lock()
	before := len(g.waiting)
	all := answered + before
	if all < few || g.alone > 0 || g.fullLocked() {
		g.alone = max(0, g.alone-1)
		g.mu.Unlock()
		return
	}
	g.wanted, g.enough = all, make(chan struct{}, 1)
	enough := g.enough
	g.mu.Unlock()
	limit := time.NewTimer(g.linger(took))
	defer limit.Stop()
	select {
	case <-enough:
	case <-limit.C:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wanted = 0
	if 4*(len(g.waiting)-before) >= 3*answered {
		g.doubt = 0
		return
	}
	g.doubt = min(2*g.doubt+1, mostAlone)
	g.alone = g.doubt
}

func (g *gather[T]) isFull() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fullLocked()
}

// fullLocked reports whether the next round has no room for anybody who comes.
func (g *gather[T]) fullLocked() bool {
	last := len(g.waiting) - 1
	return last > 0 && g.full != nil && g.full(g.waiting[:last], g.waiting[last])
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
