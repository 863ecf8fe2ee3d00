package main

import (
	"testing"
	"time"
)

func TestABusyAgentLetsGarbageLieAndAnIdleOneDoesNot(t *testing.T) {
	for _, c := range []struct {
		live  uint64
		since time.Duration
		want  int
	}{
		{8 << 20, 100 * time.Millisecond, 800},
		{32 << 20, time.Second, 200},
		{64 << 20, time.Second, 100},
		{1 << 30, 0, 100},
		{8 << 20, 2 * time.Second, 100},
		{0, 0, 6400},
	} {
		if got := percent(c.live, c.since); got != c.want {
			t.Errorf("%d bytes live, %v since the last: %d, want %d", c.live, c.since, got, c.want)
		}
	}
}
