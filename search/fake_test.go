package search_test

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster"
	"muster/search"
)

func TestMain(m *testing.M) {
	// bleve's workers end by themselves, soon after their queue is closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/blevesearch/bleve_index_api.AnalysisWorker"))
}

// shard is a brute-force index. Its documents never change; what a test may
// change is how it behaves.
type shard struct {
	docs    []muster.Document
	scoring string

	pinDelay, searchDelay time.Duration
	deaf                  bool // sleeps on when its context ends
	pinErr, searchErr     error
	failFrom              int  // pages from here on fail with searchErr
	gone                  int  // so many searches say generation_gone
	still                 bool // pinning makes no new generation

	mu         sync.Mutex
	generation uint64 // guarded by mu
	pins       int    // guarded by mu
	froms      []int  // guarded by mu
}

func words(d muster.Document) map[string][]string {
	title, content := strings.Fields(d.Title), strings.Fields(d.Content)
	return map[string][]string{"title": title, "content": content, "all": slices.Concat(title, content)}
}

func count(list []string, word string) (n int) {
	for _, w := range list {
		if w == word {
			n++
		}
	}
	return n
}

func statsOf(docs []muster.Document, text string) muster.ShardStats {
	s := muster.ShardStats{Docs: uint64(len(docs)), Tokens: map[string]uint64{}, DF: map[string]map[string]uint64{}}
	for _, field := range []string{"title", "content", "all"} {
		s.DF[field] = map[string]uint64{}
		for _, d := range docs {
			list := words(d)[field]
			s.Tokens[field] += uint64(len(list))
			for w := range strings.FieldsSeq(text) {
				if slices.Contains(list, w) {
					s.DF[field][w]++
				}
			}
		}
	}
	return s
}

func score(d muster.Document, text string, s muster.ShardStats) (sum float64) {
	for _, field := range []string{"all", "title"} {
		weight := map[string]float64{"all": 1, "title": 0.3}[field]
		list := words(d)[field]
		for w := range strings.FieldsSeq(text) {
			tf := float64(count(list, w))
			if tf == 0 {
				continue
			}
			n, df := float64(s.Docs), float64(s.DF[field][w])
			avg := float64(s.Tokens[field]) / n
			idf := math.Log(1 + (n-df+0.5)/(df+0.5))
			sum += weight * idf * tf / (tf + 1.2*(0.25+0.75*float64(len(list))/avg))
		}
	}
	return sum
}

func find(docs []muster.Document, text string, s muster.ShardStats) []muster.ShardHit {
	var hits []muster.ShardHit
	for _, d := range docs {
		if sc := score(d, text, s); sc > 0 {
			hits = append(hits, muster.ShardHit{ContentKey: strings.ToLower(d.Content), Hit: muster.Hit{
				ID: d.ID, Collection: d.Collection, URL: d.URL, Title: d.Title, Content: d.Content, Score: sc,
			}})
		}
	}
	slices.SortFunc(hits, func(a, b muster.ShardHit) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Collection, b.Collection), cmp.Compare(a.ID, b.ID))
	})
	return hits
}

// net is all shards by node ID, and the registry.
type net struct {
	nodes  []muster.Node
	shards map[string]*shard

	mu             sync.Mutex
	busy, mostBusy int // calls under way; guarded by mu
}

func (n *net) Nodes() []muster.Node { return slices.Clone(n.nodes) }

func (n *net) enter() func() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy++
	n.mostBusy = max(n.mostBusy, n.busy)
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.busy--
	}
}

func (s *shard) wait(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	done := ctx.Done()
	if s.deaf {
		done = nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-done:
		return ctx.Err()
	}
}

func (n *net) Pin(ctx context.Context, node muster.Node, q muster.ShardQuery) (muster.ShardStats, error) {
	defer n.enter()()
	s := n.shards[node.ID]
	if err := cmp.Or(s.wait(ctx, s.pinDelay), s.pinErr); err != nil {
		return muster.ShardStats{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pins++
	if !s.still || s.generation == 0 {
		s.generation++
	}
	stats := statsOf(s.docs, q.Text)
	stats.IndexID, stats.Generation, stats.ScoringID = "index-"+node.ID, s.generation, cmp.Or(s.scoring, "v1")
	return stats, nil
}

func (n *net) Search(ctx context.Context, node muster.Node, q muster.ShardSearch) (muster.ShardHits, error) {
	defer n.enter()()
	s := n.shards[node.ID]
	if err := s.wait(ctx, s.searchDelay); err != nil {
		return muster.ShardHits{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.froms = append(s.froms, q.From)
	if s.searchErr != nil && q.From >= s.failFrom {
		return muster.ShardHits{}, s.searchErr
	}
	if s.gone > 0 {
		s.gone--
		return muster.ShardHits{}, muster.Errorf(muster.Gone, "generation %d is gone", q.Generation).WithCode("generation_gone")
	}
	if q.IndexID != "index-"+node.ID || q.Generation == 0 || q.Generation > s.generation {
		return muster.ShardHits{}, fmt.Errorf("asked for %s/%d", q.IndexID, q.Generation)
	}
	hits := find(s.docs, q.Query.Text, q.Stats)
	from, to := min(q.From, len(hits)), min(q.From+q.Size, len(hits))
	return muster.ShardHits{Matched: len(hits), Hits: hits[from:to]}, nil
}

// newNet makes nodes a, b, c … with the documents given for each.
func newNet(docs ...[]muster.Document) *net {
	n := &net{shards: map[string]*shard{}}
	for i, d := range docs {
		slug := string(rune('a' + i))
		n.nodes = append(n.nodes, muster.Node{
			ID: "id-" + slug, Slug: slug, Name: "Node " + slug, Kind: muster.KindAgent, Status: muster.StatusActive,
			Observed: muster.ObservedUp, Capabilities: []muster.Capability{muster.CapSearch},
		})
		n.shards["id-"+slug] = &shard{docs: d}
	}
	return n
}

func (n *net) shard(slug string) *shard { return n.shards["id-"+slug] }

// federation joins the net as node a. Tests in a bubble end only when it stopped.
func (n *net) federation(t *testing.T) *search.Federation {
	t.Helper()
	f := search.New(search.Config{Self: "id-a", MaxParallel: 10}, n, n, n)
	t.Cleanup(func() {
		if err := f.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return f
}

func doc(id, content string) muster.Document {
	return muster.Document{ID: id, Collection: "default", Content: content}
}

// some makes n unlike documents that hold the word "fox".
func some(prefix string, n int) []muster.Document {
	docs := make([]muster.Document, 0, n)
	for i := range n {
		docs = append(docs, doc(fmt.Sprintf("%s%03d", prefix, i), "fox "+prefix+fmt.Sprint(i)))
	}
	return docs
}

// copies makes n documents with the same content.
func copies(n int) []muster.Document {
	docs := make([]muster.Document, n)
	for i := range docs {
		docs[i] = doc(fmt.Sprintf("c%03d", i), "fox")
	}
	return docs
}

func ask(t *testing.T, f *search.Federation, q muster.Query) muster.Answer {
	t.Helper()
	a, err := f.Search(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func report(t *testing.T, a muster.Answer, slug string) muster.NodeReport {
	t.Helper()
	for _, r := range a.Nodes {
		if r.Node == slug {
			return r
		}
	}
	t.Fatalf("no report of %s in %+v", slug, a.Nodes)
	return muster.NodeReport{}
}

func ids(a muster.Answer) []string {
	list := make([]string, 0, len(a.Results))
	for _, h := range a.Results {
		list = append(list, h.ID)
	}
	return list
}
