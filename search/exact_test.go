package search_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"muster"
	"muster/search"
	"muster/search/index"
)

// cluster is real indexes by node ID, reached without a wire.
type cluster struct {
	nodes   []muster.Node
	indexes map[string]*index.Index
	history map[string]*history // by slug
}

func (c *cluster) Nodes() []muster.Node { return slices.Clone(c.nodes) }

func (c *cluster) Pin(ctx context.Context, n muster.Node, q muster.ShardQuery) (muster.ShardStats, error) {
	return c.indexes[n.ID].Pin(ctx, q)
}

func (c *cluster) Search(ctx context.Context, n muster.Node, s muster.ShardSearch) (muster.ShardHits, error) {
	return c.indexes[n.ID].Search(ctx, s)
}

func newCluster(tb testing.TB, size int) *cluster {
	tb.Helper()
	c := &cluster{nodes: newNet(make([][]muster.Document, size)...).nodes, indexes: map[string]*index.Index{}, history: map[string]*history{}}
	dir := tb.TempDir()
	for _, n := range c.nodes {
		x, err := index.Open(filepath.Join(dir, n.Slug), index.Options{})
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() {
			if err := x.Close(); err != nil {
				tb.Error(err)
			}
		})
		c.indexes[n.ID], c.history[n.Slug] = x, &history{states: []shelf{{}}}
	}
	return c
}

func (c *cluster) federation(t *testing.T, self int) *search.Federation {
	t.Helper()
	f := search.New(search.Config{Self: c.nodes[self].ID, MaxParallel: 10}, c, c, c)
	t.Cleanup(func() {
		if err := f.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return f
}

// history is what a node held in each of its generations.
type history struct {
	mu     sync.Mutex
	states []shelf // by generation; guarded by mu
}

func (h *history) at(generation uint64) shelf {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.states[generation]
}

// next notes the generation that a write is about to make, as it can be found
// before its writer is told.
func (h *history) next(change func(shelf)) (generation uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := maps.Clone(h.states[len(h.states)-1])
	change(s)
	h.states = append(h.states, s)
	return uint64(len(h.states) - 1)
}

// write does one random write at a node. Only one goroutine may write there.
func (c *cluster) write(ctx context.Context, r *rand.Rand, n muster.Node, most int) error {
	x, h := c.indexes[n.ID], c.history[n.Slug]
	h.mu.Lock()
	now := h.states[len(h.states)-1]
	h.mu.Unlock()
	switch there := slices.SortedFunc(maps.Keys(now), byKey); {
	case len(there) > 0 && r.IntN(4) == 0:
		return remove(ctx, r, x, h, there)
	case len(there) > 0 && r.IntN(25) == 0:
		collection, gone := there[r.IntN(len(there))][0], 0
		h.next(func(s shelf) {
			before := len(s)
			maps.DeleteFunc(s, func(k [2]string, _ product) bool { return k[0] == collection })
			gone = before - len(s)
		})
		n, err := x.DeleteCollection(ctx, collection)
		return same(n, gone, err)
	case r.IntN(40) == 0:
		h.next(func(shelf) {})
		return x.Rebuild(ctx)
	default:
		return add(ctx, r, x, h, most)
	}
}

func byKey(a, b [2]string) int { return slices.Compare(a[:], b[:]) }

func same(got, want int, err error) error {
	if err == nil && got != want {
		err = fmt.Errorf("%d, want %d", got, want)
	}
	return err
}

// remove removes documents of one collection, and some that are not there.
func remove(ctx context.Context, r *rand.Rand, x *index.Index, h *history, there [][2]string) error {
	first := there[r.IntN(len(there))]
	ids := []string{first[1], "never", first[1], fmt.Sprint("p", r.IntN(60))}
	gone := 0
	h.next(func(s shelf) {
		before := len(s)
		for _, id := range ids {
			delete(s, [2]string{first[0], id})
		}
		gone = before - len(s)
	})
	n, err := x.Delete(ctx, first[0], ids)
	return same(n, gone, err)
}

// add adds and replaces documents, some of them twice in one batch.
func add(ctx context.Context, r *rand.Rand, x *index.Index, h *history, most int) error {
	var docs []muster.Document
	fresh := 0
	generation := h.next(func(s shelf) {
		for range 1 + r.IntN(most) {
			p := anyProduct(r, 60)
			if _, ok := s[[2]string{p.collection, p.id}]; !ok {
				fresh++
			}
			s.put(p)
			docs = append(docs, p.document())
		}
	})
	got, err := x.Put(ctx, docs)
	if err == nil && (got.Generation != generation || got.Indexed != fresh || got.Indexed+got.Updated != len(docs)) {
		err = fmt.Errorf("%+v, want generation %d, %d of %d new", got, generation, fresh, len(docs))
	}
	return err
}

// shelves returns what the named generations held.
func (c *cluster) shelves(a muster.Answer) map[string]shelf {
	all := map[string]shelf{}
	for _, r := range a.Nodes {
		all[r.Node] = c.history[r.Node].at(r.Generation)
	}
	return all
}

// judge compares an answer with the reference for the generations it names.
func (c *cluster) judge(q question, a muster.Answer) error {
	shelves := c.shelves(a)
	total, want := reference(q, shelves)
	whole := len(want) < q.limit // no limit cut it
	want = want[:min(len(want), q.limit)]
	if a.Merge != "exact" || a.Partial || a.Coverage != 1 || a.TotalResults != total || a.Count != len(want) || len(a.Results) != len(want) {
		return fmt.Errorf("%s, partial %v, coverage %v, %d of %d results, want %d of %d", a.Merge, a.Partial, a.Coverage, a.Count, a.TotalResults, len(want), total)
	}
	for _, r := range a.Nodes {
		if r.Docs != uint64(len(shelves[r.Node])) {
			return fmt.Errorf("%s has %d documents, want %d", r.Node, r.Docs, len(shelves[r.Node]))
		}
	}
	for i, h := range a.Results {
		if err := equal(h, want[i], whole); err != nil {
			return fmt.Errorf("hit %d: %w", i, err)
		}
	}
	return nil
}

// equal compares a hit with the wanted one. The duplicates of a hit are found as
// far as its nodes were asked for, all of them where everything was.
func equal(h, want muster.Hit, whole bool) error {
	if h.ID != want.ID || h.Collection != want.Collection || h.SourceNode != want.SourceNode || math.Abs(h.Score-want.Score) > 1e-9 {
		return fmt.Errorf("%s/%s on %s with %v, want %s/%s on %s with %v",
			h.Collection, h.ID, h.SourceNode, h.Score, want.Collection, want.ID, want.SourceNode, want.Score)
	}
	slices.Sort(want.AlsoOn)
	for _, slug := range h.AlsoOn {
		if !slices.Contains(want.AlsoOn, slug) {
			return fmt.Errorf("%s is said to be on %v, too; it is on %v", h.ID, h.AlsoOn, want.AlsoOn)
		}
	}
	if whole && !slices.Equal(h.AlsoOn, want.AlsoOn) {
		return fmt.Errorf("%s is said to be on %v, too; it is on %v", h.ID, h.AlsoOn, want.AlsoOn)
	}
	return nil
}

// fill spreads products unevenly: each node but the last takes a random part of
// the rest, and some lie on two nodes.
func (c *cluster) fill(t *testing.T, r *rand.Rand, products int) {
	t.Helper()
	parts := make([][]product, len(c.nodes))
	for range products {
		p, i := anyProduct(r, 3*products), 0
		for i < len(parts)-1 && r.IntN(3) > 0 {
			i++
		}
		parts[i] = append(parts[i], p)
		if r.IntN(5) == 0 {
			j := r.IntN(len(parts))
			p.seed++
			parts[j] = append(parts[j], p)
		}
	}
	for i, n := range c.nodes {
		if len(parts[i]) == 0 {
			continue
		}
		docs := make([]muster.Document, 0, len(parts[i]))
		c.history[n.Slug].next(func(s shelf) {
			for _, p := range parts[i] {
				s.put(p)
				docs = append(docs, p.document())
			}
		})
		if got, err := c.indexes[n.ID].Put(t.Context(), docs); err != nil || got.Failed > 0 {
			t.Fatal(got, err)
		}
	}
}

func TestClusterOfRealIndexesEqualsTheFormulaOverMaps(t *testing.T) {
	seeds, rounds := uint64(10), 5
	if testing.Short() {
		seeds, rounds = 5, 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 42))
			c := newCluster(t, 1+int(seed)%5)
			f := c.federation(t, r.IntN(len(c.nodes)))
			c.fill(t, r, 300)
			for range rounds {
				for range 40 {
					q := anyQuestion(r)
					if err := c.judge(q, ask(t, f, q.query())); err != nil {
						t.Fatalf("%+v: %v", q, err)
					}
				}
				for _, n := range c.nodes {
					if err := c.write(t.Context(), r, n, 40); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// tally counts answers.
type tally struct {
	mu             sync.Mutex
	exact, inexact int             // guarded by mu
	seen           map[string]bool // the generations they named; guarded by mu
}

func (y *tally) add(a muster.Answer) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if a.Merge != "exact" {
		y.inexact++
		return
	}
	y.exact++
	generations := make([]uint64, 0, len(a.Nodes))
	for _, r := range a.Nodes {
		generations = append(generations, r.Generation)
	}
	y.seen[fmt.Sprint(generations)] = true
}

func (y *tally) states() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return len(y.seen)
}

func TestAnswersEqualTheFormulaForTheGenerationsTheyNameWhileWritesGoOn(t *testing.T) {
	seeds, questions := uint64(5), 120
	if testing.Short() {
		seeds, questions = 3, 30
	}
	exact, inexact := 0, 0
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			y := searchWhileWriting(t, seed, questions)
			exact, inexact = exact+y.exact, inexact+y.inexact
		})
	}
	t.Logf("%d answers exact, %d inexact", exact, inexact)
	if inexact*20 > exact+inexact {
		t.Errorf("%d of %d answers are inexact", inexact, exact+inexact)
	}
}

func searchWhileWriting(t *testing.T, seed uint64, questions int) *tally {
	t.Helper()
	c, y := newCluster(t, 1+int(seed)%5), &tally{seen: map[string]bool{}}
	f := c.federation(t, int(seed)%len(c.nodes))
	c.fill(t, rand.New(rand.NewPCG(seed, 43)), 200)
	ctx, stop := context.WithCancel(t.Context())
	var writers, readers sync.WaitGroup
	for i, n := range c.nodes {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(100+i)))
			for ctx.Err() == nil {
				if err := c.write(t.Context(), r, n, 15); err != nil {
					t.Errorf("%s: %v", n.Slug, err)
					return
				}
			}
		})
	}
	for i := range uint64(2) {
		readers.Go(func() { c.interrogate(t, f, rand.New(rand.NewPCG(seed, i)), questions, y) })
	}
	readers.Wait()
	stop()
	writers.Wait()
	return y
}

// interrogate asks and judges what says that it is exact, until the writers have
// moved on for a while, too.
func (c *cluster) interrogate(t *testing.T, f *search.Federation, r *rand.Rand, questions int, y *tally) {
	t.Helper()
	for i := 0; i < questions || y.states() < 10; i++ {
		q := anyQuestion(r)
		a, err := f.Search(t.Context(), q.query())
		if y.add(a); err == nil && (a.Merge == "exact" || a.Partial) {
			err = c.judge(q, a)
		}
		if err != nil {
			t.Errorf("%+v: %v", q, err)
			return
		}
	}
}
