package index_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"muster"
	"muster/search/index"
)

// full makes the disk refuse what is written from now on, until it has room.
func full(t *testing.T, dir string, x *index.Index) (room func()) {
	t.Helper()
	s, err := x.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	engine := filepath.Join(dir, s.IndexID)
	if err := os.Rename(engine, engine+".away"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Rename(engine+".away", engine); err != nil {
			t.Fatal(err)
		}
	}
}

// refused puts a document that the disk does not take.
func refused(t *testing.T, x *index.Index, d muster.Document) {
	t.Helper()
	if got, err := x.Put(t.Context(), []muster.Document{d}); muster.KindOf(err) != muster.OutcomeUnknown || got.Indexed != 0 {
		t.Fatalf("%+v %v", got, err)
	}
}

// putSoon puts documents as soon as the disk has taken what it refused.
func putSoon(t *testing.T, x *index.Index, docs ...muster.Document) {
	t.Helper()
	for range 500 {
		_, err := x.Put(t.Context(), docs)
		if err == nil {
			return
		}
		if muster.KindOf(err) != muster.Unavailable {
			t.Fatal(err)
		}
		<-time.After(20 * time.Millisecond) // nothing tells when the disk takes it
	}
	t.Fatal("the disk has room, and nothing is written")
}

func TestABatchThatCouldNotBeWrittenDoesNotSpoilTheNext(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir, index.Options{})
	put(t, x, muster.Document{ID: "1", Content: "plum"})
	room := full(t, dir, x)
	refused(t, x, muster.Document{ID: "2", Content: "plum"})
	// Every field is read of what could not be written.
	sound(t, x, []string{"default"}, []string{"1", "2"})
	room()
	putSoon(t, x, muster.Document{ID: "3", Content: "plum pear"}, muster.Document{ID: "1", Content: "pear"})
	sound(t, x, []string{"default"}, []string{"1", "2", "3"})
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = open(t, dir, index.Options{})
	sound(t, x, []string{"default"}, []string{"1", "2", "3"})
	if d, err := x.Get(t.Context(), "", "3"); err != nil || d.Content != "plum pear" {
		t.Error(d, err)
	}
}

func TestARefusedBatchIsToldAndNothingIsWrittenUntilTheDiskTakesIt(t *testing.T) {
	dir := t.TempDir()
	told := make(chan [2]uint64, 10)
	x := open(t, dir, index.Options{OnChange: func(_ string, generation, docs uint64) { told <- [2]uint64{generation, docs} }})
	put(t, x, muster.Document{ID: "1", Content: "plum"})
	room := full(t, dir, x)
	refused(t, x, muster.Document{ID: "2", Content: "plum"})
	for _, want := range [][2]uint64{{1, 1}, {2, 2}} {
		select {
		case got := <-told:
			if got != want {
				t.Errorf("told %v, want %v", got, want)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%v was not told", want)
		}
	}
	for what, write := range map[string]func() error{
		"put":     func() error { _, err := x.Put(t.Context(), []muster.Document{{ID: "3"}}); return err },
		"delete":  func() error { _, err := x.Delete(t.Context(), "", []string{"1"}); return err },
		"remove":  func() error { _, err := x.DeleteCollection(t.Context(), "default"); return err },
		"rebuild": func() error { return x.Rebuild(t.Context()) },
	} {
		err := write()
		if e, ok := errors.AsType[*muster.Error](err); !ok || e.Kind != muster.Unavailable || e.Hint == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	sound(t, x, []string{"default"}, []string{"1", "2"})
	room()
	putSoon(t, x, muster.Document{ID: "3", Content: "plum"})
	sound(t, x, []string{"default"}, []string{"1", "2", "3"})
	if s, err := x.Stats(t.Context()); err != nil || s.Generation != 3 {
		t.Errorf("%+v %v", s, err)
	}
}

// crashed returns a copy of the index as a crash would leave it.
func crashed(t *testing.T, dir string) string {
	t.Helper()
	left := t.TempDir()
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	away, err := filepath.Glob(filepath.Join(left, "*.away"))
	if err != nil || len(away) != 1 {
		t.Fatal(away, err)
	}
	if err := os.Rename(away[0], away[0][:len(away[0])-len(".away")]); err != nil {
		t.Fatal(err)
	}
	return left
}

func TestAGenerationNamesOneStateAlsoAfterCrashesWithAFullDisk(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir, index.Options{})
	put(t, x, muster.Document{ID: "1", Content: "plum"})
	highest := uint64(1)
	for crash := range 3 {
		room := full(t, dir, x)
		for i := range 3 { // more of them than one, if it takes them
			_, err := x.Put(t.Context(), []muster.Document{{ID: fmt.Sprint("lost ", crash, i)}})
			if err == nil {
				t.Error("a full disk took a document")
			}
		}
		s, err := x.Stats(t.Context())
		if err != nil || s.Generation <= highest {
			t.Fatalf("generation %d is said to be two states; %d was seen before crash %d, %v", s.Generation, highest, crash, err)
		}
		highest = s.Generation
		left := crashed(t, dir)
		room()
		dir, x = left, open(t, left, index.Options{})
		if s, err := x.Stats(t.Context()); err != nil || s.Docs != 1 {
			t.Fatalf("%+v %v", s, err)
		}
	}
	if got := put(t, x, muster.Document{ID: "2", Content: "plum"}); got.Generation != highest+1 {
		t.Errorf("generation %d after %d", got.Generation, highest)
	}
}

func TestNothingIsWrittenWhereTheNextGenerationCannotBeWrittenDown(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir, index.Options{})
	put(t, x, muster.Document{ID: "1", Content: "plum"})
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = open(t, dir, index.Options{})
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	got, err := x.Put(t.Context(), []muster.Document{{ID: "2", Content: "plum"}})
	if muster.KindOf(err) != muster.Unavailable || got.Indexed != 0 || ids(ask(t, x, text("plum"))) != "1" {
		t.Errorf("%+v %v", got, err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if got := put(t, x, muster.Document{ID: "2", Content: "plum"}); got.Generation != 3 {
		t.Errorf("%+v", got)
	}
}
