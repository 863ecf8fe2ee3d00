package index

import (
	"context"
	"errors"
	"time"

	bleve "github.com/blevesearch/bleve_index_api"

	"muster"
	"muster/search/query"
)

type pinKey struct {
	index      string
	generation uint64
}

// pin keeps one generation readable. Its fields are guarded by Index.pinMu.
type pin struct {
	reader bleve.IndexReader
	used   time.Time
	refs   int // searches that read now
}

// Pin keeps the present generation readable for Options.PinFor after its last
// use, unless Options.Pins later ones push it out, and returns its statistics for all terms of the query that can score on
// any node, and the metadata keys named in it that exist here.
func (x *Index) Pin(ctx context.Context, sq muster.ShardQuery) (s muster.ShardStats, err error) {
	q, err := query.Parse(sq.Text)
	if err != nil {
		return s, err
	}
	// What is a metadata key elsewhere adds no score, so that the terms of
	// the plain text are all that can be asked for.
	p, err := newPlan(x.analyzer, q, sq)
	if err != nil {
		return s, err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return s, errClosed()
	}
	at, held, t, err := x.hold()
	if err != nil {
		return s, err
	}
	defer x.release(held)
	s = muster.ShardStats{
		IndexID: at.index, Generation: at.generation, ScoringID: ScoringID,
		Tokens: t.tokens.table(), DF: make(map[string]map[string]uint64),
	}
	if s.Docs, err = held.reader.DocCount(); err != nil {
		return s, err
	}
	for _, t := range p.terms {
		if t.qtf == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return s, err
		}
		if s.DF[t.field] == nil {
			s.DF[t.field] = make(map[string]uint64)
		}
		if s.DF[t.field][t.text], err = documents(ctx, held.reader, t.field, t.text); err != nil {
			return s, err
		}
	}
	for _, k := range q.Candidates() {
		n, err := documents(ctx, held.reader, fieldKeys, k)
		if err != nil {
			return s, err
		}
		if n > 0 {
			s.Keys = append(s.Keys, k)
		}
	}
	return s, nil
}

// hold pins the present generation and marks it as in use.
func (x *Index) hold() (at pinKey, p *pin, t totals, err error) {
	r, err := x.eng.index.Reader()
	if err != nil {
		return at, nil, t, err
	}
	if t, err = readTotals(r); err != nil {
		return at, nil, t, errors.Join(err, r.Close())
	}
	at = pinKey{x.eng.id, t.generation}
	x.pinMu.Lock()
	defer x.pinMu.Unlock()
	if p = x.pins[at]; p != nil {
		_ = r.Close() // the same snapshot, which the pin goes on holding
	} else {
		x.evictLocked()
		p = &pin{reader: r}
		x.pins[at] = p
	}
	p.refs++
	return at, p, t, nil
}

// evictLocked makes room for a pin: it lets go of the one that has not been used
// for longest. Each holds files open and memory. It expects pinMu to be held.
func (x *Index) evictLocked() {
	if len(x.pins) < x.opts.Pins {
		return
	}
	var oldest pinKey
	var least *pin
	for at, p := range x.pins {
		if p.refs == 0 && (least == nil || p.used.Before(least.used)) {
			oldest, least = at, p
		}
	}
	if least != nil {
		x.letGoLocked(oldest, least)
	}
}

func (x *Index) letGoLocked(at pinKey, p *pin) {
	_ = p.reader.Close() // gives back files, which the next open would do, too
	delete(x.pins, at)
}

// pinned marks a pinned generation as in use, or returns nil.
func (x *Index) pinned(at pinKey) *pin {
	x.pinMu.Lock()
	defer x.pinMu.Unlock()
	p := x.pins[at]
	if p != nil {
		p.refs++
	}
	return p
}

func (x *Index) release(p *pin) {
	x.pinMu.Lock()
	defer x.pinMu.Unlock()
	p.refs--
	p.used = time.Now()
}

// expirePins lets go of generations that nobody asks for any more.
func (x *Index) expirePins() {
	tick := time.NewTicker(max(x.opts.PinFor/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-x.closing:
			return
		case now := <-tick.C:
			x.expire(now.Add(-x.opts.PinFor))
		}
	}
}

func (x *Index) expire(before time.Time) {
	x.pinMu.Lock()
	defer x.pinMu.Unlock()
	for at, p := range x.pins {
		if p.refs == 0 && p.used.Before(before) {
			x.letGoLocked(at, p)
		}
	}
}

// dropPins lets go of all generations. x.mu is held, so that nobody reads.
func (x *Index) dropPins() (err error) {
	x.pinMu.Lock()
	defer x.pinMu.Unlock()
	for at, p := range x.pins {
		err = errors.Join(err, p.reader.Close())
		delete(x.pins, at)
	}
	return err
}
