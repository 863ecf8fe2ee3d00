package index_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/blevesearch/bleve/v2/analysis/lang/en"
	"github.com/blevesearch/bleve/v2/document"
	"github.com/blevesearch/bleve/v2/index/scorch"
	"github.com/blevesearch/bleve/v2/mapping"
	"github.com/blevesearch/bleve/v2/search"
	"github.com/blevesearch/bleve/v2/search/collector"
	"github.com/blevesearch/bleve/v2/search/query"
	bleve "github.com/blevesearch/bleve_index_api"

	"muster"
	"muster/search/index"
)

const benchDocs = 20_000

// benchCorpus has a few words that are frequent and many that are rare.
func benchCorpus() []muster.Document {
	r := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(r, 1.1, 4, 30_000)
	text := func(least, most int) string {
		words := make([]string, least+r.IntN(most-least+1))
		for i := range words {
			words[i] = fmt.Sprint("w", zipf.Uint64())
		}
		return strings.Join(words, " ")
	}
	docs := make([]muster.Document, benchDocs)
	for i := range docs {
		docs[i] = muster.Document{ID: fmt.Sprintf("doc-%05d", i), Title: text(3, 7), Content: text(15, 45)}
	}
	return docs
}

// plain is what the same library does by itself with the same documents: its
// default mapping, and its own searchers, scorers and collector.
type plain struct {
	index   bleve.Index
	queue   *bleve.AnalysisQueue
	mapping *mapping.IndexMappingImpl
}

func openPlain(b *testing.B) *plain {
	b.Helper()
	p := &plain{queue: bleve.NewAnalysisQueue(2), mapping: mapping.NewIndexMapping()}
	p.mapping.DefaultAnalyzer = en.AnalyzerName
	var err error
	p.index, err = scorch.NewScorch(scorch.Name, map[string]any{"path": filepath.Join(b.TempDir(), "plain")}, p.queue)
	if err == nil {
		err = p.index.Open()
	}
	if err != nil {
		b.Fatal(err)
	}
	return p
}

func (p *plain) close(b *testing.B) {
	b.Helper()
	if err := p.index.Close(); err != nil {
		b.Fatal(err)
	}
	p.queue.Close()
}

func (p *plain) fill(b *testing.B, docs []muster.Document) {
	b.Helper()
	for part := range slices.Chunk(docs, 1000) {
		batch := bleve.NewBatch()
		for _, d := range part {
			doc := document.NewDocument(d.ID)
			if err := p.mapping.MapDocument(doc, map[string]any{"title": d.Title, "content": d.Content}); err != nil {
				b.Fatal(err)
			}
			batch.Update(doc)
		}
		if err := p.index.Batch(batch); err != nil {
			b.Fatal(err)
		}
	}
}

func fillOurs(b *testing.B, x *index.Index, docs []muster.Document) {
	b.Helper()
	for part := range slices.Chunk(docs, 1000) {
		if got, err := x.Put(b.Context(), part); err != nil || got.Failed > 0 {
			b.Fatal(got, err)
		}
	}
}

// askBoth runs both phases, as a node of a cluster does.
func askBoth(ctx context.Context, x *index.Index, text string) (int, error) {
	q := muster.ShardQuery{Text: text}
	stats, err := x.Pin(ctx, q)
	if err != nil {
		return 0, err
	}
	hits, err := x.Search(ctx, muster.ShardSearch{
		Query: q, Stats: stats, Generation: stats.Generation, IndexID: stats.IndexID, Size: 10, ContentLength: 500,
	})
	return len(hits.Hits), err
}

// ask is a match query over title and content, and the stored fields of the hits.
func (p *plain) ask(ctx context.Context, text string) (n int, err error) {
	r, err := p.index.Reader()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	title, content := query.NewMatchQuery(text), query.NewMatchQuery(text)
	title.SetField("title")
	content.SetField("content")
	s, err := query.NewDisjunctionQuery([]query.Query{title, content}).Searcher(ctx, r, p.mapping, search.SearcherOptions{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	top := collector.NewTopNCollector(10, 0, search.SortOrder{&search.SortScore{Desc: true}})
	if err := top.Collect(ctx, s, r); err != nil {
		return 0, err
	}
	for _, hit := range top.Results() {
		if d, err := r.Document(hit.ID); err != nil || d == nil {
			return 0, fmt.Errorf("%s: %w", hit.ID, err)
		}
		n++
	}
	return n, nil
}

func BenchmarkSearch(b *testing.B) {
	docs := benchCorpus()
	p := openPlain(b)
	defer p.close(b)
	p.fill(b, docs)
	x, err := index.Open(b.TempDir(), index.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = x.Close() }()
	fillOurs(b, x, docs)
	for _, q := range [][2]string{{"frequent", "w0 w3"}, {"mixed", "w2 w40 w900"}, {"rare", "w5000 w7000"}} {
		name, text := q[0], q[1]
		bench(b, "query="+name+"/engine=muster", func() (int, error) { return askBoth(b.Context(), x, text) })
		bench(b, "query="+name+"/engine=bleve", func() (int, error) { return p.ask(b.Context(), text) })
	}
}

func bench(b *testing.B, name string, ask func() (int, error)) {
	b.Helper()
	b.Run(name, func(b *testing.B) {
		for b.Loop() {
			if n, err := ask(); err != nil || n != 10 {
				b.Fatal(n, err)
			}
		}
	})
}

func BenchmarkIndexing(b *testing.B) {
	docs := benchCorpus()
	b.Run("engine=muster", func(b *testing.B) {
		for b.Loop() {
			x, err := index.Open(b.TempDir(), index.Options{})
			if err != nil {
				b.Fatal(err)
			}
			fillOurs(b, x, docs)
			if err := x.Close(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(docs)*b.N)/b.Elapsed().Seconds(), "docs/s")
	})
	b.Run("engine=bleve", func(b *testing.B) {
		for b.Loop() {
			p := openPlain(b)
			p.fill(b, docs)
			p.close(b)
		}
		b.ReportMetric(float64(len(docs)*b.N)/b.Elapsed().Seconds(), "docs/s")
	})
}
