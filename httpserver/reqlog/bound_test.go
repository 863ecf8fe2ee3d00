package reqlog_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"muster/httpserver/api"
	"muster/httpserver/reqlog"
)

// text is a JSON body of about n bytes.
func text(r *rand.Rand, n int) []byte {
	return fmt.Appendf(nil, `{"query":"%s"}`, bytes.Repeat([]byte{byte('a' + r.IntN(26))}, n))
}

func TestTheFileNeverGrowsBeyondItsLimitAndAQuarter(t *testing.T) {
	for _, limit := range []int64{2 << 20, 4 << 20} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { fill(t, limit) })
		})
	}
}

// fill writes five times the limit, in rows of all sizes, a part of them in two
// steps, while somebody reads.
func fill(t *testing.T, limit int64) {
	t.Helper()
	cfg := settings(t)
	cfg.MaxSize = limit
	l := open(t, cfg)
	r := rand.New(rand.NewPCG(1, 2))
	sent, largest := int64(0), int64(0)
	var last string
	for sent < 5*limit {
		for range 1 + r.IntN(20) {
			c := search()
			c.Payload, c.Response = text(r, r.IntN(300)), text(r, 1<<r.IntN(15))
			if r.IntN(4) == 0 {
				begun := c
				begun.Pending = true
				l.Record(begun)
				settle(t)
			}
			l.Record(c)
			sent += int64(len(c.Payload) + len(c.Response))
			last = c.ID
		}
		settle(t)
		largest = max(largest, size(t, cfg))
		if largest > limit/4*5 {
			t.Fatalf("the file has %d bytes of %d", largest, limit)
		}
	}
	kept := int64(0)
	f := api.RequestFilter{Limit: 1000}
	for first := true; first || f.Cursor != ""; first = false {
		page, err := l.List(t.Context(), f)
		if err != nil || page.Dropped > 0 {
			t.Fatalf("%d dropped, %v", page.Dropped, err)
		}
		if first && page.Requests[0].ID != last {
			t.Error("the newest row is missing")
		}
		for _, row := range page.Requests {
			kept += int64(len(row.Payload) + len(row.Response))
		}
		f.Cursor = page.Cursor
	}
	t.Logf("limit %d: the file had at most %d bytes, the rows kept have %d", limit, largest, kept)
	if kept < limit/3 {
		t.Errorf("only %d bytes of rows are kept within %d", kept, limit)
	}
}

func size(t *testing.T, cfg reqlog.Config) int64 {
	t.Helper()
	info, err := os.Stat(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestWhatDoesNotFitIntoTheQueueIsDroppedAndCountedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, settings(t))
		begun := search()
		begun.Pending = true
		l.Record(begun)
		settle(t)
		started := time.Now()
		for range 10_000 { // in one moment, before the writer gets to run
			l.Record(search())
		}
		begun.Pending = false
		l.Record(begun)
		if waited := time.Since(started); waited > 0 {
			t.Errorf("the callers waited %v", waited)
		}
		settle(t)
		settle(t)
		l.Record(search())
		settle(t)
		page, err := l.List(t.Context(), api.RequestFilter{Limit: 1000, Status: "failed"})
		if err != nil {
			t.Fatal(err)
		}
		stats := l.Stats()
		if page.Dropped != 10_001-4096 || page.Dropped != stats.Dropped || stats.Written != 1+4096+1 {
			t.Errorf("%d dropped; %+v", page.Dropped, stats)
		}
		if len(page.Requests) != 1 || page.Requests[0].ErrorMessage != "what became of it was not recorded" {
			t.Errorf("the one whose end was dropped: %+v", page.Requests)
		}
	})
}

func TestABrokenFileIsPutAsideAndANewOneBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := settings(t)
		if err := os.WriteFile(cfg.Path, bytes.Repeat([]byte("no database "), 2000), 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, cfg)
		l.Record(search())
		settle(t)
		if got := rows(t, l, api.RequestFilter{}); len(got) != 1 {
			t.Errorf("%+v", got)
		}
		if aside, err := os.ReadFile(cfg.Path + ".broken"); err != nil || !bytes.HasPrefix(aside, []byte("no database")) {
			t.Errorf("not put aside: %v", err)
		}
	})
}

// BenchmarkRecord is what a call pays: with room in the queue, and without.
func BenchmarkRecord(b *testing.B) {
	l := reqlog.New(reqlog.Config{
		Path: filepath.Join(b.TempDir(), "requests.db"), Self: self, Log: slog.New(slog.DiscardHandler), Slug: func(string) string { return "a" },
	})
	if err := l.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	c := search()
	for b.Loop() {
		l.Record(c)
	}
	b.StopTimer()
	if err := l.Stop(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(l.Stats().Dropped)/float64(b.N), "dropped/op")
}
