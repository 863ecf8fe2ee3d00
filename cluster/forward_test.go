package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"muster"
	"muster/cluster"
)

// toll stops calls to the master at a bar, and counts them.
type toll struct {
	bar    chan struct{} // a call passes for each word, or all once it is closed
	mu     sync.Mutex
	calls  int // guarded by mu; that came to the bar
	orders int // guarded by mu; commands in them
}

func (t *toll) pay(body []byte) {
	var b struct {
		Commands []json.RawMessage `json:"commands"`
	}
	_ = json.Unmarshal(body, &b)
	t.mu.Lock()
	t.calls++
	t.orders += len(b.Commands)
	t.mu.Unlock()
	<-t.bar
}

func (t *toll) seen() (calls, orders int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls, t.orders
}

func (m *member) registerNamed(name, key string) (muster.Registered, error) {
	write := muster.Write{By: operator, Route: "POST /v1/nodes", Key: key, Digest: name}
	return m.Register(m.w.t.Context(), write, muster.Registration{Name: name, URL: "http://127.0.0.1:9"})
}

func TestWritesThatComeTogetherTravelTogetherAndKeepTheirOwnAnswers(t *testing.T) {
	w := newWorld(t)
	a, b, _ := w.three()
	term := a.Status().Term
	if _, err := b.registerNamed("taken", ""); err != nil {
		t.Fatal(err)
	}
	bar := &toll{bar: make(chan struct{})}
	w.onApply(bar)
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := b.registerNamed("first", ""); err != nil {
			t.Error(err)
		}
	})
	until(t, "the first call", func() bool { calls, _ := bar.seen(); return calls == 1 })
	const more = 20
	ids := make([]string, more)
	for i := range more {
		all.Go(func() {
			got, err := b.registerNamed(fmt.Sprint("app ", i/2), fmt.Sprint("key ", i/2)) // each twice, with the same key
			if err != nil {
				t.Error(err)
			}
			ids[i] = got.Node.ID
		})
	}
	all.Go(func() {
		if _, err := b.registerNamed("taken", ""); muster.KindOf(err) != muster.Conflict {
			t.Errorf("a name that is taken: %v", err)
		}
	})
	until(t, "all wait", func() bool { return b.Waiting() == more+1 })
	close(bar.bar)
	all.Wait()
	steady := a.Status().Term == term // with another master there are more calls
	if calls, orders := bar.seen(); steady && (calls != 2 || orders != more+2) {
		t.Errorf("%d commands in %d calls", orders, calls)
	}
	for i := 0; i < more; i += 2 {
		if ids[i] == "" || ids[i] != ids[i+1] {
			t.Errorf("the same key gave %q and %q", ids[i], ids[i+1])
		}
	}
	entries := map[uint64]bool{}
	for _, n := range b.Nodes() {
		if strings.HasPrefix(n.Name, "app ") {
			entries[n.Index] = true
		}
	}
	if n := len(b.Nodes()); n != 3+2+more/2 || steady && len(entries) != 1 { // agents, taken and first, and each once
		t.Errorf("%d nodes; those of one call by %d entries", n, len(entries))
	}
}

func TestReadersWhoAskTogetherShareOneConfirmationThatBeganAfterThey(t *testing.T) {
	w := newWorld(t)
	a, b, _ := w.three()
	bar := &toll{bar: make(chan struct{})}
	w.onReadIndex(bar)
	var all sync.WaitGroup
	all.Go(func() {
		if err := b.Linearize(t.Context()); err != nil {
			t.Error(err)
		}
	})
	until(t, "the first reader asks", func() bool { calls, _ := bar.seen(); return calls == 1 })
	if _, err := a.registerNamed("news", ""); err != nil { // acknowledged before the others ask
		t.Fatal(err)
	}
	for range 20 {
		all.Go(func() {
			err := b.Linearize(t.Context())
			if _, ok := b.Find("news"); err != nil || !ok {
				t.Errorf("a reader misses what was acknowledged before: %v", err)
			}
		})
	}
	until(t, "all wait", func() bool { return b.Readers() == 20 })
	close(bar.bar)
	all.Wait()
	if calls, _ := bar.seen(); calls != 2 {
		t.Errorf("%d confirmations", calls)
	}
}

func TestWhatWaitsToBeForwardedIsToldThatTheNodeStops(t *testing.T) {
	w := newWorld(t)
	_, b, _ := w.three()
	b.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.Linearize(ctx); muster.KindOf(err) != muster.NoMaster {
		t.Errorf("read: %v", err)
	}
	if b.Waiting() != 0 || b.Readers() != 0 {
		t.Errorf("%d writes and %d readers wait for ever", b.Waiting(), b.Readers())
	}
}

func TestWhatComesTogetherIsOneEntryAsFarAsItIsNotTooLarge(t *testing.T) {
	sizes := []int{1, 20, 8, 5, 30, 100, 1, 1}
	raws := make([][]byte, 0, len(sizes))
	for _, kib := range sizes {
		raws = append(raws, make([]byte, kib<<10))
	}
	got := make([]string, 0, len(sizes))
	for _, entry := range cluster.EntriesOf(raws) {
		size := ""
		for _, raw := range entry {
			size += fmt.Sprintf(" %d", len(raw)>>10)
		}
		got = append(got, size)
	}
	if want := []string{" 1 20 8", " 5", " 30", " 100", " 1 1"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
