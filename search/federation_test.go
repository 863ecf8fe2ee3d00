package search_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"muster"
	"muster/search"
)

// randomDocs has few words and few IDs, so that scores tie and identities meet.
func randomDocs(r *rand.Rand, n int) []muster.Document {
	vocabulary := []string{"fox", "dog", "cat", "hen"}
	docs := make([]muster.Document, n)
	for i := range docs {
		content := make([]string, 1+r.IntN(3))
		for j := range content {
			content[j] = vocabulary[r.IntN(len(vocabulary))]
		}
		docs[i] = muster.Document{
			ID: fmt.Sprint("d", r.IntN(30)), Collection: []string{"default", "news"}[r.IntN(2)],
			Content: strings.Join(content, " "),
		}
		if r.IntN(4) == 0 {
			docs[i].Title = vocabulary[r.IntN(len(vocabulary))]
		}
		if r.IntN(4) == 0 {
			docs[i].URL = fmt.Sprintf("HTTP://Example.org:80/%d/#x", r.IntN(10))
		}
	}
	return docs
}

// central ranks the documents of all shards as one index would.
func central(n *net, text string) []muster.ShardHit {
	var all []muster.Document
	for _, node := range n.nodes {
		all = append(all, n.shards[node.ID].docs...)
	}
	sums := statsOf(all, text)
	var hits []muster.ShardHit
	for _, node := range n.nodes {
		for _, h := range find(n.shards[node.ID].docs, text, sums) {
			h.SourceNode = node.Slug
			hits = append(hits, h)
		}
	}
	slices.SortStableFunc(hits, func(a, b muster.ShardHit) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Collection, b.Collection),
			cmp.Compare(a.ID, b.ID), cmp.Compare(a.SourceNode, b.SourceNode))
	})
	return hits
}

// unique drops each hit that equals an earlier kept one.
func unique(hits []muster.ShardHit) []muster.ShardHit {
	var out []muster.ShardHit
	for _, h := range hits {
		if !slices.ContainsFunc(out, func(k muster.ShardHit) bool {
			return k.ContentKey == h.ContentKey || k.URL != "" && k.URL == h.URL
		}) {
			out = append(out, h)
		}
	}
	return out
}

func TestAnswerEqualsOneCentralIndexHitForHitAndScoreForScore(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		split := make([][]muster.Document, 1+r.IntN(6))
		for i := range split {
			split[i] = randomDocs(r, r.IntN(60))
		}
		n := newNet(split...)
		f := search.New(search.Config{Self: n.nodes[r.IntN(len(split))].ID, MaxParallel: 10}, n, n, n)
		for _, dedupe := range []bool{false, true} {
			limit := 1 + r.IntN([]int{8, 100}[r.IntN(2)])
			a := ask(t, f, muster.Query{Text: "fox hen", Limit: limit, Options: muster.QueryOptions{Dedupe: &dedupe}})
			want := central(n, "fox hen")
			if a.TotalResults != len(want) {
				t.Fatalf("seed %d: %d in total, want %d", seed, a.TotalResults, len(want))
			}
			if dedupe {
				want = unique(want)
			}
			want = want[:min(limit, len(want))]
			if a.Count != len(want) || len(a.Results) != len(want) {
				t.Fatalf("seed %d, dedupe %v: %d results, want %d", seed, dedupe, a.Count, len(want))
			}
			for i, h := range a.Results {
				w := want[i]
				if h.ID != w.ID || h.Collection != w.Collection || h.SourceNode != w.SourceNode || h.Score != w.Score {
					t.Fatalf("seed %d, dedupe %v, hit %d: %+v, want %+v", seed, dedupe, i, h, w.Hit)
				}
			}
			if a.Merge != "exact" || a.Partial || a.Coverage != 1 {
				t.Fatalf("seed %d: %s, partial %v, coverage %v", seed, a.Merge, a.Partial, a.Coverage)
			}
		}
	}
}

func TestNodesAreAskedForMoreUntilTheLimitIsFullOfUniqueHits(t *testing.T) {
	docs := copies(251)
	docs[250] = doc("z", "fox and much else that makes it longer")
	n := newNet(docs, copies(250))
	a := ask(t, n.federation(t), muster.Query{Text: "fox", Limit: 2})
	if got := ids(a); !slices.Equal(got, []string{"c000", "z"}) {
		t.Fatalf("found %v", got)
	}
	if got := a.Results[0].AlsoOn; !slices.Equal(got, []string{"b"}) {
		t.Errorf("also on %v", got)
	}
	if a.TotalResults != 501 || a.NodeBreakdown["a"] != 2 {
		t.Errorf("%d in total, breakdown %v", a.TotalResults, a.NodeBreakdown)
	}
	if froms := n.shard("a").froms; !slices.Equal(froms, []int{0, 2, 102, 202}) {
		t.Errorf("pages from %v", froms)
	}
}

func TestNodeThatRanDryIsAskedBeforeALowerHitOfAnotherIsTaken(t *testing.T) {
	long := "fox " + strings.Repeat("much else ", 20)
	n := newNet(
		[]muster.Document{doc("1", "fox"), doc("2", "fox"), doc("3", "fox hen")},
		[]muster.Document{doc("4", long+"x"), doc("5", long+"y")},
	)
	if a := ask(t, n.federation(t), muster.Query{Text: "fox", Limit: 2}); !slices.Equal(ids(a), []string{"1", "3"}) {
		t.Errorf("found %v", ids(a))
	}
}

func TestHitJoinsTheFirstKeptOneItMatchesOfTwo(t *testing.T) {
	const page = "http://example.org/page"
	byContent := muster.Document{ID: "2", Collection: "default", Content: "fox hen"}
	byURL := muster.Document{ID: "1", Collection: "default", Content: "fox", URL: page}
	both := muster.Document{ID: "3", Collection: "default", Content: "fox hen", URL: page}
	// The shorter content ranks first; a title, later, above all.
	n := newNet([]muster.Document{byURL, byContent}, []muster.Document{both}, []muster.Document{both})
	a := ask(t, n.federation(t), muster.Query{Text: "fox"})
	if a.Count != 2 || !slices.Equal(a.Results[0].AlsoOn, []string{"b", "c"}) || len(a.Results[1].AlsoOn) != 0 {
		t.Errorf("by URL: %+v", a.Results)
	}
	byContent.Title, both.Title = "fox", ""
	n = newNet([]muster.Document{byURL, byContent}, []muster.Document{both, both})
	a = ask(t, n.federation(t), muster.Query{Text: "fox"})
	if a.Count != 2 || a.Results[0].ID != "2" || !slices.Equal(a.Results[0].AlsoOn, []string{"b"}) || len(a.Results[1].AlsoOn) != 0 {
		t.Errorf("by content: %+v", a.Results)
	}
}

func TestHitsAreDuplicatesByCanonicalURLOrByContentAndNeverByEmptyContent(t *testing.T) {
	titled := func(id, url string) muster.Document {
		return muster.Document{ID: id, Collection: "default", Title: "fox", URL: url}
	}
	for _, c := range []struct {
		one, other muster.Document
		same       bool
	}{
		{titled("1", ""), titled("2", ""), false},
		{titled("1", "HTTPS://Example.org:443/a/#top"), titled("2", "https://example.org/a"), true},
		{titled("1", "http://example.org"), titled("2", "http://example.org:80/"), true},
		{titled("1", "http://example.org/a?x=1"), titled("2", "http://example.org/a?x=2"), false},
		{titled("1", "http://example.org/A"), titled("2", "http://example.org/a"), false},
		{titled("1", "http://example.org/a"), titled("2", "https://example.org/a"), false},
		{titled("1", "http://example.org:8080/a"), titled("2", "http://example.org/a"), false},
		{titled("1", "http://example.org/a%2F"), titled("2", "http://example.org/a"), false},
		{titled("1", "/about"), titled("2", "/about"), false},
		{titled("1", "urn:isbn:1"), titled("2", "urn:isbn:1"), true},
		{doc("1", "fox"), doc("2", "fox"), true},
		{doc("1", "fox"), doc("1", "fox hen"), false},
	} {
		n := newNet([]muster.Document{c.one}, []muster.Document{c.other})
		a := ask(t, n.federation(t), muster.Query{Text: "fox"})
		if got := a.Count == 1; got != c.same {
			t.Errorf("%+v and %+v: same is %v", c.one, c.other, got)
		}
	}
}

func TestHangingNodeDoesNotHoldTheAnswer(t *testing.T) {
	for _, phase := range []string{"pin", "search"} {
		for _, deaf := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				n := newNet(some("a", 5), some("b", 3))
				b := n.shard("b")
				b.deaf = deaf
				if phase == "pin" {
					b.pinDelay = time.Hour
				} else {
					b.searchDelay = time.Hour
				}
				n.nodes[1].Documents = 3
				start := time.Now()
				a := ask(t, n.federation(t), muster.Query{Text: "fox", Options: muster.QueryOptions{TimeoutMs: 1000}})
				took := time.Since(start)
				wantTook, wantMerge := 400*time.Millisecond, "exact"
				if phase == "search" {
					wantTook, wantMerge = time.Second, "inexact"
				}
				if took != wantTook || a.TookMs != took.Milliseconds() {
					t.Errorf("%s, deaf %v: took %v", phase, deaf, took)
				}
				r := report(t, a, "b")
				if r.Status != "timed_out" || r.Docs != 3 || r.TookMs != took.Milliseconds() {
					t.Errorf("%s, deaf %v: %+v", phase, deaf, r)
				}
				if a.Count != 5 || !a.Partial || a.Coverage != 5.0/8 || a.Merge != wantMerge || a.NodesSearched != 1 || a.NodesAsked != 2 {
					t.Errorf("%s, deaf %v: %+v", phase, deaf, a)
				}
			})
		}
	}
}

func TestCallersDeadlineBoundsTheAnswerToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(some("a", 2), some("b", 2))
		n.shard("b").searchDelay = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		a, err := n.federation(t).Search(ctx, muster.Query{Text: "fox"})
		if err != nil || a.Count != 2 || time.Since(start) != 100*time.Millisecond {
			t.Errorf("%v after %v: %+v", err, time.Since(start), a)
		}
	})
}

func TestNodeLostBetweenThePhasesMakesTheAnswerPartialAndInexact(t *testing.T) {
	n := newNet(some("a", 5), some("b", 5))
	n.shard("b").searchErr = muster.Errorf(muster.Unavailable, "connection reset")
	a := ask(t, n.federation(t), muster.Query{Text: "fox"})
	if !a.Partial || a.Merge != "inexact" || a.Coverage != 0.5 || a.NodesSearched != 1 || a.TotalResults != 5 {
		t.Errorf("%+v", a)
	}
	if r := report(t, a, "b"); r.Status != "failed" || r.Error != "connection reset" || r.Docs != 5 {
		t.Errorf("%+v", r)
	}
}

func TestNodeLostWhilePagingKeepsWhatItGave(t *testing.T) {
	n := newNet(copies(30), some("b", 1))
	a := n.shard("a")
	a.searchErr, a.failFrom = errors.New("gone away"), 1
	got := ask(t, n.federation(t), muster.Query{Text: "fox", Limit: 5})
	if r := report(t, got, "a"); r.Status != "partial" || r.Matched != 30 {
		t.Errorf("%+v", r)
	}
	if got.Count != 2 || !got.Partial || got.Merge != "inexact" || got.NodesSearched != 2 {
		t.Errorf("%+v", got)
	}
}

func TestGoneGenerationIsPinnedOnceMoreAndSaysInexact(t *testing.T) {
	n := newNet(some("a", 2), some("b", 2))
	b := n.shard("b")
	b.gone = 1
	f := n.federation(t)
	a := ask(t, f, muster.Query{Text: "fox"})
	r := report(t, a, "b")
	if a.Count != 4 || a.Partial || a.Merge != "inexact" || r.Status != "ok" || r.Generation != 2 || b.pins != 2 {
		t.Errorf("%+v, pinned %d times", a, b.pins)
	}
	b.gone = 2
	a = ask(t, f, muster.Query{Text: "fox"})
	if r := report(t, a, "b"); r.Status != "failed" || !a.Partial || a.Count != 2 || b.pins != 4 {
		t.Errorf("%+v, pinned %d times", a, b.pins)
	}
}

func TestSameGenerationPinnedOnceMoreIsStillExact(t *testing.T) {
	n := newNet(some("a", 2), some("b", 2))
	b := n.shard("b")
	b.gone, b.still = 1, true
	a := ask(t, n.federation(t), muster.Query{Text: "fox"})
	if a.Count != 4 || a.Partial || a.Merge != "exact" || b.pins != 2 {
		t.Errorf("%+v, pinned %d times", a, b.pins)
	}
}

func TestGenerationThatIsGoneASecondTimeEndsThatNodesHits(t *testing.T) {
	n := newNet(copies(40))
	a := n.shard("a")
	a.gone, a.failFrom = 1, 1
	a.searchErr = muster.Errorf(muster.Gone, "gone again").WithCode("generation_gone")
	got := ask(t, n.federation(t), muster.Query{Text: "fox", Limit: 2})
	if r := report(t, got, "a"); r.Status != "partial" || r.Error != "gone again" || a.pins != 2 || got.Count != 1 {
		t.Errorf("%+v, pinned %d times", got, a.pins)
	}
}

func TestGenerationGoneBetweenPagesStartsThatNodeOver(t *testing.T) {
	docs := copies(40)
	docs[10] = muster.Document{ID: "t0", Collection: "default", Title: "fox"}
	docs[20] = muster.Document{ID: "t1", Collection: "default", Title: "fox"}
	docs[30] = doc("z", "fox and more")
	n := newNet(docs)
	a := n.shard("a")
	got := ask(t, search.New(search.Config{Self: "id-a", MaxParallel: 10}, n, goneAfterOne{n, a}, n), muster.Query{Text: "fox", Limit: 4})
	if !slices.Equal(ids(got), []string{"t0", "t1", "c000", "z"}) || got.Merge != "inexact" || got.TotalResults != 40 {
		t.Errorf("%+v", got)
	}
	if !slices.Equal(a.froms, []int{0, 4, 0}) {
		t.Errorf("pages from %v", a.froms)
	}
}

// goneAfterOne loses the generation after the first page.
type goneAfterOne struct {
	*net
	s *shard
}

func (g goneAfterOne) Search(ctx context.Context, node muster.Node, q muster.ShardSearch) (muster.ShardHits, error) {
	hits, err := g.net.Search(ctx, node, q)
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	if len(g.s.froms) == 1 {
		g.s.gone = 1
	}
	return hits, err
}

func TestDeadNodeCountsWithItsLastKnownDocuments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(some("a", 5), some("b", 3))
		b := n.shard("b")
		n.nodes[1].Documents, n.nodes[1].Observed = 15, muster.ObservedDown
		b.pinDelay = time.Hour
		f := n.federation(t)
		start := time.Now()
		a := ask(t, f, muster.Query{Text: "fox"})
		if took := time.Since(start); took != 50*time.Millisecond {
			t.Errorf("a dead node held the answer for %v", took)
		}
		if r := report(t, a, "b"); r.Status != "failed" || r.Error != "down" || r.Docs != 15 {
			t.Errorf("%+v", r)
		}
		if a.Coverage != 0.25 || !a.Partial || a.NodesAsked != 2 || a.Merge != "exact" {
			t.Errorf("%+v", a)
		}
		synctest.Wait() // the call that was given up reads these
		b.pinDelay = 20 * time.Millisecond
		if a = ask(t, f, muster.Query{Text: "fox"}); a.Partial || a.Count != 8 || report(t, a, "b").Status != "ok" {
			t.Errorf("a node believed down did answer: %+v", a)
		}
		synctest.Wait()
		b.pinErr = errors.New("refused")
		if a = ask(t, f, muster.Query{Text: "fox"}); a.Coverage != 5.0/8 || report(t, a, "b").Docs != 3 {
			t.Errorf("what it said itself counts before the registry: %+v", a)
		}
		deleted := time.Now()
		n.nodes[1].DeletedAt = &deleted
		ask(t, f, muster.Query{Text: "fox"})
		n.nodes[1].DeletedAt = nil
		if a = ask(t, f, muster.Query{Text: "fox"}); report(t, a, "b").Docs != 15 {
			t.Errorf("what a deleted node said is not forgotten: %+v", a)
		}
	})
}

func TestNodesOutOfServiceAndExternalOnesAreSkippedAndDoNotCount(t *testing.T) {
	n := newNet(some("a", 2), some("b", 2), some("c", 2), some("d", 2), some("e", 2), some("f", 2))
	deleted := time.Now()
	n.nodes[1].Status = muster.StatusMaintenance
	n.nodes[2].Observed = muster.ObservedLeft
	n.nodes[3].Kind = muster.KindExternal
	n.nodes[4].DeletedAt = &deleted
	n.nodes[5].Capabilities = nil
	a := ask(t, n.federation(t), muster.Query{Text: "fox"})
	want := map[string]string{"a": "", "b": "maintenance", "c": "inactive", "d": "external nodes are not asked yet"}
	if len(a.Nodes) != len(want) {
		t.Errorf("%+v", a.Nodes)
	}
	for slug, reason := range want {
		r := report(t, a, slug)
		if r.Error != reason || (r.Status == "skipped") != (reason != "") {
			t.Errorf("%+v", r)
		}
	}
	if a.NodesAsked != 1 || a.NodesSearched != 1 || a.Partial || a.Coverage != 1 || a.Count != 2 {
		t.Errorf("%+v", a)
	}
}

func TestNobodyToAskIsAnEmptyWholeAnswerWithoutNulls(t *testing.T) {
	a := ask(t, newNet().federation(t), muster.Query{Text: "fox"})
	if a.Partial || a.Coverage != 1 || a.Count != 0 {
		t.Errorf("%+v", a)
	}
	for _, a := range []muster.Answer{a, ask(t, newNet(some("a", 1)).federation(t), muster.Query{Text: "fox"})} {
		text, err := json.Marshal(a)
		if err != nil || strings.Contains(string(text), "null") {
			t.Errorf("%v: %s", err, text)
		}
	}
}

func TestEmptyIndexIsEmptyAndIsNotSearched(t *testing.T) {
	n := newNet(some("a", 1), nil, []muster.Document{doc("x", "hen")})
	a := ask(t, n.federation(t), muster.Query{Text: "fox"})
	if report(t, a, "b").Status != "empty" || report(t, a, "c").Status != "empty" || a.NodesSearched != 3 || a.Partial {
		t.Errorf("%+v", a)
	}
	if len(n.shard("b").froms) != 0 {
		t.Error("an empty index was searched")
	}
}

func TestNodeWithAnotherScoringVersionIsLeftOut(t *testing.T) {
	n := newNet(some("a", 1), some("b", 2), some("c", 1))
	n.shard("a").scoring = "v2"
	f := n.federation(t)
	a := ask(t, f, muster.Query{Text: "fox"})
	if r := report(t, a, "b"); r.Status != "failed" || r.Error != "another scoring version" || r.Docs != 2 {
		t.Errorf("%+v", r)
	}
	if a.Count != 1 || !a.Partial || a.Coverage != 0.25 || a.Merge != "exact" {
		t.Errorf("this node's own version decides: %+v", a)
	}
	a = ask(t, search.New(search.Config{Self: "elsewhere", MaxParallel: 10}, n, n, n), muster.Query{Text: "fox"})
	if a.Count != 3 || report(t, a, "a").Status != "failed" {
		t.Errorf("the majority decides: %+v", a)
	}
}

func TestQueryNarrowsToNamedNodesOrToThisOne(t *testing.T) {
	n := newNet(some("a", 1), some("b", 2), some("c", 4))
	f := n.federation(t)
	a := ask(t, f, muster.Query{Text: "fox", Options: muster.QueryOptions{Nodes: &[]string{"c", "id-b", "c"}}})
	if a.NodesAsked != 2 || a.Count != 6 {
		t.Errorf("%+v", a)
	}
	a = ask(t, f, muster.Query{Text: "fox", Options: muster.QueryOptions{Local: true}})
	if a.NodesAsked != 1 || a.Count != 1 || len(a.Nodes) != 1 {
		t.Errorf("%+v", a)
	}
}

func TestAnswerBelowWhatWasRequiredComesWithAnError(t *testing.T) {
	n := newNet(some("a", 1), some("b", 1))
	n.shard("b").pinErr = errors.New("refused")
	n.nodes[1].Documents = 1
	f := n.federation(t)
	for _, o := range []muster.QueryOptions{{MinCoverage: 0.6}, {Require: []string{"a", "b"}}} {
		a, err := f.Search(t.Context(), muster.Query{Text: "fox", Options: o})
		if muster.KindOf(err) != muster.Unavailable || muster.CodeOf(err) != "coverage" || a.Count != 1 || len(a.Nodes) != 2 {
			t.Errorf("%+v: %v with %+v", o, err, a)
		}
	}
	ask(t, f, muster.Query{Text: "fox", Options: muster.QueryOptions{MinCoverage: 0.5, Require: []string{"a"}}})
}

func TestWrongQueryNamesItsFields(t *testing.T) {
	n := newNet(some("a", 1), nil)
	n.nodes[1].Capabilities = nil
	f := n.federation(t)
	minus2 := -2
	type options = muster.QueryOptions
	for _, c := range []struct {
		q           muster.Query
		code, field string
	}{
		{muster.Query{Text: " "}, "invalid", "query"},
		{muster.Query{Limit: -1}, "invalid", "limit"},
		{muster.Query{Limit: 101}, "invalid", "limit"},
		{muster.Query{Options: options{Nodes: &[]string{}}}, "invalid", "options.nodes"},
		{muster.Query{Options: options{Nodes: &[]string{"nobody"}}}, "invalid", "options.nodes"},
		{muster.Query{Options: options{Nodes: &[]string{"b"}}}, "invalid", "options.nodes"},
		{muster.Query{Options: options{Require: []string{"nobody"}}}, "invalid", "options.require"},
		{muster.Query{Options: options{TimeoutMs: -1}}, "invalid", "options.timeout_ms"},
		{muster.Query{Options: options{TimeoutMs: 60001}}, "invalid", "options.timeout_ms"},
		{muster.Query{Options: options{ContentLength: &minus2}}, "invalid", "options.content_length"},
		{muster.Query{Options: options{Operator: "xor"}}, "invalid", "options.operator"},
		{muster.Query{Options: options{Fields: []string{"url"}}}, "invalid", "options.fields"},
		{muster.Query{Options: options{Language: "de"}}, "invalid", "options.language"},
		{muster.Query{Options: options{Merge: "best"}}, "invalid", "options.merge"},
		{muster.Query{Options: options{MinCoverage: 1.1}}, "invalid", "options.min_coverage"},
		{muster.Query{Options: options{Fuzzy: 3}}, "invalid", "options.fuzzy"},
		{muster.Query{Text: `"red fox"`}, "unsupported", "query"},
		{muster.Query{Text: "fo*"}, "unsupported", "query"},
		{muster.Query{Options: options{Merge: "rrf"}}, "unsupported", "options.merge"},
		{muster.Query{Options: options{Fuzzy: 1}}, "unsupported", "options.fuzzy"},
		{muster.Query{Options: options{Filters: map[string]json.RawMessage{"a": nil}}}, "unsupported", "options.filters"},
		{muster.Query{Options: options{Facets: []string{"a"}}}, "unsupported", "options.facets"},
		{muster.Query{Options: options{Cursor: "x"}}, "unsupported", "options.cursor"},
		{muster.Query{Options: options{Stream: true}}, "unsupported", "options.stream"},
		{muster.Query{Options: options{Highlight: true}}, "unsupported", "options.highlight"},
		{muster.Query{Options: options{Explain: true}}, "unsupported", "options.explain"},
		{muster.Query{Options: options{Vector: []float64{1}}}, "unsupported", "options.vector"},
	} {
		c.q.Text = cmp.Or(c.q.Text, "fox")
		_, err := f.Search(t.Context(), c.q)
		e, ok := errors.AsType[*muster.Error](err)
		if !ok || e.Kind != muster.Invalid || muster.CodeOf(err) != c.code || len(e.Fields) != 1 || len(e.Fields[c.field]) == 0 {
			t.Errorf("%+v: %#v", c.q, err)
		} else if c.code == "unsupported" && e.Hint == "" {
			t.Errorf("%+v: no hint", c.q)
		}
	}
	if _, err := f.Search(t.Context(), muster.Query{Text: "fox", Options: options{Nodes: &[]string{"x", "b", "y"}}}); err == nil ||
		!strings.Contains(err.Error(), `"x"`) || !strings.Contains(err.Error(), `"y"`) || !strings.Contains(err.Error(), `"b"`) {
		t.Errorf("not every wrong node is named: %v", err)
	}
}

func TestTextIsAskedInNFCAndTheQueryStaysAsItWas(t *testing.T) {
	n := newNet([]muster.Document{doc("1", "caf\u00e9")})
	dedupe := true
	q := muster.Query{Text: "cafe\u0301", Options: muster.QueryOptions{
		Nodes: &[]string{"a"}, Fields: []string{"content"}, Require: []string{"a"}, Dedupe: &dedupe,
	}}
	before, _ := json.Marshal(q)
	a := ask(t, n.federation(t), q)
	after, _ := json.Marshal(q)
	if a.Count != 1 || a.Query != q.Text || string(before) != string(after) {
		t.Errorf("%+v from %s", a, after)
	}
}

func TestSameQuestionHasTheSameAnswer(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	n := newNet(randomDocs(r, 50), randomDocs(r, 50), randomDocs(r, 50), randomDocs(r, 50))
	f := n.federation(t)
	first := ask(t, f, muster.Query{Text: "fox dog", Limit: 20})
	for range 20 {
		if a := ask(t, f, muster.Query{Text: "fox dog", Limit: 20}); !reflect.DeepEqual(a.Results, first.Results) {
			t.Fatalf("%+v\n%+v", a.Results, first.Results)
		}
	}
}

func TestPhasesAskInParallelButNotMoreThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(some("a", 1), some("b", 1), some("c", 1), some("d", 1), some("e", 1), some("f", 1))
		for _, s := range n.shards {
			s.pinDelay, s.searchDelay = 10*time.Millisecond, 10*time.Millisecond
		}
		f := search.New(search.Config{Self: "id-a", MaxParallel: 3}, n, n, n)
		start := time.Now()
		a := ask(t, f, muster.Query{Text: "fox"})
		if took := time.Since(start); took != 40*time.Millisecond || n.mostBusy != 3 || a.Count != 6 {
			t.Errorf("%v, %d at once, %d hits", took, n.mostBusy, a.Count)
		}
		if r := report(t, a, "f"); r.TookMs != 20 {
			t.Errorf("%+v", r)
		}
	})
}

func TestAFederationIsNotMadeWithoutABoundOnItsCalls(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it was made")
		}
	}()
	n := newNet()
	search.New(search.Config{Self: "id-a"}, n, n, n)
}

func TestNodesThatHangDoNotKeepTheOthersFromBeingAsked(t *testing.T) {
	for _, hang := range []int{6, 24} { // of 26, and 3 at once
		for _, phase := range []string{"pin", "search"} {
			synctest.Test(t, func(t *testing.T) {
				docs := make([][]muster.Document, 26)
				for i := range docs {
					docs[i] = some(string(rune('a'+i)), 1)
				}
				n := newNet(docs...)
				for i, node := range n.nodes {
					s := n.shards[node.ID]
					s.pinDelay, s.searchDelay = 10*time.Millisecond, 10*time.Millisecond
					if i == 0 || i > hang {
						continue
					}
					if phase == "pin" {
						s.pinDelay = time.Hour
					} else {
						s.searchDelay = time.Hour
					}
				}
				f := search.New(search.Config{Self: "id-a", MaxParallel: 3}, n, n, n)
				a := ask(t, f, muster.Query{Text: "fox", Limit: 100, Options: muster.QueryOptions{TimeoutMs: 1000}})
				if a.NodesSearched != 26-hang || a.Count != 26-hang || a.NodesAsked != 26 || !a.Partial {
					t.Errorf("%d hang in %s: %d of %d answered, %d hits", hang, phase, a.NodesSearched, a.NodesAsked, a.Count)
				}
				if n.mostBusy > hang+3 {
					t.Errorf("%d hang in %s: %d calls at once", hang, phase, n.mostBusy)
				}
			})
		}
	}
}

func TestManySearchesAtOnceDoNotDisturbEachOther(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	n := newNet(randomDocs(r, 40), randomDocs(r, 40), randomDocs(r, 40))
	f := n.federation(t)
	want := ask(t, f, muster.Query{Text: "cat"}).Results
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 5 {
				a, err := f.Search(t.Context(), muster.Query{Text: "cat"})
				if err != nil || !reflect.DeepEqual(a.Results, want) {
					t.Errorf("%v: %+v", err, a)
				}
			}
		})
	}
	wg.Wait()
}

func TestStopEndsSearchesAndWaitsForStragglers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(some("a", 1), some("b", 1))
		n.shard("b").pinDelay, n.shard("b").deaf = time.Minute, true
		f := search.New(search.Config{Self: "id-a", MaxParallel: 10}, n, n, n)
		start := time.Now()
		var answered time.Duration
		done := make(chan struct{})
		go func() {
			defer close(done)
			if a, err := f.Search(t.Context(), muster.Query{Text: "fox"}); err != nil || !a.Partial {
				t.Errorf("%v: %+v", err, a)
			}
			answered = time.Since(start)
		}()
		<-time.After(100 * time.Millisecond) // virtual
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.Stop(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("did not wait: %v", err)
		}
		<-done
		if err := f.Stop(t.Context()); err != nil || time.Since(start) != time.Minute || answered != 100*time.Millisecond {
			t.Errorf("%v: stopped after %v, answered after %v", err, time.Since(start), answered)
		}
		if _, err := f.Search(t.Context(), muster.Query{Text: "fox"}); muster.KindOf(err) != muster.Unavailable {
			t.Errorf("a stopped federation searched: %v", err)
		}
	})
}

// hollow answers at once, and says nothing.
type hollow struct{ search.Asker }

func (hollow) Pin(context.Context, muster.Node, muster.ShardQuery) (muster.ShardStats, error) {
	return muster.ShardStats{}, nil
}

func TestAnAnswerThatSaysNothingIsNoEmptyIndex(t *testing.T) {
	n := newNet(some("a", 5), some("b", 3))
	n.nodes[1].Documents = 15
	f := search.New(search.Config{Self: n.nodes[0].ID, MaxParallel: 10}, n, n, hollow{})
	defer func() { _ = f.Stop(t.Context()) }()
	a := ask(t, f, muster.Query{Text: "fox"})
	if r := report(t, a, "b"); r.Status != "failed" || r.Docs != 15 || !a.Partial || a.Coverage != 0.25 {
		t.Fatalf("%+v", a)
	}
}
