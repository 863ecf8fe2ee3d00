package cluster_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"muster/cluster"
)

// turns has clients ask again one millisecond after each answer, n times each, of
// rounds that take eight. It returns how large the rounds were, and how long all
// of it took.
func turns(t *testing.T, clients, n int) (sizes []int, took time.Duration) {
	t.Helper()
	return turnsOf(t, cluster.Gather, clients, n, 8*time.Millisecond, func(int) time.Duration { return time.Millisecond })
}

// turnsOf is turns of rounds that take a while, with clients who take a while, too.
func turnsOf(
	t *testing.T, gather func(func([]int)) func(int), clients, n int, round time.Duration, rest func(client int) time.Duration,
) (sizes []int, took time.Duration) {
	t.Helper()
	var all sync.WaitGroup
	answers := make([]chan struct{}, clients)
	add := gather(func(done []int) {
		sizes = append(sizes, len(done)) // one round at a time
		time.Sleep(round)                //nolint:forbidigo // in virtual time
		for _, c := range done {
			answers[c] <- struct{}{}
		}
	})
	began := time.Now()
	for c := range clients {
		answers[c] = make(chan struct{}, 1)
		all.Go(func() {
			for range n {
				add(c)
				<-answers[c]
				time.Sleep(rest(c)) //nolint:forbidigo // in virtual time
			}
		})
	}
	all.Wait()
	took = time.Since(began)
	time.Sleep(time.Second) //nolint:forbidigo // in virtual time: nobody comes any more
	synctest.Wait()
	return sizes, took
}

func TestThoseWhoWriteAllTheTimeGoTogetherAndNotInTwoHalves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sizes, _ := turns(t, 8, 20)
		if len(sizes) > 22 {
			t.Errorf("%d rounds for 20 times 8: %v", len(sizes), sizes)
		}
	})
}

func TestRoundsOfDriversServeMoreOfManyAndALoneOneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call := func(client int) time.Duration { return time.Duration(5+client%10) * time.Millisecond }
		sizes, took := turnsOf(t, cluster.Notes, 30, 20, 4*time.Millisecond, call)
		if each := 600 / len(sizes); each < 11 { // it is 6 without a pause
			t.Errorf("%d rounds for 20 times 30, in %v: %v", len(sizes), took, sizes)
		}
		if sizes, took := turnsOf(t, cluster.Notes, 1, 20, 4*time.Millisecond, call); took != 20*9*time.Millisecond {
			t.Errorf("alone: %d rounds took %v", len(sizes), took)
		}
	})
}

func TestDriversPauseForTenMillisecondsAtMostAndNotBeforeAFullRound(t *testing.T) {
	if d := cluster.Breath(100, 5*time.Second); d != 10*time.Millisecond { // a disk that hung
		t.Errorf("they pause for %v", d)
	}
	synctest.Test(t, func(t *testing.T) {
		var began []time.Duration
		start := time.Now()
		add := cluster.Notes(func([]int) {
			began = append(began, time.Since(start))
			time.Sleep(time.Millisecond) //nolint:forbidigo // in virtual time
		})
		for i := range 2*cluster.GatherMost + 1 {
			add(i)
		}
		time.Sleep(time.Second) //nolint:forbidigo // in virtual time
		synctest.Wait()
		ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
		if want := []time.Duration{0, ms(1), ms(4)}; !slices.Equal(began, want) { // two full ones; what is left, after a pause of 2 ms
			t.Errorf("rounds began at %v, not %v", began, want)
		}
	})
}

func TestWhoWritesAloneWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if sizes, took := turns(t, 1, 20); took != 20*9*time.Millisecond {
			t.Errorf("%d rounds took %v", len(sizes), took)
		}
	})
}

func TestNobodyWaitsLongForThoseWhoDoNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const round = 8 * time.Millisecond
		late := passers(t, 9, round)
		for i, d := range late {
			if d > cluster.Grace(round) {
				t.Errorf("crowd %d waited %v beside the round under way, want at most %v", i, d, cluster.Grace(round))
			}
		}
	})
}

func TestWhoWaitedInVainWaitsAgainOnlyRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := 0
		for _, d := range passers(t, 100, 8*time.Millisecond) {
			if d > 0 {
				waits++
			}
		}
		if waits == 0 || waits > 8 { // after 1, 3, 7, 15, 31, 31 rounds
			t.Errorf("%d of 100 crowds that do not come back waited for others", waits)
		}
	})
}

// passers has crowds of eight to ten come, each of other people, in the middle of
// the round of those before. It returns how much longer each waited than that.
func passers(t *testing.T, crowds int, round time.Duration) (late []time.Duration) {
	t.Helper()
	var begun moments
	add := cluster.Gather(func([]int) {
		begun.add()
		time.Sleep(round) //nolint:forbidigo // in virtual time
	})
	for c := range crowds {
		for range 8 + c%3 {
			add(c)
		}
		synctest.Wait()
		for len(begun.all()) <= c {
			time.Sleep(time.Millisecond) //nolint:forbidigo // in virtual time
		}
		if all := begun.all(); c > 0 {
			late = append(late, all[c].Sub(all[c-1])-round)
		}
		time.Sleep(round / 2) //nolint:forbidigo // in virtual time
	}
	time.Sleep(time.Second) //nolint:forbidigo // in virtual time
	synctest.Wait()
	return late
}

// moments are when rounds began.
type moments struct {
	mu sync.Mutex
	at []time.Time // guarded by mu
}

func (m *moments) add() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at = append(m.at, time.Now())
}

func (m *moments) all() []time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.at)
}

func TestARoundThatIsFullWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const round = 8 * time.Millisecond
		var begun moments
		add := cluster.Gather(func([]int) {
			begun.add()
			time.Sleep(round) //nolint:forbidigo // in virtual time
		})
		for i := range 3 * cluster.GatherMost {
			add(i)
			synctest.Wait() // the first goes alone
		}
		time.Sleep(time.Second) //nolint:forbidigo // in virtual time
		synctest.Wait()
		all := begun.all()
		for i, at := range all[:3] {
			if want := all[0].Add(time.Duration(i) * round); !at.Equal(want) {
				t.Errorf("round %d began %v late", i, at.Sub(want))
			}
		}
	})
}
