package index_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"muster"
	"muster/search/index"
)

// stuck holds whoever looks at it until it is let go: a search that takes long.
type stuck struct {
	context.Context //nolint:containedctx // it is one
	once            sync.Once
	entered, free   chan struct{}
}

func (s *stuck) Err() error {
	s.once.Do(func() {
		close(s.entered)
		<-s.free
	})
	return s.Context.Err()
}

func TestNewSearchesDoNotQueueBehindALongOneThatARebuildFinds(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir, index.Options{})
	put(t, x, muster.Document{ID: "1", Content: "plum"})
	old := pin(t, x, text("plum"))
	long := &stuck{Context: t.Context(), entered: make(chan struct{}), free: make(chan struct{})}
	var wg sync.WaitGroup
	defer wg.Wait()
	free := sync.OnceFunc(func() { close(long.free) })
	defer free()
	wg.Go(func() {
		if h, err := x.Search(long, old); err != nil || ids(h) != "1" {
			t.Errorf("the long search: %q %v", ids(h), err)
		}
	})
	<-long.entered
	rebuilt := make(chan struct{})
	wg.Go(func() {
		defer close(rebuilt)
		if err := x.Rebuild(t.Context()); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-rebuilt:
	case <-time.After(20 * time.Second):
		t.Fatal("the rebuild waits for the long search")
	}
	put(t, x, muster.Document{ID: "2", Content: "plum"})
	if got := ids(ask(t, x, text("plum"))); got != "1,2" {
		t.Error(got)
	}
	if _, err := x.Search(t.Context(), old); !gone(err) {
		t.Error("a generation of the old index:", err)
	}
	free()
	wg.Wait()
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, old.IndexID)); !os.IsNotExist(err) {
		t.Error("the old index is still there:", err)
	}
}
