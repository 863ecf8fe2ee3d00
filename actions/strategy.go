package actions

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"muster"
)

// Bounds and defaults of a run.
const (
	defaultConcurrency = 10
	defaultTimeoutMs   = 30_000
	maxTimeoutMs       = 600_000
	maxBatches         = 100
)

// strategy is a Strategy that was found good.
type strategy struct {
	concurrency int
	maxFail     limit
	batches     []limit // sizes, the last one for all that follow; none: one batch
	pause       time.Duration
}

// cut parts targets into batches. Percentages are of all of them.
func (s strategy) cut(targets []target) (batches [][]target) {
	total := len(targets)
	for i := 0; len(targets) > 0; i++ {
		size := total
		if len(s.batches) > 0 {
			size = s.batches[min(i, len(s.batches)-1)].of(total)
		}
		size = min(size, len(targets))
		batches = append(batches, targets[:size])
		targets = targets[size:]
	}
	return batches
}

// limit is a count or a percentage; neither means none.
type limit struct {
	count   int
	percent float64
}

// of returns how many of n reach the limit, at least 1; more than n for none.
func (l limit) of(n int) int {
	switch {
	case l.percent > 0:
		return max(1, int(math.Ceil(l.percent*float64(n)/100)))
	case l.count > 0:
		return l.count
	default:
		return n + 1
	}
}

// readStrategy judges how a run is to be done, at most so many at once.
func readStrategy(how muster.Strategy, parallel int, bad faults) strategy {
	bad.check(oneOf(how.Mode, "", "parallel", "serial", "rolling"), "how.mode", "must be parallel, serial or rolling")
	bad.check(how.Concurrency >= 0 && how.Concurrency <= maxConcurrency, "how.concurrency", "must be from 1 to %d", maxConcurrency)
	bad.check(how.Mode != "serial" || how.Concurrency <= 1, "how.concurrency", "serial is one at a time")
	bad.check(oneOf(how.OnFail, "", "stop", "continue"), "how.on_fail", "must be stop or continue")
	s := strategy{concurrency: how.Concurrency}
	switch {
	case how.Mode == "serial":
		s.concurrency = 1
	case s.concurrency == 0 || s.concurrency > parallel: // it says how many at most, and so does the node
		s.concurrency = parallel
	}
	s.readBatches(how, bad)
	if how.MaxFail != nil {
		var ok bool
		s.maxFail, ok = readLimit(how.MaxFail)
		bad.check(ok, "how.max_fail", `must be a count from 1, or a percentage like "10%%" up to 100%%`)
	} else if how.OnFail != "continue" {
		s.maxFail.count = 1
	}
	return s
}

// readBatches reads what is rolling's own.
func (s *strategy) readBatches(how muster.Strategy, bad faults) {
	rolling := how.Mode == "rolling"
	bad.check(rolling == (len(how.Batches) > 0), "how.batches", "rolling, and only rolling, says its batches")
	bad.check(len(how.Batches) <= maxBatches, "how.batches", "must be at most %d", maxBatches)
	for i, raw := range how.Batches {
		size, ok := readLimit(raw)
		bad.check(ok, fmt.Sprintf("how.batches.%d", i), `must be a count from 1, or a percentage like "25%%" up to 100%%`)
		s.batches = append(s.batches, size)
	}
	if how.Pause == "" {
		return
	}
	d, err := time.ParseDuration(how.Pause)
	bad.check(err == nil && d >= 0, "how.pause", "must be a duration like 10s")
	bad.check(rolling, "how.pause", "is for rolling only")
	s.pause = d
}

// readLimit reads 3, "3" or "10%".
func readLimit(raw json.RawMessage) (l limit, ok bool) {
	text := textOf(raw)
	if digits, percent := strings.CutSuffix(text, "%"); percent {
		v, err := strconv.ParseFloat(digits, 64)
		l.percent = v
		return l, err == nil && v > 0 && v <= 100
	}
	n, err := strconv.ParseInt(text, 10, 32)
	l.count = int(n)
	return l, err == nil && n > 0
}
