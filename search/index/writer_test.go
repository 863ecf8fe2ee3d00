package index_test

import (
	"fmt"
	"math/rand/v2"
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
