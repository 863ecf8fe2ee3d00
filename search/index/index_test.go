package index_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/blevesearch/bleve/v2/analysis/lang/en"
	"github.com/blevesearch/bleve/v2/registry"
	"go.uber.org/goleak"

	"muster"
	"muster/search/index"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("INDEX_TEST_VICTIM"); dir != "" {
		victim(dir)
		return
	}
	// bleve's workers end by themselves, soon after their queue is closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/blevesearch/bleve_index_api.AnalysisWorker"))
}

func open(t *testing.T, dir string, opts index.Options) *index.Index {
	t.Helper()
	x, err := index.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

func put(t *testing.T, x *index.Index, docs ...muster.Document) muster.Indexed {
	t.Helper()
	got, err := x.Put(t.Context(), docs)
	if err != nil || got.Failed > 0 {
		t.Fatal(got, err)
	}
	return got
}

// ask runs both phases on one index.
func ask(t *testing.T, x *index.Index, s muster.ShardSearch) muster.ShardHits {
	t.Helper()
	s = pin(t, x, s)
	got, err := x.Search(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func pin(t *testing.T, x *index.Index, s muster.ShardSearch) muster.ShardSearch {
	t.Helper()
	stats, err := x.Pin(t.Context(), s.Query)
	if err != nil {
		t.Fatal(err)
	}
	s.Stats, s.Generation, s.IndexID = stats, stats.Generation, stats.IndexID
	return s
}

func text(q string) muster.ShardSearch {
	return muster.ShardSearch{Query: muster.ShardQuery{Text: q}, Size: 100, ContentLength: -1}
}

func ids(h muster.ShardHits) string {
	list := make([]string, 0, len(h.Hits))
	for _, h := range h.Hits {
		list = append(list, h.ID)
	}
	return strings.Join(list, ",")
}

// reference is the formula over maps.
type reference struct {
	docs    map[[2]string]muster.Document
	analyse func(string) []string
	counts  map[string]counted // by field, of one search
}

type counted struct {
	tokens int
	df     map[string]float64
}

func newReference(t *testing.T) *reference {
	t.Helper()
	a, err := registry.NewCache().AnalyzerNamed(en.AnalyzerName)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string][]string{}
	return &reference{docs: map[[2]string]muster.Document{}, analyse: func(s string) []string {
		terms, ok := known[s]
		if !ok {
			for _, t := range a.Analyze([]byte(s)) {
				terms = append(terms, string(t.Term))
			}
			known[s] = slices.Clip(terms)
		}
		return slices.Clip(terms)
	}}
}

func (r *reference) put(d muster.Document) {
	r.docs[[2]string{cmp.Or(d.Collection, "default"), d.ID}] = d
}

func (r *reference) field(d muster.Document, f string) []string {
	switch f {
	case "title":
		return r.analyse(d.Title)
	case "content":
		return r.analyse(d.Content)
	}
	return append(r.analyse(d.Title), r.analyse(d.Content)...)
}

func count(list []string, term string) (n int) {
	for _, s := range list {
		if s == term {
			n++
		}
	}
	return n
}

// counted returns the length of a field in all documents, and how many have a term.
func (r *reference) counted(f string) (tokens int, df map[string]float64) {
	df = map[string]float64{}
	for _, d := range r.docs {
		words := r.field(d, f)
		tokens += len(words)
		for _, t := range slices.Compact(slices.Sorted(slices.Values(words))) {
			df[t]++
		}
	}
	return tokens, df
}

func (r *reference) bm25(d muster.Document, f string, terms []string) (sum float64) {
	if len(terms) == 0 {
		return 0
	}
	c, ok := r.counts[f]
	if !ok {
		c.tokens, c.df = r.counted(f)
		r.counts[f] = c
	}
	n, tokens, df := float64(len(r.docs)), c.tokens, c.df
	words := r.field(d, f)
	for _, t := range terms { // a term named twice counts twice
		if tf := float64(count(words, t)); tf > 0 {
			sum += math.Log(1+(n-df[t]+0.5)/(df[t]+0.5)) * tf / (tf + 1.2*(0.25+0.75*float64(len(words))/(float64(tokens)/n)))
		}
	}
	return sum
}

type want struct {
	collection, id string
	score          float64
}

// search knows signs, title:, content: and collection:.
func (r *reference) search(q muster.ShardQuery) (list []want) {
	r.counts = map[string]counted{}
	for k, d := range r.docs {
		if len(q.Collections) > 0 && !slices.Contains(q.Collections, k[0]) {
			continue
		}
		bare := "all"
		if len(q.Fields) == 1 {
			bare = q.Fields[0]
		}
		terms := map[string][]string{}
		any, good, positive, excludes := false, true, false, false
		for w := range strings.FieldsSeq(q.Text) {
			sign := ""
			if w[0] == '+' || w[0] == '-' {
				sign, w = w[:1], w[1:]
			}
			excludes = excludes || sign == "-"
			if c, ok := strings.CutPrefix(w, "collection:"); ok {
				has := k[0] == c
				good = good && (sign == "" && q.Operator != "and" || has == (sign != "-"))
				any = any || sign != "-" && has
				positive = positive || sign != "-"
				continue
			}
			f, kind := bare, bare
			if name, rest, ok := strings.Cut(w, ":"); ok {
				f, kind, w = name, name, rest
			}
			words, all := r.field(d, f), true
			tokens := r.analyse(w)
			positive = positive || sign != "-" && len(tokens) > 0
			for _, tok := range tokens {
				has := slices.Contains(words, tok)
				all = all && has
				any = any || sign != "-" && has
			}
			if sign != "-" {
				terms[kind] = append(terms[kind], tokens...)
			}
			if len(tokens) > 0 {
				switch {
				case sign == "-":
					good = good && !all
				case sign == "+" || q.Operator == "and":
					good = good && all
				}
			}
		}
		if good && (any || !positive && excludes) {
			score := r.bm25(d, "all", terms["all"]) + r.bm25(d, "content", terms["content"]) +
				0.3*r.bm25(d, "title", append(slices.Clone(terms["title"]), terms["all"]...))
			list = append(list, want{k[0], d.ID, score})
		}
	}
	return list
}

func compare(t *testing.T, r *reference, x *index.Index, q muster.ShardQuery) {
	t.Helper()
	all := r.search(q)
	for _, page := range [][2]int{{0, 1000}, {0, 3}, {2, 4}, {1000, 5}, {0, 0}} {
		got := ask(t, x, muster.ShardSearch{Query: q, From: page[0], Size: page[1]})
		if got.Matched != len(all) {
			t.Fatalf("%+v: %d matched, want %d", q, got.Matched, len(all))
		}
		if n := max(0, min(len(all), page[0]+page[1])-page[0]); len(got.Hits) != n {
			t.Fatalf("%+v %v: %d hits, want %d", q, page, len(got.Hits), n)
		}
		byKey := map[[2]string]float64{}
		for _, w := range all {
			byKey[[2]string{w.collection, w.id}] = w.score
		}
		for i, h := range got.Hits {
			score, ok := byKey[[2]string{h.Collection, h.ID}]
			if !ok || math.Abs(score-h.Score) > 1e-9 {
				t.Fatalf("%+v: %s/%s has score %v, want %v (%v)", q, h.Collection, h.ID, h.Score, score, ok)
			}
			if i > 0 {
				p := got.Hits[i-1]
				if p.Score < h.Score || p.Score == h.Score && p.Collection+"\x00"+p.ID >= h.Collection+"\x00"+h.ID {
					t.Fatalf("%+v: order of %d and %d", q, i-1, i)
				}
			}
		}
		if len(got.Hits) > 0 && page[1] < 1000 { // the cut takes the best ones
			better := 0
			last := got.Hits[len(got.Hits)-1]
			for _, w := range all {
				if w.score > last.Score+1e-9 {
					better++
				}
			}
			if better > page[0]+len(got.Hits)-1 {
				t.Fatalf("%+v %v: %d are better than the last", q, page, better)
			}
		}
	}
}

func TestScoresEqualTheFormulaAfterUpdatesAndDeletes(t *testing.T) {
	words := strings.Fields("plum pear apple running runs garden trees tree the and draft sugar lemon well-known C++ jam")
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			some := func(n int) string {
				b := make([]string, rnd.IntN(n))
				for i := range b {
					b[i] = words[min(rnd.IntN(len(words)), rnd.IntN(len(words)))]
				}
				return strings.Join(b, " ")
			}
			x, r := open(t, t.TempDir(), index.Options{}), newReference(t)
			for range 12 {
				n := 1 + rnd.IntN(20)
				docs := make([]muster.Document, 0, 2*n)
				for range n {
					d := muster.Document{ID: fmt.Sprint(rnd.IntN(60)), Title: some(4), Content: some(30), Collection: []string{"", "b", "b c"}[rnd.IntN(3)]}
					docs = append(docs, d, d)
					r.put(d)
				}
				put(t, x, docs...)
				gone := []string{fmt.Sprint(rnd.IntN(60)), fmt.Sprint(rnd.IntN(60)), "never"}
				there := 0
				for _, id := range slices.Compact(slices.Sorted(slices.Values(gone))) {
					if _, ok := r.docs[[2]string{"b", id}]; ok {
						there++
						delete(r.docs, [2]string{"b", id})
					}
				}
				if n, err := x.Delete(t.Context(), "b", gone); err != nil || n != there {
					t.Fatal(n, there, err)
				}
			}
			check := func() {
				for _, q := range []string{
					"plum", "pear plum", "plum plum running", "+plum pear", "+pear +tree -draft", "-draft", "-plum -pear", "the", "-the", "-nosuch",
					"the -plum", "+the -plum", "title:the -pear -draft", "the and", "the -the", "+the plum",
					"title:plum", "content:jam plum", "title:plum plum", "well-known", "+well-known", "-well-known", "collection:b", "+collection:b plum",
					"plum -collection:default", "plum the", "nosuch", "+nosuch plum",
				} {
					for _, op := range []string{"or", "and"} {
						for _, f := range [][]string{nil, {"title"}, {"content"}} {
							compare(t, r, x, muster.ShardQuery{Text: q, Operator: op, Fields: f})
						}
					}
					compare(t, r, x, muster.ShardQuery{Text: q, Collections: []string{"default", "b c"}})
				}
			}
			check()
			before, _ := x.Stats(t.Context())
			if err := x.Rebuild(t.Context()); err != nil {
				t.Fatal(err)
			}
			after, _ := x.Stats(t.Context())
			if after.IndexID == before.IndexID || after.Docs != before.Docs || fmt.Sprint(after.Tokens, after.Collections) != fmt.Sprint(before.Tokens, before.Collections) {
				t.Errorf("rebuilt %+v from %+v", after, before)
			}
			check()
		})
	}
}

func TestTiesAreOrderedByCollectionThenIDAlsoAtTheCut(t *testing.T) {
	x := open(t, t.TempDir(), index.Options{})
	for _, k := range []string{"b/2", "a/3", "b/1", "a b/1", "a/1", "a/2"} {
		c, id, _ := strings.Cut(k, "/")
		put(t, x, muster.Document{ID: id, Collection: c, Content: "plum"})
	}
	s := text("plum")
	s.From, s.Size = 1, 4
	got := make([]string, 0, s.Size)
	for _, h := range ask(t, x, s).Hits {
		got = append(got, h.Collection+"/"+h.ID)
	}
	if want := "a/2 a/3 a b/1 b/1"; strings.Join(got, " ") != want {
		t.Errorf("%q", got)
	}
}

func TestTheLastOfEqualDocumentsWins(t *testing.T) {
	x := open(t, t.TempDir(), index.Options{})
	docs := []muster.Document{{ID: "p", Content: "red red red"}, {ID: "q", Content: "red green"}, {ID: "p", Content: "red old"}, {ID: "p", Content: "blue"}}
	if got := put(t, x, docs...); got.Indexed != 2 || got.Updated != 2 {
		t.Errorf("%+v", got)
	}
	if h := ask(t, x, text("red")); ids(h) != "q" || h.Matched != 1 {
		t.Error(ids(h))
	}
	s, err := x.Stats(t.Context())
	if err != nil || s.Docs != 2 || s.Tokens["all"] != 3 || s.Collections["default"] != 2 || s.Bytes == 0 {
		t.Errorf("%+v %v", s, err)
	}
	if got := put(t, x, docs...); got.Indexed != 0 || got.Updated != 4 {
		t.Errorf("%+v", got)
	}
}

func TestPastedTextFindsItsDocument(t *testing.T) {
	x := open(t, t.TempDir(), index.Options{})
	put(
		t, x, muster.Document{ID: "cpp", Content: "written in C++ and C#"}, muster.Document{ID: "dash", Content: "a state-of-the-art well-known method"},
		muster.Document{ID: "time", Content: "meeting at 10:30 in room 5"}, muster.Document{ID: "url", Content: "see https://example.org/a/b?c=1 for details"},
		muster.Document{ID: "path", Content: "edit /etc/hosts now"}, muster.Document{ID: "ver", Content: "release v1.2.3-rc1"},
		muster.Document{ID: "u", Content: "u\u0308ber"},
	)
	for q, id := range map[string]string{
		"state-of-the-art": "dash", "10:30": "time", "https://example.org/a/b?c=1": "url", "/etc/hosts": "path", "v1.2.3-rc1": "ver", "C++": "cpp",
		`"state-of-the-art`: "dash", "\u00fcber": "u",
	} {
		if got := ids(ask(t, x, text(q))); !strings.Contains(","+got+",", ","+id+",") {
			t.Errorf("%q: %q", q, got)
		}
	}
	for _, q := range []string{"", `""`, "*", "+", "-", `"`, `+"`, "()"} {
		if h := ask(t, x, text(q)); h.Matched != 0 {
			t.Errorf("%q: %d", q, h.Matched)
		}
	}
	if _, err := x.Pin(t.Context(), muster.ShardQuery{Text: "plu*"}); muster.CodeOf(err) != "unsupported" {
		t.Error(err)
	}
}

func TestAStopWordBesideAnExclusionIsAsIfItWereNotThere(t *testing.T) {
	x := open(t, t.TempDir(), index.Options{})
	put(t, x, muster.Document{ID: "1", Content: "the apple"}, muster.Document{ID: "2", Content: "the banana"}, muster.Document{ID: "3", Title: "fig"})
	for q, want := range map[string]string{
		"-banana": "1,3", "the -banana": "1,3", "+the -banana": "1,3", "title:the -banana": "1,3",
		"+the apple": "1", "apple the -banana": "1", "the": "", "-the": "1,2,3", "collection:none the -banana": "",
	} {
		if got := ids(ask(t, x, text(q))); got != want {
			t.Errorf("%q: %q, want %q", q, got, want)
		}
	}
}

func TestExactFieldsMatchWholeValuesAndScoreNothing(t *testing.T) {
	x := open(t, t.TempDir(), index.Options{})
	put(
		t, x, muster.Document{
			ID: "1", Content: "plum", Language: "de", URL: "https://x.y/z",
			Metadata: muster.Metadata{"author": json.RawMessage(`"Ann Lee"`), "n": json.RawMessage(`1.50`), "tags": json.RawMessage(`["a",true,null,{"x":1}]`)},
		},
		muster.Document{ID: "2", Content: "pear nokey:author"},
	)
	for q, want := range map[string]string{
		"language:de": "1", "url:https://x.y/z": "1", "id:2": "2", `author:"Ann Lee"`: "1", "author:ann": "", "n:1.50": "1", "n:1.5": "",
		"tags:a": "1", "tags:true": "1", "tags:x": "", "collection:default": "1,2", "-author:x": "1,2", `-author:"Ann Lee"`: "2",
		"nokey:author": "2",
	} {
		h := ask(t, x, text(q))
		if ids(h) != want {
			t.Errorf("%q: %q, want %q", q, ids(h), want)
		}
		for _, hit := range h.Hits {
			if hit.Score != 0 && q != "nokey:author" {
				t.Errorf("%q scores %v", q, hit.Score)
			}
		}
	}
	s := pin(t, x, text("author:Ann n:3 no:1"))
	if !slices.Equal(s.Stats.Keys, []string{"author", "n"}) {
		t.Error(s.Stats.Keys)
	}
	if d, err := x.Get(t.Context(), "", "1"); err != nil || string(d.Metadata["n"]) != "1.50" || d.Collection != "default" {
		t.Error(d, err)
	}
	// A key is none any more when its last document is gone.
	if _, err := x.Delete(t.Context(), "", []string{"1"}); err != nil {
		t.Fatal(err)
	}
	if s := pin(t, x, text("author:Ann")); len(s.Stats.Keys) != 0 {
		t.Error(s.Stats.Keys)
	}
}

func TestAGenerationStaysAsItWasWhileWritesGoOn(t *testing.T) {
	x := open(t, t.TempDir(), index.Options{})
	put(t, x, muster.Document{ID: "1", Content: "plum"}, muster.Document{ID: "2", Content: "plum pear"})
	s := pin(t, x, text("plum"))
	first, err := x.Search(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		put(t, x, muster.Document{ID: "2", Content: "fig"}, muster.Document{ID: fmt.Sprint("n", i), Content: "plum plum"})
	}
	if _, err := x.Delete(t.Context(), "", []string{"1"}); err != nil {
		t.Fatal(err)
	}
	again, err := x.Search(t.Context(), s)
	if err != nil || fmt.Sprint(again) != fmt.Sprint(first) || ids(again) != "1,2" {
		t.Error(again, err)
	}
	if h := ask(t, x, text("plum")); h.Matched != 20 {
		t.Error(h.Matched)
	}
}

func gone(err error) bool {
	return muster.KindOf(err) == muster.Gone && muster.CodeOf(err) == "generation_gone"
}

func TestAGenerationThatIsNotKeptIsGone(t *testing.T) {
	x := open(t, t.TempDir(), index.Options{})
	put(t, x, muster.Document{ID: "1", Content: "plum"})
	s := pin(t, x, text("plum"))
	for _, change := range []func(*muster.ShardSearch){
		func(s *muster.ShardSearch) { s.Generation++ },
		func(s *muster.ShardSearch) { s.IndexID = "other" },
	} {
		other := s
		change(&other)
		if _, err := x.Search(t.Context(), other); !gone(err) {
			t.Error(err)
		}
	}
	if err := x.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Search(t.Context(), s); !gone(err) {
		t.Error(err)
	}
	if ids(ask(t, x, text("plum"))) != "1" {
		t.Error("lost")
	}
}

func TestAGenerationThatNobodyUsesIsLetGo(t *testing.T) {
	x := open(t, t.TempDir(), index.Options{PinFor: 1})
	put(t, x, muster.Document{ID: "1", Content: "plum"})
	s := pin(t, x, text("plum"))
	for range 1_000_000 {
		// A search counts as a use; the generation ends between two of them.
		if _, err := x.Search(t.Context(), s); gone(err) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
	t.Error("still there")
}

func TestOnlySoManyGenerationsAreKept(t *testing.T) {
	x := open(t, t.TempDir(), index.Options{Pins: 3})
	pins := make([]muster.ShardSearch, 0, 5)
	for i := range 5 {
		put(t, x, muster.Document{ID: fmt.Sprint(i), Content: "plum"})
		pins = append(pins, pin(t, x, text("plum")))
		if _, err := x.Search(t.Context(), pins[0]); err != nil {
			t.Errorf("a generation in use was let go: %v", err)
		}
	}
	for i, kept := range []bool{true, false, false, true, true} {
		if _, err := x.Search(t.Context(), pins[i]); gone(err) == kept {
			t.Errorf("generation %d: %v", i+1, err)
		}
	}
}

func TestConcurrentWritersLoseNothing(t *testing.T) {
	var last uint64
	x := open(t, t.TempDir(), index.Options{OnChange: func(_ string, _, docs uint64) { last = docs }})
	var wg sync.WaitGroup
	var mu sync.Mutex
	added, updated := 0, 0
	for w := range 8 {
		wg.Go(func() {
			for i := range 10 {
				got, err := x.Put(t.Context(), []muster.Document{{ID: fmt.Sprint(w, "-", i), Content: "plum"}, {ID: "shared", Content: fmt.Sprint("pear ", w)}})
				if err != nil {
					t.Error(err)
				}
				if d, err := x.Get(t.Context(), "", fmt.Sprint(w, "-", i)); err != nil || d.Content != "plum" {
					t.Error(d, err)
				}
				mu.Lock()
				added += got.Indexed
				updated += got.Updated
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	s, err := x.Stats(t.Context())
	if err != nil || added != 81 || updated != 79 || s.Docs != 81 || s.Tokens["all"] != 82 {
		t.Errorf("%d %d %+v %v", added, updated, s, err)
	}
	if err := x.Close(); err != nil || last != 81 {
		t.Error(err, last)
	}
	if _, err := x.Put(t.Context(), []muster.Document{{ID: "a"}}); muster.KindOf(err) != muster.Unavailable {
		t.Error(err)
	}
	if _, err := x.Pin(t.Context(), muster.ShardQuery{}); muster.KindOf(err) != muster.Unavailable {
		t.Error(err)
	}
}

// victim writes until it is killed, and says what it was told is written.
func victim(dir string) {
	x, err := index.Open(dir, index.Options{})
	for i := 0; err == nil; i++ {
		_, err = x.Put(context.Background(), []muster.Document{{ID: fmt.Sprint(i), Content: "plum"}, {ID: "same", Content: fmt.Sprint("pear ", i)}})
		fmt.Fprintln(os.Stdout, i)
	}
	fmt.Fprintln(os.Stderr, err)
}

func TestWhatWasAnsweredSurvivesAKill(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "INDEX_TEST_VICTIM="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	last := -1
	for last < 25 && lines.Scan() {
		if last == 5 {
			if _, err := index.Open(dir, index.Options{}); muster.KindOf(err) != muster.Conflict {
				t.Error("open in two processes:", err)
			}
		}
		last++
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		last++
	}
	_ = cmd.Wait()
	if last < 25 {
		t.Fatal("the victim ended early")
	}
	x := open(t, dir, index.Options{})
	h := ask(t, x, text("plum"))
	s, err := x.Stats(t.Context())
	if err != nil || h.Matched < last+1 || h.Matched > last+2 || s.Docs != uint64(h.Matched)+1 || s.Tokens["all"] != s.Docs+1 || s.Generation != uint64(h.Matched) {
		t.Errorf("%d matched after %d: %+v %v", h.Matched, last, s, err)
	}
}

func TestDocumentsAreRefusedOneByOne(t *testing.T) {
	x := open(t, t.TempDir(), index.Options{})
	odd := []string{"path/to/file.md", "..", "a//b", "\u00fc", "u", "x ", "x", "a\x00b", `"q"`, strings.Repeat("\u00e9", 256)}
	docs := make([]muster.Document, 0, 4+len(odd))
	docs = append(docs, muster.Document{}, muster.Document{ID: strings.Repeat("k", 513)}, muster.Document{ID: "\xff"}, muster.Document{ID: "c", Collection: "a\x00b"})
	for _, id := range odd {
		docs = append(docs, muster.Document{ID: id, Content: "damson"})
	}
	got, err := x.Put(t.Context(), docs)
	if err != nil || got.Failed != 4 || got.Indexed != len(odd) || got.Errors[3].Line != 4 {
		t.Fatalf("%+v %v", got, err)
	}
	for _, id := range odd {
		if d, err := x.Get(t.Context(), "", id); err != nil || d.ID != id {
			t.Errorf("%q: %q %v", id, d.ID, err)
		}
		if n, err := x.Delete(t.Context(), "", []string{id}); n != 1 || err != nil {
			t.Errorf("%q: %d %v", id, n, err)
		}
		if _, err := x.Get(t.Context(), "", id); muster.KindOf(err) != muster.NotFound {
			t.Errorf("%q: %v", id, err)
		}
	}
	if h := ask(t, x, text("damson")); h.Matched != 0 {
		t.Error("left over:", ids(h))
	}
}

func TestACollectionIsRemovedWhole(t *testing.T) {
	x := open(t, t.TempDir(), index.Options{})
	put(t, x, muster.Document{ID: "1", Collection: "a"}, muster.Document{ID: "2", Collection: "a"}, muster.Document{ID: "1", Collection: "ab", Content: "plum"})
	if n, err := x.DeleteCollection(t.Context(), "a"); n != 2 || err != nil {
		t.Error(n, err)
	}
	s, err := x.Stats(t.Context())
	if err != nil || fmt.Sprint(s.Collections) != "map[ab:1]" || s.Tokens["content"] != 1 {
		t.Error(s, err)
	}
	before := s.Generation
	if n, err := x.DeleteCollection(t.Context(), "a"); n != 0 || err != nil {
		t.Error(n, err)
	}
	if s, _ := x.Stats(t.Context()); s.Generation != before {
		t.Error("removing nothing made a generation")
	}
}

func TestCollectionsAndIDsAreTheSameHoweverTheyAreComposed(t *testing.T) {
	const composed, apart = "caf\u00e9", "cafe\u0301"
	x := open(t, t.TempDir(), index.Options{})
	put(t, x, muster.Document{ID: composed, Collection: composed, Content: "plum"}, muster.Document{ID: "2", Collection: apart, Content: "plum"})
	if got := put(t, x, muster.Document{ID: apart, Collection: apart, Content: "plum jam"}); got.Updated != 1 {
		t.Errorf("%+v", got)
	}
	d, err := x.Get(t.Context(), apart, apart)
	if err != nil || d.ID != composed || d.Collection != composed || d.Content != "plum jam" {
		t.Errorf("%+v %v", d, err)
	}
	sound(t, x, []string{composed}, []string{composed, "2"})
	if n, err := x.Delete(t.Context(), apart, []string{apart, composed}); n != 1 || err != nil {
		t.Error(n, err)
	}
	put(t, x, muster.Document{ID: apart, Collection: composed, Content: "plum"})
	if n, err := x.DeleteCollection(t.Context(), apart); n != 2 || err != nil {
		t.Error(n, err)
	}
	if h := ask(t, x, text("plum")); h.Matched != 0 {
		t.Error("left over:", ids(h))
	}
	long := strings.Repeat("\u0958", index.MaxID/3) // twice as long in NFC
	if got, err := x.Put(t.Context(), []muster.Document{{ID: long}}); err != nil || got.Failed != 1 {
		t.Errorf("%+v %v", got, err)
	}
}

func TestHitsAreCutByCharactersAndKeyedByContent(t *testing.T) {
	x := open(t, t.TempDir(), index.Options{})
	put(t, x, muster.Document{ID: "1", Content: "Pl\u00fcm  tree"}, muster.Document{ID: "2", Content: " plu\u0308m\ntree\t"}, muster.Document{ID: "3", Title: "tree"})
	for n, want := range map[int]string{0: "", 3: "Pl\u00fc", 10: "Pl\u00fcm  tree", -1: "Pl\u00fcm  tree"} {
		s := text("id:1")
		s.ContentLength = n
		h := ask(t, x, s).Hits[0]
		if h.Content != want || h.Truncated != (n == 0 || n == 3) {
			t.Errorf("%d: %+v", n, h)
		}
	}
	h := ask(t, x, text("id:1 id:2 id:3")).Hits
	if h[0].ContentKey != h[1].ContentKey || len(h[0].ContentKey) != 64 || h[2].ContentKey != "" {
		t.Errorf("%+v", h)
	}
}

func TestNoWorkAfterTheContextEnded(t *testing.T) {
	x := open(t, t.TempDir(), index.Options{})
	put(t, x, muster.Document{ID: "1", Content: "plum"})
	s := pin(t, x, text("plum"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.Search(ctx, s); err == nil {
		t.Error("searched")
	}
	if _, err := x.Put(ctx, []muster.Document{{ID: "2"}}); muster.KindOf(err) != muster.Timeout {
		t.Error(err)
	}
	if err := x.Rebuild(ctx); err == nil {
		t.Error("rebuilt")
	}
}

func TestAnIndexIsTheSameAfterReopening(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir, index.Options{})
	put(t, x, muster.Document{ID: "1", Title: "plum", Content: "tree"})
	if err := x.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, _ := x.Stats(t.Context())
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = open(t, dir, index.Options{})
	after, err := x.Stats(t.Context())
	if err != nil || after.IndexID != before.IndexID || after.Generation != before.Generation || ids(ask(t, x, text("plum"))) != "1" {
		t.Errorf("%+v, was %+v, %v", after, before, err)
	}
}
