package daemon_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"muster"
	"muster/cmd/daemon"
	"muster/httpserver/api"
)

func TestWhoAsksANodeAtTheSameTimeSharesACallThatBeganLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asks daemon.Asks
		var calls, others atomic.Int32
		call := func(_ context.Context, names []string) (api.Actions, error) {
			if len(names) != 1 || names[0] != "x" {
				t.Errorf("asked for %v", names)
			}
			n := calls.Add(1)
			<-time.After(time.Second) // of the bubble
			return api.Actions{Journal: strconv.Itoa(int(n))}, context.Cause(t.Context())
		}
		var wg sync.WaitGroup
		ask := func(ctx context.Context, want string) {
			wg.Go(func() {
				list, err := asks.Of(ctx, muster.Node{ID: "a"}, muster.Rights{Principal: "p"}, []string{"x"}, call)
				if list.Journal != want || (err == nil) != (want != "") {
					t.Errorf("got %q, not %q: %v", list.Journal, want, err)
				}
			})
			synctest.Wait()
		}
		ask(t.Context(), "1")
		hasty, cancel := context.WithCancel(t.Context())
		ask(hasty, "") // it is to make the next call, and does not wait for its turn
		for range 5 {
			ask(t.Context(), "2") // nobody gets what was asked before
		}
		cancel()
		for by, names := range map[string][]string{"q": {"x"}, "r": {"x"}, "p": {"y"}} {
			wg.Go(func() {
				_, _ = asks.Of(t.Context(), muster.Node{ID: "a"}, muster.Rights{Principal: by}, names, func(context.Context, []string) (api.Actions, error) {
					others.Add(1)
					return api.Actions{}, nil
				})
			})
		}
		wg.Wait()
		ask(t.Context(), "3")
		wg.Wait()
		if calls.Load() != 3 || others.Load() != 3 {
			t.Errorf("%d calls, %d for others or other actions", calls.Load(), others.Load())
		}
	})
}
