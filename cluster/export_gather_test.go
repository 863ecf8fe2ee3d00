package cluster

import "time"

// Gather is a gather of numbers that lingers as calls to the master do. It tells
// each round that begins.
func Gather(do func(round []int)) (add func(int)) {
	g := &gather[int]{do: do, run: func(f func()) bool { go f(); return true }, lost: func(int) {}, most: 1, linger: grace, full: crowded}
	return g.add
}

// Notes is a gather of numbers that pauses as what drivers say does.
func Notes(do func(round []int)) (add func(int)) {
	g := &gather[int]{do: do, run: func(f func()) bool { go f(); return true }, lost: func(int) {}, most: 1, pause: breath, full: crowded}
	return g.add
}

// GatherMost is how many there are in a round at most.
const GatherMost = 20

func crowded(round []int, _ int) bool { return len(round) >= GatherMost }

// Breath is how long the next round of notes waits after one.
func Breath(did int, took time.Duration) time.Duration { return breath(did, took) }

// Grace is how long the next round waits at most after one that took so long.
func Grace(took time.Duration) time.Duration { return grace(took) }
