package search_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"muster"
	"muster/search"
)

// shop is three indexes of 2,000 products each, in this process.
func shop(b *testing.B) *search.Federation {
	b.Helper()
	c := newCluster(b, 3)
	random := rand.New(rand.NewPCG(1, 1))
	for _, n := range c.nodes {
		docs := make([]muster.Document, 2000)
		for i := range docs {
			docs[i] = anyProduct(random, 1_000_000).document()
			docs[i].Content += strings.Repeat(" and more of the same", 20)
		}
		if _, err := c.indexes[n.ID].Put(b.Context(), docs); err != nil {
			b.Fatal(err)
		}
	}
	return search.New(search.Config{Self: c.nodes[0].ID, MaxParallel: 10, CacheBytes: 64 << 20, Generations: c}, c, c, c)
}

func BenchmarkUncachedSearch(b *testing.B) {
	f := shop(b)
	for b.Loop() {
		if a, err := f.Search(b.Context(), muster.Query{Text: "red steel bottle", Options: muster.QueryOptions{Cache: new(bool)}}); err != nil || a.Cached {
			b.Fatal(err)
		}
	}
}

func BenchmarkCachedSearch(b *testing.B) {
	f := shop(b)
	q := muster.Query{Text: "red steel bottle"}
	if _, err := f.Search(b.Context(), q); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if a, err := f.Search(b.Context(), q); err != nil || !a.Cached {
			b.Fatal(err)
		}
	}
}
