package gossip

import (
	"bytes"
	"context"
	"time"
)

const (
	factsEvery = 500 * time.Millisecond
	factsAgain = 2 * time.Second
)

// SetFacts changes what this node tells. The first change after half a second
// of quiet goes out at once, later ones together.
func (p *Pool) SetFacts(change func(*Facts)) {
	p.mu.Lock()
	change(&p.facts)
	p.mu.Unlock()
	p.tellSoon()
}

func (p *Pool) tellSoon() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// keepTelling tells changed facts. memberlist drops an update silently when it
// refutes a suspicion at the same moment, so one that it did not take is told
// again; and while nodes wait for each other to found a cluster, nothing else
// would repeat soon what a lost packet carried. That an update has not gone out
// to all within the time given says nothing: the queue goes on sending it.
func (p *Pool) keepTelling(ctx context.Context) {
	again := time.NewTicker(factsAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
		case <-again.C:
			if !p.stateless() {
				continue
			}
		}
		if err := p.list.UpdateNode(leaveTimeout); err != nil {
			p.log.Debug("tell facts", "error", err)
		}
		if p.untold() {
			p.tellSoon()
		}
		if !pause(ctx, factsEvery) {
			return
		}
	}
}

func (p *Pool) stateless() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.facts.Stateless
}

// took notes the facts as memberlist now has them.
func (p *Pool) took(meta []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = bytes.Clone(meta)
}

func (p *Pool) untold() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !bytes.Equal(p.facts.encode(), p.told)
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
