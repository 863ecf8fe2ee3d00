package api_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"muster"
	"muster/httpserver/api"
)

var errServer = muster.Errorf(muster.Internal, "answer 500")

// tries makes n calls that end so, and says how many went out.
func tries(t *testing.T, b *api.Breakers, n int, end error) (sent int) {
	t.Helper()
	for range n {
		err := b.Do(t.Context(), "n", func() error {
			sent++
			return end
		})
		if err == nil && end != nil {
			t.Fatal("an error is lost")
		}
	}
	return sent
}

func TestFiveFailuresInARowOpenACircuitAndTwoProbesThatSucceedCloseIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b api.Breakers
		tries(t, &b, 4, errServer)
		tries(t, &b, 1, nil)
		if tries(t, &b, 5, errServer) != 5 || b.Circuit("n").State != api.CircuitOpen {
			t.Fatalf("%+v", b.Circuit("n"))
		}
		err := b.Do(t.Context(), "n", func() error { return nil })
		if muster.CodeOf(err) != muster.CodeCircuitOpen || muster.KindOf(err) != muster.Unavailable {
			t.Fatal(err)
		}
		if b.Circuit("other").State != api.CircuitClosed || tries(t, &b, 3, nil) != 0 {
			t.Fatal("an open circuit lets calls pass, or is not the node's own")
		}
		pass(30 * time.Second)
		if b.Circuit("n").State != api.CircuitHalfOpen || tries(t, &b, 3, errServer) != 1 {
			t.Fatal("a probe that failed does not open it again")
		}
		pass(29 * time.Second)
		if tries(t, &b, 1, nil) != 0 {
			t.Fatal("open for less than 30 seconds")
		}
		pass(time.Second)
		if tries(t, &b, 1, nil) != 1 || b.Circuit("n").State != api.CircuitHalfOpen {
			t.Fatal("one success closed it")
		}
		if tries(t, &b, 1, nil) != 1 || b.Circuit("n").State != api.CircuitClosed || b.Circuit("n").Failures != 0 {
			t.Fatalf("%+v", b.Circuit("n"))
		}
	})
}

func TestOneProbeAtATimePassesAHalfOpenCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b api.Breakers
		tries(t, &b, 5, errServer)
		pass(30 * time.Second)
		release, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- b.Do(t.Context(), "n", func() error {
				<-release
				return nil
			})
		}()
		synctest.Wait()
		if tries(t, &b, 3, nil) != 0 {
			t.Fatal("a second probe passed")
		}
		close(release)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if tries(t, &b, 1, nil) != 1 {
			t.Fatal("no probe after the first")
		}
	})
}

func TestOnlyFaultsOfTheTargetCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name  string
			mode  string // whose context it is
			wait  time.Duration
			err   error
			opens bool
		}{
			{"no connection", "", 0, muster.Errorf(muster.Unavailable, "refused").WithCode("no_connection"), true},
			{"no answer", "", 0, muster.Errorf(muster.OutcomeUnknown, "cut"), true},
			{"503", "", 0, muster.Errorf(muster.Unavailable, "busy"), true},
			{"400", "", 0, muster.Errorf(muster.Malformed, "what"), false},
			{"429", "", 0, muster.Errorf(muster.Limited, "slower"), false},
			{"garbage", "", 0, muster.Errorf(muster.OutcomeUnknown, "html").WithCode("bad_answer"), false},
			{"the caller went away", "gone", 0, errors.New("cut"), false},
			{"the caller waited for a blink", "short", 10 * time.Millisecond, errors.New("late"), false},
			{"the caller waited a second", "short", time.Second, errors.New("late"), true},
		} {
			var b api.Breakers
			for range 6 {
				ctx, stop := context.WithCancel(t.Context())
				switch c.mode {
				case "gone":
					stop()
				case "short":
					ctx, stop = context.WithTimeout(t.Context(), c.wait)
				}
				defer stop()
				_ = b.Do(ctx, "n", func() error {
					pass(c.wait + time.Millisecond)
					return c.err
				})
			}
			if opened := b.Circuit("n").State == api.CircuitOpen; opened != c.opens {
				t.Errorf("%s: open is %v", c.name, opened)
			}
			if len(b.Circuits()) > 0 != c.opens {
				t.Errorf("%s: %v", c.name, b.Circuits())
			}
		}
	})
}

func TestANodeThatCameBackIsAskedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b api.Breakers
		before := time.Now()
		pass(time.Second)
		tries(t, &b, 5, errServer)
		b.Back("n", before)
		if tries(t, &b, 1, nil) != 0 {
			t.Fatal("a sign of life from before the failures closed it")
		}
		pass(time.Second)
		b.Back("n", time.Now())
		if tries(t, &b, 1, nil) != 1 {
			t.Fatal("still open")
		}
	})
}

// pass lets time pass in a bubble.
func pass(d time.Duration) { <-time.After(d) }
