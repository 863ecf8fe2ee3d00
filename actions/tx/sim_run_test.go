package tx_test

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// batch is how many schedules share the journals' files.
const batch = 250

// batches plays schedules from a seed on, and returns the first that went wrong.
func batches(t *testing.T, first uint64, n int, without flaw, count map[string]int) (wrong *sim) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := newDisks(t)
		defer d.close(t)
		for i := range uint64(n) {
			w := play(first+i, without, d, false)
			for what, times := range w.count {
				count[what] += times
			}
			count["schedules"]++
			if len(w.bad) > 0 {
				wrong = w
				return
			}
		}
	})
	return wrong
}

// again plays one schedule on new disks, and keeps what happens.
func again(t *testing.T, seed uint64) (w *sim) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := newDisks(t)
		defer d.close(t)
		w = play(seed, "", d, true)
	})
	return w
}

// TestATransactionEndsWellInEverySchedule plays 2,000 schedules, with
// MUSTER_CHAOS a million. With MUSTER_SEED it plays that one, and shows it.
func TestATransactionEndsWellInEverySchedule(t *testing.T) {
	if seed, err := strconv.ParseUint(os.Getenv("MUSTER_SEED"), 10, 64); err == nil {
		w := again(t, seed)
		t.Logf("seed %d: wrong: %q\n%s", seed, w.bad, w.trace)
		if len(w.bad) > 0 {
			t.Fail()
		}
		return
	}
	n, first, most := 2_000, uint64(1), 2*time.Hour
	if os.Getenv("MUSTER_CHAOS") != "" {
		n, first = 1_000_000, uint64(time.Now().UnixNano())
	}
	if s, err := strconv.Atoi(os.Getenv("MUSTER_SCHEDULES")); err == nil {
		n = s
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	began := time.Now()
	var next atomic.Int64
	var mu sync.Mutex
	total := map[string]int{}
	t.Run("schedules", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(worker), func(t *testing.T) {
				t.Parallel()
				for !t.Failed() {
					at := int(next.Add(batch)) - batch
					if at >= n {
						return
					}
					if time.Since(began) > most {
						t.Errorf("only %d schedules in %v", at, most)
						return
					}
					count := map[string]int{}
					wrong := batches(t, first+uint64(at), min(batch, n-at), "", count)
					mu.Lock()
					for what, times := range count {
						total[what] += times
					}
					mu.Unlock()
					if wrong != nil {
						next.Store(int64(n))
						t.Errorf("MUSTER_SEED=%d plays it once more: %q\n%s", wrong.seed, wrong.bad, again(t, wrong.seed).trace)
					}
				}
			})
		}
	})
	t.Logf("%v: %v", time.Since(began).Round(time.Millisecond), total)
	for _, what := range []string{"succeeded", "rolled_back", "parked", "crashes", "deposed", "wipes", "jumps", "late entries", "cancel", "retry", "skip"} {
		if total[what] == 0 && !t.Failed() {
			t.Errorf("no %s in %d schedules", what, total["schedules"])
		}
	}
}

// TestWithoutAnyOneOfItsPartsTheDesignFails takes one part out at a time.
func TestWithoutAnyOneOfItsPartsTheDesignFails(t *testing.T) {
	for _, without := range []flaw{noDedupe, noBarrier, noUnknown, noIntent, noCheck, noDoubt, noName, inMap} {
		t.Run(string(without), func(t *testing.T) {
			count := map[string]int{}
			for at := range uint64(20) {
				if without == inMap && at > 1 {
					return
				}
				if wrong := batches(t, 1+at*batch, batch, without, count); wrong != nil {
					t.Logf("after %d schedules, seed %d: %s", count["schedules"], wrong.seed, wrong.bad[0])
					if without == inMap {
						t.Error("nothing was taken out")
					}
					return
				}
			}
			t.Errorf("without %s all was well in %d schedules", without, count["schedules"])
		})
	}
}

// TestASeedAlwaysGivesTheSameSchedule plays some twice.
func TestASeedAlwaysGivesTheSameSchedule(t *testing.T) {
	for seed := range uint64(20) {
		one, two := again(t, 100+seed), again(t, 100+seed)
		if one.trace.String() != two.trace.String() || len(one.bad) != len(two.bad) {
			t.Errorf("seed %d gave\n%s\nand\n%s", one.seed, one.trace, two.trace)
		}
	}
}
