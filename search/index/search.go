package index

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	bleve "github.com/blevesearch/bleve_index_api"

	"muster"
	"muster/search/query"
)

// BM25 as Robertson and Zaragoza have it (2009, 3.3), without the factor k1+1,
// which changes no order. See DESIGN.md 4.
const (
	k1          = 1.2
	b           = 0.75
	titleWeight = 0.3
)

// checkEvery documents a search looks at its context.
const checkEvery = 512

// Search answers a page of hits of a pinned generation, scored with the given
// statistics. A generation that is no longer kept, or of another index, is Gone
// with code "generation_gone".
func (x *Index) Search(ctx context.Context, s muster.ShardSearch) (out muster.ShardHits, err error) {
	if s.From < 0 || s.Size < 0 {
		return out, muster.FieldError("size", "from and size must not be negative")
	}
	q, err := query.Parse(s.Query.Text)
	if err != nil {
		return out, err
	}
	p, err := newPlan(x.analyzer, q.Resolve(s.Stats.Keys), s.Query)
	if err != nil {
		return out, err
	}
	e, err := x.enter()
	if err != nil {
		return out, err
	}
	defer e.users.Done()
	var held *pin
	if e.id == s.IndexID {
		held = e.pins.use(s.Generation)
	}
	if held == nil {
		return out, muster.Errorf(muster.Gone, "generation %d of index %s is not kept", s.Generation, s.IndexID).
			WithCode("generation_gone").WithHint("ask for the statistics again")
	}
	defer e.pins.release(held)
	m := &matcher{ctx: ctx, reader: held.reader, plan: p, best: ranking{size: s.From + s.Size}}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.open(s.Stats); err != nil {
		return out, err
	}
	if p.all {
		err = m.scanAll()
	} else {
		err = m.scan()
	}
	if err != nil {
		return out, err
	}
	out = muster.ShardHits{Matched: m.matched, Hits: []muster.ShardHit{}}
	for _, f := range m.best.page(s.From) {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		h, err := m.hit(f, s.ContentLength)
		if err != nil {
			return out, err
		}
		out.Hits = append(out.Hits, h)
	}
	return out, nil
}

func (m *matcher) hit(f found, length int) (h muster.ShardHit, err error) {
	d, err := loadAt(m.reader, f.number)
	if err != nil {
		return h, fmt.Errorf("document %q of a pinned generation: %w", f.key, err)
	}
	h.ID, h.Score, h.Title, h.URL, h.Collection, h.Metadata = d.ID, f.score, d.Title, d.URL, d.Collection, d.Metadata
	if h.Metadata == nil {
		h.Metadata = muster.Metadata{}
	}
	h.AlsoOn = []string{}
	h.Content, h.Truncated = cut(d.Content, length)
	h.ContentKey = contentKey(d.Content)
	return h, nil
}

// found is a document found. Byte order of keys is the order of the answer.
type found struct {
	score  float64
	key    string
	number uint64 // its place in the snapshot
}

// better reports whether f comes before g: score, then collection, then ID.
func better(f, g found) bool {
	if f.score != g.score {
		return f.score > g.score
	}
	return f.key < g.key
}

// ranking is a heap of the best size documents, the worst on top.
type ranking struct {
	size int
	list []found
}

func (r *ranking) Len() int           { return len(r.list) }
func (r *ranking) Less(i, j int) bool { return better(r.list[j], r.list[i]) }
func (r *ranking) Swap(i, j int)      { r.list[i], r.list[j] = r.list[j], r.list[i] }
func (r *ranking) Push(v any)         { r.list = append(r.list, v.(found)) }
func (r *ranking) Pop() any {
	last := r.list[len(r.list)-1]
	r.list = r.list[:len(r.list)-1]
	return last
}

// wants reports whether a document of this score could be among the best.
func (r *ranking) wants(score float64) bool {
	return len(r.list) < r.size || r.size > 0 && score >= r.list[0].score
}

func (r *ranking) offer(f found) {
	if len(r.list) < r.size {
		heap.Push(r, f)
	} else if r.size > 0 && better(f, r.list[0]) {
		r.list[0] = f
		heap.Fix(r, 0)
	}
}

// page returns the best, in order, from position from on.
func (r *ranking) page(from int) []found {
	slices.SortFunc(r.list, func(f, g found) int {
		switch {
		case better(f, g):
			return -1
		case better(g, f):
			return 1
		default:
			return strings.Compare(f.key, g.key)
		}
	})
	return r.list[min(from, len(r.list)):]
}

// postings reads the documents of one term, in the order of their numbers.
type postings struct {
	term
	reader bleve.TermFieldReader
	order  int // place of the term in the query
	doc    bleve.TermFieldDoc
	number uint64
	end    bool

	scale
}

func (p *postings) next() error { return p.set(p.reader.Next(p.doc.Reset())) }

func (p *postings) set(d *bleve.TermFieldDoc, err error) error {
	if err != nil {
		return err
	}
	if p.end = d == nil; !p.end {
		p.number = d.ID.Value()
	}
	return nil
}

// has reports whether the term is in the document. Documents are asked for in
// rising order.
func (p *postings) has(id bleve.IndexInternalID) (bool, error) {
	if !p.end && p.number < id.Value() {
		if err := p.set(p.reader.Advance(id, p.doc.Reset())); err != nil {
			return false, err
		}
	}
	return !p.end && p.number == id.Value(), nil
}

// score is what the term adds to the present document.
func (p *postings) score() float64 {
	if p.qtf == 0 {
		return 0
	}
	tf := float64(p.doc.Freq)
	dl := math.Round(1 / (p.doc.Norm * p.doc.Norm)) // bleve keeps 1/sqrt(length)
	return p.of(p.qtf, tf, dl)
}

// queue is a heap of postings by their present document.
type queue []*postings

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].number < q[j].number }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(v any)        { *q = append(*q, v.(*postings)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// matcher runs one search, a document at a time.
type matcher struct {
	ctx    context.Context //nolint:containedctx // lives as long as one call
	reader bleve.IndexReader
	plan   plan

	opened []*postings
	queue  queue
	nots   [][]*postings
	needs  [][]*postings

	seen, matched int
	best          ranking
}

func (m *matcher) open(s muster.ShardStats) error {
	for i, t := range m.plan.terms {
		p, err := m.postings(t, t.qtf > 0)
		if err != nil {
			return err
		}
		p.order = i
		if t.qtf > 0 {
			p.scale = t.scale(s)
		}
		if !p.end {
			m.queue = append(m.queue, p)
		}
	}
	heap.Init(&m.queue)
	for _, not := range m.plan.nots {
		all, err := m.all(not)
		if err != nil {
			return err
		}
		m.nots = append(m.nots, all)
	}
	for _, need := range m.plan.needs {
		all, err := m.all(need)
		if err != nil {
			return err
		}
		m.needs = append(m.needs, all)
	}
	return nil
}

func (m *matcher) all(terms []term) (list []*postings, err error) {
	for _, t := range terms {
		p, err := m.postings(t, false)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// postings opens the postings of a term at their first document.
func (m *matcher) postings(t term, scores bool) (*postings, error) {
	if err := m.ctx.Err(); err != nil {
		return nil, err
	}
	r, err := m.reader.TermFieldReader(m.ctx, []byte(t.text), t.field, scores, scores, false)
	if err != nil {
		return nil, err
	}
	p := &postings{term: t, reader: r}
	m.opened = append(m.opened, p)
	return p, p.next()
}

func (m *matcher) close() (err error) {
	for _, p := range m.opened {
		err = errors.Join(err, p.reader.Close())
	}
	return err
}

// scan goes through the documents that have a term of the query.
func (m *matcher) scan() error {
	var here []*postings // the terms that the present document has
	for len(m.queue) > 0 {
		here = here[:0]
		number := m.queue[0].number
		required := 0
		for len(m.queue) > 0 && m.queue[0].number == number {
			p := heap.Pop(&m.queue).(*postings)
			if p.required {
				required++
			}
			here = append(here, p)
		}
		if required == m.plan.required {
			if err := m.consider(here[0].doc.ID, here); err != nil {
				return err
			}
		} else if err := m.look(); err != nil {
			return err
		}
		for _, p := range here {
			if err := p.next(); err != nil {
				return err
			}
			if !p.end {
				heap.Push(&m.queue, p)
			}
		}
	}
	return nil
}

// scanAll goes through all documents, for a query that only excludes.
func (m *matcher) scanAll() (err error) {
	ids, err := m.reader.DocIDReaderAll()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ids.Close()) }()
	for {
		id, err := ids.Next()
		if err != nil || id == nil {
			return err
		}
		if err := m.consider(id, nil); err != nil {
			return err
		}
	}
}

// look looks, now and then, whether anybody still waits.
func (m *matcher) look() error {
	if m.seen++; m.seen%checkEvery == 0 {
		return m.ctx.Err()
	}
	return nil
}

// consider counts, scores and ranks a document unless it is filtered out.
func (m *matcher) consider(id bleve.IndexInternalID, here []*postings) error {
	if err := m.look(); err != nil {
		return err
	}
	if ok, err := m.passes(id); err != nil || !ok {
		return err
	}
	m.matched++
	// Sums depend on their order; this one is the same on every node.
	slices.SortFunc(here, func(p, q *postings) int { return p.order - q.order })
	score := 0.0
	for _, p := range here {
		score += p.score()
	}
	if !m.best.wants(score) {
		return nil
	}
	key, err := m.reader.ExternalID(id)
	if err != nil {
		return err
	}
	m.best.offer(found{score, key, id.Value()})
	return nil
}

func (m *matcher) passes(id bleve.IndexInternalID) (bool, error) {
	for _, need := range m.needs {
		in, err := anyHas(need, id)
		if err != nil || !in {
			return false, err
		}
	}
	for _, not := range m.nots {
		out, err := allHave(not, id)
		if err != nil || out {
			return false, err
		}
	}
	return true, nil
}

func anyHas(list []*postings, id bleve.IndexInternalID) (bool, error) {
	for _, p := range list {
		if ok, err := p.has(id); err != nil || ok {
			return ok, err
		}
	}
	return false, nil
}

func allHave(list []*postings, id bleve.IndexInternalID) (bool, error) {
	for _, p := range list {
		if ok, err := p.has(id); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}
