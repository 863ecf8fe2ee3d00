package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	usualPercent = 100             // GOGC's own
	garbageRoom  = 64 << 20        // bytes of garbage that a busy agent lets lie
	busyBelow    = 2 * time.Second // between two collections
)

// collectLess has a busy process collect its garbage each garbageRoom bytes
// instead of each time its heap has doubled: an agent's is so small that it would
// do that many times a second. One that is idle stays as small as it is. Who sets
// GOGC has the say.
func collectLess() {
	if os.Getenv("GOGC") == "" {
		afterCollection(&collection{at: time.Now()})
	}
}

// collection is unreachable at once: the runtime tells with it that it has
// collected.
type collection struct{ at time.Time }

func afterCollection(last *collection) {
	runtime.SetFinalizer(last, func(last *collection) {
		now := time.Now()
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		if live[0].Value.Kind() == metrics.KindUint64 {
			debug.SetGCPercent(percent(live[0].Value.Uint64(), now.Sub(last.at)))
		}
		afterCollection(&collection{at: now})
	})
}

// percent is how much the heap may grow until the next collection, given what is
// live and how long ago the last one was.
func percent(live uint64, since time.Duration) int {
	if since >= busyBelow || live >= garbageRoom {
		return usualPercent
	}
	return max(usualPercent, int(garbageRoom*usualPercent/max(live, 1<<20))) //nolint:gosec // at most 6400
}
