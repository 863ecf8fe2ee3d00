package search_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"muster"
	"muster/search"
)

// own is an application's search: it answers the documents that have a word of
// the query, in the order they are in.
type own struct {
	docs  []muster.Document
	delay time.Duration
	err   error
	holds *uint64 // how many documents it says it has

	mu     sync.Mutex
	limits []int // as asked; guarded by mu
}

// town is the applications by slug.
type town map[string]*own

func (w town) Ask(ctx context.Context, node muster.Node, q muster.OwnQuery) (hits muster.OwnHits, err error) {
	o := w[node.Slug]
	o.mu.Lock()
	o.limits = append(o.limits, q.Limit)
	o.mu.Unlock()
	select {
	case <-time.After(o.delay):
	case <-ctx.Done():
		return hits, ctx.Err()
	}
	for _, d := range o.docs {
		if !slices.ContainsFunc(strings.Fields(q.Query), func(w string) bool { return strings.Contains(d.Title+" "+d.Content, w) }) {
			continue
		}
		hits.Matched++
		if len(hits.Hits) < q.Limit {
			hits.Hits = append(hits.Hits, muster.Hit{ID: d.ID, Title: d.Title, Content: d.Content, URL: d.URL, Collection: "default"})
		}
	}
	hits.Documents = o.holds
	return hits, o.err
}

// Score scores as the fake shards do.
func (w town) Score(q muster.ShardQuery, sums muster.ShardStats, hits []muster.Hit, _ int) (out []muster.ShardHit, err error) {
	for _, h := range hits {
		h.Score = score(muster.Document{Title: h.Title, Content: h.Content}, q.Text, sums)
		out = append(out, muster.ShardHit{Hit: h, ContentKey: strings.ToLower(h.Content)})
	}
	return out, nil
}

// withOwn adds applications to a net, and a federation that asks them.
func (n *net) withOwn(t *testing.T, w town) *search.Federation {
	t.Helper()
	for slug := range w {
		n.nodes = append(n.nodes, muster.Node{
			ID: "id-" + slug, Slug: slug, Name: "App " + slug, Kind: muster.KindExternal, Status: muster.StatusActive,
			Capabilities: []muster.Capability{muster.CapSearch},
		})
	}
	f := search.New(search.Config{MaxParallel: 32, Self: "id-a", Outside: w, Texts: w}, n, n, n)
	t.Cleanup(func() {
		if err := f.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return f
}

func noDedupe() muster.QueryOptions {
	no := false
	return muster.QueryOptions{Dedupe: &no}
}

func TestAnApplicationsHitsStandWhereTheirTextBelongsAmongOurs(t *testing.T) {
	docs := []muster.Document{doc("a1", "fox fox"), doc("a2", "fox hen dog cat"), doc("a3", "hen")}
	n := newNet(docs)
	a := ask(t, n.withOwn(t, town{"shop": {docs: []muster.Document{doc("s2", "fox hen dog cat"), doc("s1", "fox fox"), doc("s3", "owl fox")}}}),
		muster.Query{Text: "fox", Options: noDedupe()})
	if got := ids(a); !slices.Equal(got, []string{"a1", "s1", "s3", "a2", "s2"}) {
		t.Fatalf("%v", got)
	}
	if a.Results[0].Score != a.Results[1].Score || a.Results[1].SourceNode != "shop" || a.Results[1].SourceNodeName != "App shop" {
		t.Fatalf("%+v", a.Results[:2])
	}
	r := report(t, a, "shop")
	if a.Merge != "rescore" || r.Merge != "rescore" || r.Status != "ok" || r.Matched != 3 || a.TotalResults != 5 {
		t.Fatalf("%s %+v %d", a.Merge, r, a.TotalResults)
	}
	if a.Partial || a.Coverage != 1 || a.NodesAsked != 2 || a.NodesSearched != 2 || a.NodeBreakdown["shop"] != 3 {
		t.Fatalf("%+v", a)
	}
}

func TestWithoutStatisticsEachSourceGivesItsBestInTurn(t *testing.T) {
	n := newNet(nil)
	w := town{
		"crm":  {docs: []muster.Document{doc("c2", "fox"), doc("c1", "fox fox")}},
		"shop": {docs: []muster.Document{doc("s9", "fox hen"), doc("s1", "fox")}},
	}
	f := n.withOwn(t, w)
	a := ask(t, f, muster.Query{Text: "fox", Options: noDedupe()})
	if got := ids(a); !slices.Equal(got, []string{"c2", "s9", "c1", "s1"}) || a.Merge != "round_robin" || report(t, a, "crm").Merge != "round_robin" {
		t.Fatalf("%v %s", got, a.Merge)
	}
	n = newNet([]muster.Document{doc("a1", "fox"), doc("a2", "fox hen")})
	o := noDedupe()
	o.Merge = "round_robin"
	a = ask(t, n.withOwn(t, w), muster.Query{Text: "fox", Limit: 4, Options: o})
	if got := ids(a); !slices.Equal(got, []string{"a1", "c2", "s9", "a2"}) || a.Merge != "round_robin" {
		t.Fatalf("%v %s", got, a.Merge)
	}
}

func TestAnApplicationThatDoesNotAnswerIsNamedAndMakesTheAnswerPartial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		holds := uint64(98)
		n := newNet(some("a", 2))
		w := town{
			"bad":  {err: muster.Errorf(muster.OutcomeUnknown, "not what the protocol asks for").WithCode("bad_answer")},
			"open": {err: muster.Errorf(muster.Unavailable, "failed 5 times").WithCode(muster.CodeCircuitOpen)},
			"slow": {delay: time.Hour}, "big": {holds: &holds},
		}
		f := n.withOwn(t, w)
		began := time.Now()
		a := ask(t, f, muster.Query{Text: "fox"})
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("took %v", took)
		}
		for slug, status := range map[string]string{"a": "ok", "bad": "failed", "open": "circuit_open", "slow": "timed_out", "big": "empty"} {
			if r := report(t, a, slug); r.Status != status || (r.Error == "") != (status == "ok" || status == "empty") {
				t.Errorf("%+v, want %s", r, status)
			}
		}
		if !a.Partial || a.Coverage != 1 || a.Count != 2 || a.Merge != "exact" || a.NodesAsked != 5 || a.NodesSearched != 2 {
			t.Errorf("%+v", a)
		}
		w["big"].err = muster.Errorf(muster.Unavailable, "gone")
		if a = ask(t, f, muster.Query{Text: "fox"}); a.Coverage != 0.02 { // it had 98 of 100
			t.Errorf("coverage %v", a.Coverage)
		}
	})
}

func TestAnApplicationBelievedDownIsAskedButHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(some("a", 2))
		f := n.withOwn(t, town{"shop": {delay: time.Hour}})
		n.nodes[1].Status = muster.StatusError
		began := time.Now()
		a := ask(t, f, muster.Query{Text: "fox"})
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if r := report(t, a, "shop"); r.Status != "failed" || r.Error != "down" || !a.Partial {
			t.Errorf("%+v", r)
		}
	})
}

func TestAnApplicationIsAskedForMoreOnceWhenItsHitsAreDuplicates(t *testing.T) {
	w := town{"shop": {docs: append(copies(30), doc("z", "fox and much else that makes it longer"))}}
	a := ask(t, newNet(some("a", 1)).withOwn(t, w), muster.Query{Text: "fox", Limit: 3})
	if got := ids(a); !slices.Equal(got, []string{"c000", "a000", "z"}) {
		t.Fatalf("%v", got)
	}
	if got := w["shop"].limits; !slices.Equal(got, []int{3, 100}) {
		t.Fatalf("asked for %v", got)
	}
}

func TestHitsOfCollectionsThatWereNotAskedForAreLeftOut(t *testing.T) {
	w := town{"shop": {docs: some("s", 2)}}
	o := muster.QueryOptions{Collections: []string{"news"}}
	if a := ask(t, newNet(nil).withOwn(t, w), muster.Query{Text: "fox", Options: o}); a.Count != 0 {
		t.Fatalf("%+v", a.Results)
	}
}

func TestRankingsOfReplicasAreFusedAndThoseOfOthersAreNot(t *testing.T) {
	x, y, z := doc("x", "fox 1"), doc("y", "fox 2"), doc("z", "fox 3")
	w := town{"crm": {docs: []muster.Document{x, y, z}}, "crm-2": {docs: []muster.Document{z, y}}}
	n := newNet(nil)
	f := n.withOwn(t, w)
	for i := range n.nodes {
		if n.nodes[i].Slug == "crm-2" {
			n.nodes[i].ReplicaOf = "crm"
		}
	}
	a := ask(t, f, muster.Query{Text: "fox"})
	if got := ids(a); !slices.Equal(got, []string{"z", "y", "x"}) || a.Merge != "rrf" || report(t, a, "crm-2").Merge != "rrf" {
		t.Fatalf("%v %s", got, a.Merge) // z is first and third, y twice second, x first only
	}
	if also := a.Results[0].AlsoOn; !slices.Equal(also, []string{"crm-2"}) {
		t.Fatalf("%+v", a.Results[0])
	}
	n.nodes[len(n.nodes)-1].ReplicaOf, n.nodes[len(n.nodes)-2].ReplicaOf = "", ""
	if a = ask(t, f, muster.Query{Text: "fox"}); a.Merge != "round_robin" || report(t, a, "crm-2").Merge != "round_robin" {
		t.Fatalf("no replicas, but %+v", a)
	}
}

func TestAnAnswerWithApplicationsIsKeptForASecondForTheyTellNoGenerations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := town{}
		n := newNet(some("a", 2))
		f, _ := n.cached(t, func(c *search.Config) { c.Outside, c.Texts = w, w })
		if a := ask(t, f, muster.Query{Text: "fox"}); a.Cached {
			t.Fatal("the first answer is cached")
		}
		w["shop"] = &own{docs: some("s", 1)}
		n.nodes = append(n.nodes, muster.Node{
			ID: "id-shop", Slug: "shop", Kind: muster.KindExternal, Status: muster.StatusActive, Capabilities: []muster.Capability{muster.CapSearch},
		})
		if a := ask(t, f, muster.Query{Text: "fox"}); a.Cached || a.Count != 3 {
			t.Fatalf("an answer from before the application came: %+v", a)
		}
		if a := ask(t, f, muster.Query{Text: "fox"}); !a.Cached || a.Count != 3 {
			t.Fatalf("%+v", a)
		}
		w["shop"].docs = nil
		<-time.After(1100 * time.Millisecond)
		if a := ask(t, f, muster.Query{Text: "fox"}); a.Cached || a.Count != 2 || a.Merge != "exact" {
			t.Fatalf("%+v", a)
		}
		w["shop"].docs = some("s", 1) // an empty answer of an application is no whole one either
		<-time.After(1100 * time.Millisecond)
		if a := ask(t, f, muster.Query{Text: "fox"}); a.Cached || a.Count != 3 {
			t.Fatalf("%+v", a)
		}
	})
}
