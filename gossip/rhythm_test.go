package gossip_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"muster/gossip"
)

// tellings runs the rhythm for nearly ten seconds with changes at the given
// milliseconds, and returns the millisecond of each telling.
func tellings(t *testing.T, always bool, changes ...int) (told []int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		changed := make(chan struct{}, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 9900*time.Millisecond)
		defer cancel()
		go func() {
			for _, ms := range changes {
				<-time.After(time.Until(began.Add(time.Duration(ms) * time.Millisecond)))
				select {
				case changed <- struct{}{}:
				default:
				}
			}
		}()
		gossip.KeepTelling(ctx, changed, func() bool { return always }, func() {
			told = append(told, int(time.Since(began).Milliseconds()))
		})
	})
	return told
}

func TestTheFirstChangeAfterHalfASecondOfQuietIsToldAtOnceAndLaterOnesTogether(t *testing.T) {
	for name, c := range map[string]struct{ changes, told []int }{
		"none":                    {},
		"one, three times":        {[]int{100}, []int{100, 600, 1100}},
		"a burst":                 {[]int{0, 10, 20, 400}, []int{0, 500, 1000, 1500}},
		"between two repeats":     {[]int{0, 610}, []int{0, 500, 610, 1110, 1610}},
		"after the last repeat":   {[]int{0, 1001}, []int{0, 500, 1000, 1001, 1501, 2001}},
		"long after":              {[]int{0, 7003}, []int{0, 500, 1000, 3000, 5000, 7000, 7003, 7503, 8003}},
		"a burst after a burst":   {[]int{0, 10, 700, 1400, 1450}, []int{0, 500, 1000, 1500, 2000, 2500}},
		"one that just misses":    {[]int{0, 499}, []int{0, 500, 1000, 1500}},
		"two bursts, quiet after": {[]int{0, 1, 1100, 1101}, []int{0, 500, 1000, 1100, 1600, 2100, 2600}},
	} {
		for range 3 { // and thrice more at greater distance, as long as the test looks
			if n := len(c.told); n > 0 && c.told[n-1]+2000 < 9900 {
				c.told = append(c.told, c.told[n-1]+2000)
			}
		}
		if told := tellings(t, false, c.changes...); !slices.Equal(told, c.told) {
			t.Errorf("%s: changed at %v, told at %v, not %v", name, c.changes, told, c.told)
		}
	}
}

func TestWhileNobodyHasFoundedTheClusterFactsAreToldAllTheTime(t *testing.T) {
	if told := tellings(t, true); !slices.Equal(told, []int{2000, 4000, 6000, 8000}) {
		t.Errorf("told at %v", told)
	}
}
