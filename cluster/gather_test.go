package cluster_test

import (
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
	var all sync.WaitGroup
	answers := make([]chan struct{}, clients)
	add := cluster.Gather(func(round []int) {
		sizes = append(sizes, len(round)) // one round at a time
		time.Sleep(8 * time.Millisecond)  //nolint:forbidigo // in virtual time
		for _, c := range round {
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
				time.Sleep(time.Millisecond) //nolint:forbidigo // in virtual time
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

func TestWhoWritesAloneWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if sizes, took := turns(t, 1, 20); took != 20*9*time.Millisecond {
			t.Errorf("%d rounds took %v", len(sizes), took)
		}
	})
}

func TestNobodyWaitsLongForThoseWhoDoNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun []time.Duration
		began := time.Now()
		add := cluster.Gather(func([]int) {
			begun = append(begun, time.Since(began))
			time.Sleep(8 * time.Millisecond) //nolint:forbidigo // in virtual time
		})
		for i := range 8 {
			add(i)
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // in virtual time: the first round is over, the next waits
		add(8)
		time.Sleep(time.Second) //nolint:forbidigo // in virtual time
		synctest.Wait()
		last := begun[len(begun)-1]
		if latest := 16*time.Millisecond + 2*cluster.Half(8*time.Millisecond); last > latest {
			t.Errorf("the last round began after %v, want at most %v", last, latest)
		}
	})
}
