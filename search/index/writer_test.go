package index_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"muster"
	"muster/search/index"
)

// sound compares an index with what can be got from it, document by document.
func sound(t *testing.T, x *index.Index, collections, ids []string) {
	t.Helper()
	r := newReference(t)
	tokens := map[string]uint64{}
	perCollection := map[string]uint64{}
	for _, c := range collections {
		for _, id := range ids {
			d, err := x.Get(t.Context(), c, id)
			if muster.KindOf(err) == muster.NotFound {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			r.put(d)
			perCollection[c]++
			for _, f := range []string{"title", "content", "all"} {
				tokens[f] += uint64(len(r.field(d, f)))
			}
		}
	}
	s, err := x.Stats(t.Context())
	if err != nil || s.Docs != uint64(len(r.docs)) || fmt.Sprint(s.Collections) != fmt.Sprint(perCollection) {
		t.Errorf("%+v %v, want %d documents in %v", s, err, len(r.docs), perCollection)
	}
	for f, n := range tokens {
		if s.Tokens[f] != n {
			t.Errorf("%d tokens in %s, want %d", s.Tokens[f], f, n)
		}
	}
	for _, q := range []string{"plum", "pear plum", "-plum", "title:pear jam"} {
		compare(t, r, x, muster.ShardQuery{Text: q})
	}
}

func TestWritersRemoversAndRebuildsAtOnceLeaveCountsThatFitTheDocuments(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir, index.Options{})
	collections, ids := []string{"a", "b"}, make([]string, 20)
	for i := range ids {
		ids[i] = fmt.Sprint("d", i)
	}
	var wg sync.WaitGroup
	for w := range uint64(6) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(w, 5))
			words := func() string {
				return strings.Join([]string{"plum", "pear jam", "the", "apple"}[:r.IntN(5)], " ")
			}
			for range 40 {
				var err error
				c, id := collections[r.IntN(2)], ids[r.IntN(len(ids))]
				switch k := r.IntN(20); {
				case k == 0:
					_, err = x.DeleteCollection(t.Context(), c)
				case k == 1 && w == 0:
					err = x.Rebuild(t.Context())
				case k < 8:
					_, err = x.Delete(t.Context(), c, []string{id, ids[r.IntN(len(ids))], id})
				default:
					_, err = x.Put(t.Context(), []muster.Document{
						{ID: id, Collection: c, Title: words(), Content: words()},
						{ID: ids[r.IntN(len(ids))], Collection: c, Title: words()},
						{ID: id, Collection: c, Content: words()},
					})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	sound(t, x, collections, ids)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	sound(t, open(t, dir, index.Options{}), collections, ids)
}

func TestABatchThatCouldNotBeWrittenDoesNotSpoilTheNext(t *testing.T) {
	dir := t.TempDir()
	var told []string // by the writer
	x := open(t, dir, index.Options{OnChange: func(id string, generation, docs uint64) {
		told = append(told, fmt.Sprint(id, " ", generation, " ", docs))
	}})
	put(t, x, muster.Document{ID: "1", Content: "plum"})
	s, err := x.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	engine := filepath.Join(dir, s.IndexID)
	if err := os.Rename(engine, engine+".away"); err != nil {
		t.Fatal(err)
	}
	if got, err := x.Put(t.Context(), []muster.Document{{ID: "2", Content: "plum"}}); muster.KindOf(err) != muster.OutcomeUnknown || got.Indexed != 0 {
		t.Errorf("%+v %v", got, err)
	}
	if id, generation, err := x.Present(); id != s.IndexID || generation != 2 || err != nil {
		t.Errorf("at %s %d, %v", id, generation, err)
	}
	// Every field is read of what could not be written.
	sound(t, x, []string{"default"}, []string{"1", "2"})
	if err := os.Rename(engine+".away", engine); err != nil {
		t.Fatal(err)
	}
	put(t, x, muster.Document{ID: "3", Content: "plum pear"}, muster.Document{ID: "1", Content: "pear"})
	sound(t, x, []string{"default"}, []string{"1", "2", "3"})
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if want := []string{s.IndexID + " 1 1", s.IndexID + " 2 2", s.IndexID + " 3 3"}; !slices.Equal(told, want) {
		t.Errorf("told of %v, not %v", told, want)
	}
	x = open(t, dir, index.Options{})
	sound(t, x, []string{"default"}, []string{"1", "2", "3"})
	if d, err := x.Get(t.Context(), "", "3"); err != nil || d.Content != "plum pear" {
		t.Error(d, err)
	}
}
