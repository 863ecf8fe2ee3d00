package index_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/uuid"

	"muster"
	"muster/search/index"
)

func TestCloseEndsSearchesAndWritesUnderWay(t *testing.T) {
	for round := range 5 {
		x, err := index.Open(t.TempDir(), index.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			put(t, x, muster.Document{ID: fmt.Sprint(i), Content: "plum"})
		}
		var wg, started sync.WaitGroup
		work := func(f func() error) {
			started.Add(1)
			wg.Go(func() {
				if err := f(); err != nil {
					t.Error(err)
				}
				started.Done()
				for {
					err := f()
					if muster.KindOf(err) == muster.Unavailable {
						return
					}
					if err != nil && !gone(err) {
						t.Errorf("round %d: %v", round, err)
						return
					}
				}
			})
		}
		for range 3 {
			work(func() error {
				s := text("plum")
				stats, err := x.Pin(context.Background(), s.Query)
				if err != nil {
					return err
				}
				s.Stats, s.Generation, s.IndexID = stats, stats.Generation, stats.IndexID
				_, err = x.Search(context.Background(), s)
				return err
			})
		}
		work(func() error {
			_, err := x.Put(context.Background(), []muster.Document{{ID: "x", Content: "plum"}})
			return err
		})
		started.Wait()
		if err := x.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if err := x.Close(); err != nil {
			t.Error("closed twice:", err)
		}
	}
}

func TestAnInterruptedRebuildIsSweptAway(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir, index.Options{})
	put(t, x, muster.Document{ID: "1", Content: "plum"})
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, uuid.NewString())
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	x = open(t, dir, index.Options{})
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Error("left behind:", err)
	}
	if ids(ask(t, x, text("plum"))) != "1" {
		t.Error("lost")
	}
}

func TestAnIndexWithoutItsMetaFileIsRefusedAndNotEmptied(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir, index.Options{})
	put(t, x, muster.Document{ID: "1", Content: "plum"})
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	meta := filepath.Join(dir, "meta.json")
	if err := os.Rename(meta, meta+".away"); err != nil {
		t.Fatal(err)
	}
	if x, err := index.Open(dir, index.Options{}); muster.KindOf(err) != muster.Conflict {
		t.Error(err)
		_ = x.Close()
	}
	if err := os.Rename(meta+".away", meta); err != nil {
		t.Fatal(err)
	}
	if ids(ask(t, open(t, dir, index.Options{}), text("plum"))) != "1" {
		t.Error("lost")
	}
}

func TestAReopenedIndexLeavesOneGenerationOut(t *testing.T) {
	dir := t.TempDir()
	for _, want := range []uint64{1, 3, 5} { // 2 and 4 may have been seen before a crash
		x := open(t, dir, index.Options{})
		if got := put(t, x, muster.Document{ID: "1", Content: "plum"}); got.Generation != want {
			t.Errorf("generation %d, want %d", got.Generation, want)
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
