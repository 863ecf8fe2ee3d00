package search_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"muster"
	"muster/search"
)

// gossip is what is told of indexes.
type gossip struct {
	mu   sync.Mutex
	told map[string]state // by node ID; guarded by mu
}

type state struct {
	indexID    string
	generation uint64
}

func (g *gossip) Generation(id string) (string, uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.told[id].indexID, g.told[id].generation
}

func (g *gossip) tell(slug, indexID string, generation uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told["id-"+slug] = state{indexID, generation}
}

// cached joins the net as node a, with a cache. All indexes stand still.
func (n *net) cached(t *testing.T, change func(*search.Config)) (*search.Federation, *gossip) {
	t.Helper()
	g := &gossip{told: map[string]state{}}
	for _, node := range n.nodes {
		n.shards[node.ID].still = true
		g.tell(node.Slug, "index-"+node.ID, 1)
	}
	cfg := search.Config{Self: "id-a", MaxParallel: 10, CacheBytes: 1 << 20, Generations: g}
	if change != nil {
		change(&cfg)
	}
	f := search.New(cfg, n, n, n)
	t.Cleanup(func() {
		if err := f.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return f, g
}

// write makes the next generation of a node's index, with one more document.
func (n *net) write(slug string, d muster.Document) uint64 {
	s := n.shard(slug)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.docs = append(slices.Clone(s.docs), d)
	s.generation++
	return s.generation
}

func by(principal string, scopes ...string) muster.Rights {
	return muster.Rights{Principal: principal, Scopes: scopes}
}

func TestAnEqualRequestIsAnsweredWithoutAskingAnybody(t *testing.T) {
	n := newNet(some("a", 3), some("b", 3))
	f, _ := n.cached(t, nil)
	first := ask(t, f, muster.Query{Text: "fox"})
	for what, q := range map[string]muster.Query{
		"the same":          {Text: "fox"},
		"white space":       {Text: " fox\n"},
		"defaults said":     {Text: "fox", Limit: 10, Options: muster.QueryOptions{TimeoutMs: 2000, Operator: "or", Language: "en", Merge: "auto", ContentLength: new(500), Dedupe: new(true), Cache: new(true)}},
		"all nodes by name": {Text: "fox", Options: muster.QueryOptions{Nodes: &[]string{"b", "id-a", "a"}}},
		"what only judges":  {Text: "fox", Options: muster.QueryOptions{MinCoverage: 1, Require: []string{"b"}}},
	} {
		a := ask(t, f, q)
		if !a.Cached || a.Query != q.Text || !slices.Equal(ids(a), ids(first)) || a.TotalResults != 6 || a.NodesSearched != 2 {
			t.Errorf("%s: %+v", what, a)
		}
	}
	if first.Cached || n.shard("a").pins != 1 || n.shard("b").pins != 1 {
		t.Errorf("cached at first: %t, asked %d and %d times", first.Cached, n.shard("a").pins, n.shard("b").pins)
	}
}

func TestRequestsThatDifferNeverShareAnAnswer(t *testing.T) {
	some := func(o muster.QueryOptions) muster.Query { return muster.Query{Text: "fox", Limit: 5, Options: o} }
	plain := some(muster.QueryOptions{})
	for what, c := range map[string]struct {
		query muster.Query
		by    muster.Rights
	}{
		"a longer limit":       {muster.Query{Text: "fox", Limit: 50}, by("key:1", "search")},
		"a shorter limit":      {muster.Query{Text: "fox", Limit: 2}, by("key:1", "search")},
		"another text":         {muster.Query{Text: "Fox", Limit: 5}, by("key:1", "search")},
		"more content":         {some(muster.QueryOptions{ContentLength: new(-1)}), by("key:1", "search")},
		"duplicates":           {some(muster.QueryOptions{Dedupe: new(bool)}), by("key:1", "search")},
		"and":                  {some(muster.QueryOptions{Operator: "and"}), by("key:1", "search")},
		"a field":              {some(muster.QueryOptions{Fields: []string{"title"}}), by("key:1", "search")},
		"a collection":         {some(muster.QueryOptions{Collections: []string{"default"}}), by("key:1", "search")},
		"fewer nodes":          {some(muster.QueryOptions{Nodes: &[]string{"a"}}), by("key:1", "search")},
		"this node only":       {some(muster.QueryOptions{Local: true}), by("key:1", "search")},
		"more time":            {some(muster.QueryOptions{TimeoutMs: 2001}), by("key:1", "search")},
		"no cache":             {some(muster.QueryOptions{Cache: new(bool)}), by("key:1", "search")},
		"another caller":       {plain, by("key:2", "search")},
		"other scopes":         {plain, by("key:1", "search", "read")},
		"a caller with a node": {plain, muster.Rights{Principal: "key:1", Scopes: []string{"search"}, NodeID: "id-a"}},
	} {
		f, _ := newNet(copies(30), copies(30)).cached(t, nil)
		if _, err := f.Search(muster.WithRights(t.Context(), by("key:1", "search")), plain); err != nil {
			t.Fatal(err)
		}
		a, err := f.Search(muster.WithRights(t.Context(), c.by), c.query)
		if err != nil || a.Cached {
			t.Errorf("%s: cached %t, %v", what, a.Cached, err)
		}
		again, err := f.Search(muster.WithRights(t.Context(), by("key:1", "search")), plain)
		if err != nil || !again.Cached || again.Count != 1 {
			t.Errorf("after %s the first one: cached %t, %d hits, %v", what, again.Cached, again.Count, err)
		}
	}
}

func TestAnAnswerIsDroppedOnceAnIndexIsKnownToHaveGoneOn(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*net, *gossip, *search.Federation)
		cached bool
	}{
		"nothing": {func(*net, *gossip, *search.Federation) {}, true},
		"gossip tells a higher generation": {func(n *net, g *gossip, _ *search.Federation) {
			g.tell("b", "index-id-b", n.write("b", doc("new", "fox new")))
		}, false},
		"this node's own is written": {func(n *net, g *gossip, _ *search.Federation) {
			g.tell("a", "index-id-a", n.write("a", doc("new", "fox new")))
		}, false},
		"another index has the same number": {func(_ *net, g *gossip, _ *search.Federation) { g.tell("b", "index-new", 1) }, false},
		"a new index has a lower number":    {func(_ *net, g *gossip, _ *search.Federation) { g.tell("b", "index-new", 0) }, false},
		"gossip is behind the answer":       {func(_ *net, g *gossip, _ *search.Federation) { g.tell("b", "index-id-b", 0) }, true},
		"the node is not up":                {func(_ *net, g *gossip, _ *search.Federation) { g.tell("b", "", 0) }, false},
		"another answer came from a higher one": {func(n *net, _ *gossip, f *search.Federation) {
			n.write("b", doc("new", "fox new"))
			ask(t, f, muster.Query{Text: "other"})
		}, false},
		"a node is believed down": {func(n *net, _ *gossip, _ *search.Federation) { n.nodes[1].Observed = muster.ObservedDown }, false},
		"a node is renamed":       {func(n *net, _ *gossip, _ *search.Federation) { n.nodes[1].Name = "another" }, false},
		"a node has come":         {func(n *net, _ *gossip, _ *search.Federation) { n.nodes[2].Status = muster.StatusActive }, false},
		"a node is out of service": {func(n *net, _ *gossip, _ *search.Federation) {
			n.nodes[1].Status = muster.StatusMaintenance
		}, false},
	} {
		n := newNet(some("a", 3), some("b", 3), some("c", 1))
		n.nodes[2].Status = muster.StatusInactive
		f, g := n.cached(t, nil)
		ask(t, f, muster.Query{Text: "fox"})
		c.change(n, g, f)
		if a := ask(t, f, muster.Query{Text: "fox"}); a.Cached != c.cached {
			t.Errorf("%s: cached %t", what, a.Cached)
		}
	}
}

func TestAnIndexThatWasMadeAnewIsNotTakenForTheOldOneThoughGossipStillTellsOfThat(t *testing.T) {
	n := newNet(some("a", 3), some("b", 3))
	renamed := &recreated{net: n}
	g := &gossip{told: map[string]state{"id-a": {"index-id-a", 1}, "id-b": {"index-id-b", 1}}}
	n.shard("a").still, n.shard("b").still = true, true
	f := search.New(search.Config{Self: "id-a", MaxParallel: 10, CacheBytes: 1 << 20, Generations: g}, n, n, renamed)
	ask(t, f, muster.Query{Text: "fox"})
	renamed.yes.Store(true)
	ask(t, f, muster.Query{Text: "other"}) // its answer tells of the new index
	for _, text := range []string{"fox", "other", "fox"} {
		if a := ask(t, f, muster.Query{Text: text}); a.Cached {
			t.Errorf("%q is answered from the cache while nobody knows which index is there", text)
		}
	}
	g.tell("b", "index-new", 1)
	if a := ask(t, f, muster.Query{Text: "fox"}); !a.Cached {
		t.Error("gossip and answers agree, but nothing is kept")
	}
}

// recreated is a net whose other indexes may have been made anew.
type recreated struct {
	*net
	yes atomic.Bool
}

func (r *recreated) Pin(ctx context.Context, n muster.Node, q muster.ShardQuery) (muster.ShardStats, error) {
	s, err := r.net.Pin(ctx, n, q)
	if r.yes.Load() {
		s.IndexID = "index-new"
	}
	return s, err
}

func (r *recreated) Search(ctx context.Context, n muster.Node, q muster.ShardSearch) (muster.ShardHits, error) {
	q.IndexID = "index-" + n.ID
	return r.net.Search(ctx, n, q)
}

func TestAPartialAnswerIsKeptForASecondAndAWholeOneForItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(some("a", 3), some("b", 3))
		f, g := n.cached(t, func(c *search.Config) { c.CacheTTL = 15 * time.Minute })
		b := n.shard("b")
		g.tell("b", "", 0)
		b.pinErr = errors.New("no route")
		kept := func(after time.Duration, q muster.Query) bool {
			t.Helper()
			<-time.After(after)
			return ask(t, f, q).Cached
		}
		q := muster.Query{Text: "fox"}
		if kept(0, q) || !kept(time.Second, q) || kept(time.Millisecond, q) {
			t.Error("a partial answer is not kept for one second")
		}
		b.pinErr = nil
		g.tell("b", "index-id-b", 1)
		if kept(0, q) {
			t.Error("a partial answer is kept though the node was heard of")
		}
		if !kept(15*time.Minute, q) || kept(time.Millisecond, q) {
			t.Error("a whole answer is not kept for 15 minutes")
		}
		b.searchErr = errors.New("lost")
		again := muster.Query{Text: "fox", Limit: 3}
		if kept(0, again) || kept(time.Second+1, again) {
			t.Error("an answer that lost a node between the phases is kept for longer than a second")
		}
		b.searchErr, b.gone, b.still = nil, 1, false
		inexact := ask(t, f, muster.Query{Text: "fox", Limit: 4})
		if inexact.Merge != "inexact" || inexact.Partial || kept(time.Second+1, muster.Query{Text: "fox", Limit: 4}) {
			t.Errorf("an inexact answer is kept for longer than a second: %+v", inexact)
		}
	})
}

func TestEachCallerJudgesASharedAnswerForItself(t *testing.T) {
	n := newNet(some("a", 3), some("b", 3))
	f, g := n.cached(t, nil)
	g.tell("b", "", 0)
	n.nodes[1].Documents = 3
	n.shard("b").pinErr = errors.New("no route")
	ask(t, f, muster.Query{Text: "fox"})
	a, err := f.Search(t.Context(), muster.Query{Text: "fox", Options: muster.QueryOptions{MinCoverage: 0.9}})
	if !a.Cached || muster.CodeOf(err) != "coverage" {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestAnyNumberOfEqualSearchesAtOnceAreOneFanOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(some("a", 3), some("b", 3))
		f, _ := n.cached(t, nil)
		n.shard("b").pinDelay = 100 * time.Millisecond
		leaving, leave := context.WithCancelCause(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := f.Search(leaving, muster.Query{Text: "fox"})
			gone <- err
		}()
		synctest.Wait()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				a, err := f.Search(t.Context(), muster.Query{Text: "fox"})
				if err != nil || a.Partial || a.Cached || a.TotalResults != 6 {
					t.Errorf("%+v, %v", a, err)
				}
			})
		}
		synctest.Wait()
		why := errors.New("hung up")
		leave(why)
		if err := <-gone; !errors.Is(err, why) || muster.KindOf(err) != muster.Timeout {
			t.Errorf("who went away reads %v", err)
		}
		wg.Wait()
		if n.shard("a").pins != 1 || n.shard("b").pins != 1 {
			t.Errorf("asked %d and %d times", n.shard("a").pins, n.shard("b").pins)
		}
		if c := f.Cached("", 10); c.Shared != 100 || c.Misses != 1 || c.Hits != 0 || c.Total != 1 {
			t.Errorf("%+v", c)
		}
	})
}

func TestASearchThatBeginsAfterAWriteDoesNotWaitForOneFromBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(some("a", 3), some("b", 3))
		f, g := n.cached(t, nil)
		n.shard("b").searchDelay = 100 * time.Millisecond // when a has answered already
		before := make(chan muster.Answer, 1)
		go func() { before <- ask(t, f, muster.Query{Text: "fox"}) }()
		synctest.Wait()
		g.tell("a", "index-id-a", n.write("a", doc("new", "fox new")))
		if a := ask(t, f, muster.Query{Text: "fox"}); a.TotalResults != 7 {
			t.Errorf("%d results after the write", a.TotalResults)
		}
		<-before
		if a := ask(t, f, muster.Query{Text: "fox"}); a.TotalResults != 7 {
			t.Errorf("%d results once the older search has ended", a.TotalResults)
		}
	})
}

func TestACallerWithLessTimeDoesNotCutTheAnswerOfOthersShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(some("a", 3), some("b", 3))
		f, _ := n.cached(t, nil)
		n.shard("b").pinDelay = 100 * time.Millisecond
		hurried, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			a, err := f.Search(hurried, muster.Query{Text: "fox"})
			if err != nil || !a.Partial {
				t.Errorf("in a hurry: %+v, %v", a, err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if a := ask(t, f, muster.Query{Text: "fox"}); a.Partial {
				t.Errorf("%+v", a)
			}
		})
		wg.Wait()
		if a := ask(t, f, muster.Query{Text: "fox"}); a.Partial || !a.Cached {
			t.Errorf("kept: %+v", a)
		}
	})
}

func TestStoppingEndsASharedSearchWithWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(some("a", 3), some("b", 3))
		f, _ := n.cached(t, nil)
		n.shard("b").pinDelay = time.Second
		got := make(chan muster.Answer, 1)
		go func() { got <- ask(t, f, muster.Query{Text: "fox"}) }()
		synctest.Wait()
		began := time.Now()
		if err := f.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if a := <-got; !a.Partial || time.Since(began) > 0 {
			t.Errorf("after %v: %+v", time.Since(began), a)
		}
	})
}

func TestTheCacheKeepsToItsBytesIsListedPageByPageAndCanBeEmptied(t *testing.T) {
	n := newNet(some("a", 100), some("b", 100))
	f, _ := n.cached(t, func(c *search.Config) { c.CacheBytes = 256 << 10 })
	for i := range 100 {
		ask(t, f, muster.Query{Text: "fox", Limit: i + 1})
		if c := f.Cached("", 1000); c.Bytes > c.MaxBytes || c.MaxBytes != 256<<10 {
			t.Fatalf("after %d answers %d bytes of %d", i+1, c.Bytes, c.MaxBytes)
		}
	}
	ask(t, f, muster.Query{Text: "fox", Limit: 1})
	all := f.Cached("", 1000)
	if all.Total < 5 || all.Total > 60 || len(all.Entries) != all.Total || all.Cursor != "" {
		t.Fatalf("%+v", all)
	}
	if c := f.Cached("", 0); c.Total != all.Total || c.Bytes != all.Bytes || len(c.Entries) != 0 || c.Cursor != "" {
		t.Errorf("counts alone: %+v", c)
	}
	var paged []muster.CachedAnswer
	sum, cursor := uint64(0), ""
	for {
		page := f.Cached(cursor, 2)
		paged = append(paged, page.Entries...)
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	for i, e := range all.Entries {
		sum += e.Bytes
		if paged[i].QueryHash != e.QueryHash || e.Query != "fox" || !slices.Equal(e.NodeIDs, []string{"id-a", "id-b"}) || e.ExpiresAt.Sub(e.CreatedAt) != 15*time.Minute {
			t.Errorf("%+v", e)
		}
	}
	if sum != all.Bytes {
		t.Errorf("%d bytes in all, %d in the entries", all.Bytes, sum)
	}
	if gone := f.FlushCache(); gone != all.Total {
		t.Errorf("%d of %d emptied", gone, all.Total)
	}
	if c := f.Cached("", 10); c.Total != 0 || c.Bytes != 0 || len(c.Entries) != 0 || c.Entries == nil {
		t.Errorf("left: %+v", c)
	}
}

// far is a net whose answers are memory of their own, as those over a wire are.
type far struct{ *net }

func (n far) Search(ctx context.Context, node muster.Node, q muster.ShardSearch) (hits muster.ShardHits, err error) {
	found, err := n.net.Search(ctx, node, q)
	for i, h := range found.Hits {
		found.Hits[i].Metadata = muster.Metadata{"brand": []byte(`"acme"`), "n": fmt.Append(nil, i)}
		found.Hits[i].Title = strings.Clone(h.Content)
		found.Hits[i].Content = strings.Repeat("x", 500)
	}
	raw, err2 := json.Marshal(found)
	return hits, errors.Join(err, err2, json.Unmarshal(raw, &hits))
}

func TestTheBytesCountedAreAboutThoseHeld(t *testing.T) {
	n := newNet(nil, some("b", 150), some("c", 150))
	for _, s := range n.shards {
		s.still = true
	}
	g := &gossip{told: map[string]state{"id-a": {"index-id-a", 1}, "id-b": {"index-id-b", 1}, "id-c": {"index-id-c", 1}}}
	f := search.New(search.Config{Self: "id-a", MaxParallel: 10, CacheBytes: 64 << 20, Generations: g}, n, n, far{n})
	held := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := held()
	for i := range 100 {
		for j := range 3 {
			ask(t, f, muster.Query{Text: "fox", Limit: i + 1, Options: muster.QueryOptions{TimeoutMs: 1000 + j}})
		}
	}
	grown := held() - before
	c := f.Cached("", 1000)
	t.Logf("%d answers, counted as %d bytes, hold %d", c.Total, c.Bytes, grown)
	if c.Total != 300 || float64(c.Bytes) < 0.9*float64(grown) || float64(c.Bytes) > 1.5*float64(grown) {
		t.Errorf("%d answers are counted as %d bytes and hold %d", c.Total, c.Bytes, grown)
	}
}

func TestWithoutACacheNothingIsKeptAndNothingListed(t *testing.T) {
	n := newNet(some("a", 3))
	f, _ := n.cached(t, func(c *search.Config) { c.CacheBytes = 0 })
	ask(t, f, muster.Query{Text: "fox"})
	if a, c := ask(t, f, muster.Query{Text: "fox"}), f.Cached("", 10); a.Cached || c.Total != 0 || c.Entries == nil || f.FlushCache() != 0 {
		t.Errorf("%+v %+v", a, c)
	}
}

// Generation is what the real indexes say of themselves.
func (c *cluster) Generation(id string) (string, uint64) {
	indexID, generation, err := c.indexes[id].Present()
	if err != nil {
		return "", 0
	}
	return indexID, generation
}

func TestWhatWasWrittenIsInTheNextAnswerWhileMuchGoesOnAtOnce(t *testing.T) {
	c := newCluster(t, 3)
	f := search.New(search.Config{Self: c.nodes[0].ID, MaxParallel: 10, CacheBytes: 4 << 10, Generations: c}, c, c, c) // so small that answers give way, too
	var written atomic.Int64
	var wg sync.WaitGroup
	done := make(chan struct{})
	for w := range 3 {
		wg.Go(func() {
			x := c.indexes[c.nodes[w].ID]
			for i := range 25 {
				if _, err := x.Put(t.Context(), []muster.Document{doc(fmt.Sprintf("%d-%d", w, i), fmt.Sprint("fox ", w, i))}); err != nil {
					t.Error(err)
					return
				}
				written.Add(1)
				if i%10 == 9 {
					if err := x.Rebuild(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	var readers sync.WaitGroup
	var cached atomic.Int64
	for r := range 6 {
		readers.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(r)))
			for {
				select {
				case <-done:
					return
				default:
				}
				least := int(written.Load())
				a, err := f.Search(t.Context(), muster.Query{Text: "fox", Limit: 1 + random.IntN(3)})
				if err != nil || a.TotalResults < least || a.Partial {
					t.Errorf("%d results, %d were written before; %v %+v", a.TotalResults, least, err, a.Nodes)
					return
				}
				if a.Cached {
					cached.Add(1)
				}
				if random.IntN(50) == 0 {
					f.FlushCache()
					f.Cached("", 10)
				}
			}
		})
	}
	wg.Wait()
	close(done)
	readers.Wait()
	if err := f.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("%d answers from the cache", cached.Load())
}
