package gossip

import (
	"bytes"
	"context"
	"time"
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

// keepTelling tells changed facts.
func (p *Pool) keepTelling(ctx context.Context) {
	rhythm{changed: p.changed, always: p.stateless, tell: p.tell}.keep(ctx)
}

// tell hands the facts to memberlist. memberlist drops an update silently when
// it refutes a suspicion at the same moment: then it is told again.
func (p *Pool) tell() {
	// The error says only that not all had it at once: the queue goes on.
	_ = p.list.UpdateNode(time.Nanosecond)
	if p.untold() {
		p.tellSoon()
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
	return !bytes.HasPrefix(p.told, p.facts.encode()) // which no other facts begin with
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
