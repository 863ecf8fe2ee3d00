package index

import (
	"context"
	"errors"
	"sync"
	"time"

	bleve "github.com/blevesearch/bleve_index_api"

	"muster"
	"muster/search/query"
)

// pins are the generations of one engine that are kept.
type pins struct {
	most int // besides those that are read now

	mu   sync.Mutex
	kept map[uint64]*pin // by generation; guarded by mu, and so is what is in them
}

// pin keeps one generation readable.
type pin struct {
	reader bleve.IndexReader
	used   time.Time
	refs   int // searches that read now
}

// Pin keeps the present generation readable for Options.PinFor after its last
// use, unless Options.Pins later ones or a Rebuild push it out. It returns its
// statistics for all terms of the query that can score on any node, and the
// metadata keys named in it that exist here.
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
	e, err := x.enter()
	if err != nil {
		return s, err
	}
	defer e.users.Done()
	held, t, err := e.hold()
	if err != nil {
		return s, err
	}
	defer e.pins.release(held)
	s = muster.ShardStats{
		IndexID: e.id, Generation: t.generation, ScoringID: ScoringID,
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
func (e *engine) hold() (p *pin, t totals, err error) {
	r, err := e.index.Reader()
	if err != nil {
		return nil, t, err
	}
	if t, err = readTotals(r); err != nil {
		return nil, t, errors.Join(err, r.Close())
	}
	return e.pins.add(t.generation, r), t, nil
}

// add keeps a generation that r reads, and marks it as in use.
func (s *pins) add(generation uint64, r bleve.IndexReader) *pin {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.kept[generation]
	if p != nil {
		_ = r.Close() // the same snapshot, which the pin goes on holding
	} else {
		s.evictLocked()
		p = &pin{reader: r}
		s.kept[generation] = p
	}
	p.refs++
	return p
}

// evictLocked makes room for a pin: it lets go of the one that has not been used
// for longest. Each holds files open and memory. It expects mu to be held.
func (s *pins) evictLocked() {
	if len(s.kept) < s.most {
		return
	}
	var oldest uint64
	var least *pin
	for at, p := range s.kept {
		if p.refs == 0 && (least == nil || p.used.Before(least.used)) {
			oldest, least = at, p
		}
	}
	if least != nil {
		s.letGoLocked(oldest, least)
	}
}

func (s *pins) letGoLocked(generation uint64, p *pin) {
	_ = p.reader.Close() // gives back files, which the next open would do, too
	delete(s.kept, generation)
}

// use marks a pinned generation as in use, or returns nil.
func (s *pins) use(generation uint64) *pin {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.kept[generation]
	if p != nil {
		p.refs++
	}
	return p
}

func (s *pins) release(p *pin) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
			if e, err := x.enter(); err == nil {
				e.pins.expire(now.Add(-x.opts.PinFor))
				e.users.Done()
			}
		}
	}
}

func (s *pins) expire(before time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, p := range s.kept {
		if p.refs == 0 && p.used.Before(before) {
			s.letGoLocked(at, p)
		}
	}
}

// drop lets go of all generations. It expects that nobody reads.
func (s *pins) drop() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, p := range s.kept {
		err = errors.Join(err, p.reader.Close())
		delete(s.kept, at)
	}
	return err
}
