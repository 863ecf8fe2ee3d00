package index_test

import (
	"path/filepath"
	"strings"
	"testing"

	"muster"
	"muster/search/index"
)

func TestATextFromElsewhereScoresAsTheSameTextInTheIndex(t *testing.T) {
	x, err := index.Open(filepath.Join(t.TempDir(), "x"), index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = x.Close() }()
	docs := []muster.Document{
		{ID: "1", Title: "Plum jam", Content: "Boil plums with sugar, and the plums boil."},
		{ID: "2", Title: "", Content: strings.Repeat("Pears and plums in a wine of pears. ", 9)},
		{ID: "3", Title: "Boiled pears", Content: ""},
		{ID: "4", Content: "Nothing of the kind"},
	}
	if _, err := x.Put(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	for _, q := range []muster.ShardQuery{
		{Text: "plums boil"}, {Text: "title:pears plum plum"}, {Text: "pears -jam", Fields: []string{"content"}}, {Text: "-jam"},
	} {
		stats, err := x.Pin(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		found, err := x.Search(t.Context(), muster.ShardSearch{
			Query: q, Stats: stats, Generation: stats.Generation, IndexID: stats.IndexID, Size: 10, ContentLength: 20,
		})
		if err != nil || len(found.Hits) == 0 {
			t.Fatal(found, err)
		}
		foreign := make([]muster.Hit, 0, len(found.Hits))
		for _, h := range found.Hits {
			for _, d := range docs {
				if d.ID == h.ID {
					foreign = append(foreign, muster.Hit{ID: d.ID, Title: d.Title, Content: d.Content})
				}
			}
		}
		scored, err := x.Score(q, stats, foreign, 20)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range found.Hits {
			got := scored[i]
			if got.Score != want.Score || got.ContentKey != want.ContentKey || got.Content != want.Content || got.Truncated != want.Truncated {
				t.Errorf("%q: %+v, in the index %+v", q.Text, got, want)
			}
		}
	}
	cut, err := x.Score(muster.ShardQuery{Text: "plums"}, muster.ShardStats{}, []muster.Hit{{ID: "1", Content: "plums", Truncated: true}}, -1)
	if err != nil || cut[0].ContentKey != "" || !cut[0].Truncated {
		t.Fatalf("%+v %v", cut, err)
	}
}
