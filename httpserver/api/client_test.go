package api_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"muster"
	"muster/httpserver/api"
)

// calls collects what a client records when it is over.
type calls struct {
	mu  sync.Mutex
	all []api.Call
}

func (c *calls) record(call api.Call) {
	if call.Pending {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, call)
}

func serve(t *testing.T, handle http.HandlerFunc) (*api.Client, *calls) {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	seen := &calls{}
	return &api.Client{Addrs: []string{server.URL}, HTTP: server.Client(), Record: seen.record}, seen
}

func TestWhatWasNeverSentIsUnavailable(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	c := &api.Client{Addrs: []string{server.URL}, HTTP: server.Client()}
	if err := c.Do(t.Context(), http.MethodPost, "/v1/keys", muster.KeySpec{}, nil); muster.KindOf(err) != muster.Unavailable {
		t.Fatal(err)
	}
}

func TestWhatWasSentButNotAnsweredIsUnknown(t *testing.T) {
	c, seen := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler) // the connection breaks
	})
	err := c.Do(t.Context(), http.MethodPost, "/v1/keys", muster.KeySpec{Name: "a"}, nil)
	if muster.KindOf(err) != muster.OutcomeUnknown {
		t.Fatalf("%s: %v", muster.KindOf(err), err)
	}
	if len(seen.all) != 1 || seen.all[0].Status != 0 || seen.all[0].Err == "" {
		t.Errorf("recorded %+v", seen.all)
	}
}

func TestTheDeadlineTravelsAndItsEndIsUnknown(t *testing.T) {
	heard := make(chan string, 1)
	c, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		heard <- r.Header.Get(api.HeaderTimeout)
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := c.Do(ctx, http.MethodPost, "/v1/keys", muster.KeySpec{}, nil); muster.KindOf(err) != muster.OutcomeUnknown {
		t.Error(err)
	}
	if told := <-heard; told == "" || len(told) > 3 {
		t.Errorf("told %q ms", told)
	}
}

func TestTheNextAddressIsTriedWhenOneIsDown(t *testing.T) {
	down := httptest.NewServer(nil)
	down.Close()
	var audience string
	c, seen := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body := `{"cluster_id":"c1"}`
		if r.URL.Path == api.PathHealth {
			w.WriteHeader(http.StatusServiceUnavailable) // not ready, but it says who it is
			body = `{"id":"n1","status":"unhealthy"}`
		}
		_, _ = io.WriteString(w, body)
	})
	c.Addrs = append([]string{down.URL}, c.Addrs...)
	c.Sign = func(_ api.Request, to string) (string, error) {
		audience = to
		return "token", nil
	}
	for range 2 {
		status, err := c.Cluster(t.Context())
		if err != nil || status.ClusterID != "c1" || audience != "n1" {
			t.Fatal(status, audience, err)
		}
	}
	asked := 0
	for _, call := range seen.all {
		if call.Path == api.PathHealth && call.Status != 0 {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times who it is", asked)
	}
}

func TestAnAnsweredErrorIsNotTriedElsewhere(t *testing.T) {
	asked := 0
	c, seen := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"message":"there is no master now","code":"no_master","hint":"wait"}`)
	})
	c.Addrs = append(c.Addrs, c.Addrs[0])
	_, err := c.Cluster(t.Context())
	if muster.KindOf(err) != muster.NoMaster || asked != 1 || seen.all[0].Err != "there is no master now" {
		t.Errorf("%v, asked %d, recorded %+v", err, asked, seen.all)
	}
}

func TestACallToANodeIsMadeOutToItAlone(t *testing.T) {
	c, seen := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) })
	var audience string
	c.Sign = func(_ api.Request, to string) (string, error) {
		audience = to
		return "token", nil
	}
	if _, err := c.To(c.Addrs[0]+"/", "n7").Keys(t.Context()); err != nil || audience != "n7" || len(seen.all) != 1 {
		t.Error(audience, seen.all, err)
	}
}

func TestACallFromBeforeARestartIsSignedAgainOnce(t *testing.T) {
	for _, restarts := range []int{1, 3} {
		var keys []string
		c, seen := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == fmt.Sprint("Bearer ", restarts+1) {
				_, _ = io.WriteString(w, `{}`)
				return
			}
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"message":"signed before this node started","code":"restarted"}`)
		})
		c.Sign = func(r api.Request, _ string) (string, error) {
			keys = append(keys, r.Key())
			return strconv.Itoa(len(keys)), nil
		}
		_, err := c.To(c.Addrs[0], "n1").Register(t.Context(), muster.Registration{}, "once")
		if (err == nil) != (restarts == 1) || err != nil && muster.CodeOf(err) != "restarted" || len(seen.all) != 2 || !slices.Equal(keys, []string{"once", "once"}) {
			t.Errorf("%d restarts: %v, %d calls, keys %q", restarts, err, len(seen.all), keys)
		}
	}
}

func TestDocumentsGoAsLines(t *testing.T) {
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Content-Type") != api.MediaNDJSON || r.URL.Query().Get("node") != "a b" || !strings.Contains(string(body), "\n") {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = io.WriteString(w, `{"indexed":2}`)
	})
	done, err := c.AddDocuments(t.Context(), "a b", []byte("{\"id\":\"1\"}\n{\"id\":\"2\"}\n"))
	if err != nil || done.Indexed != 2 {
		t.Error(done, err)
	}
}

func TestARedirectIsNotFollowedAndNamed(t *testing.T) {
	for _, code := range []int{301, 302, 303, 304, 307, 308} {
		followed := false
		c, seen := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if followed = followed || r.URL.Path == "/stolen"; r.URL.Path != "/stolen" {
				w.Header().Set("Location", "/stolen")
				w.WriteHeader(code)
			}
		})
		_, err := c.Keys(t.Context())
		if followed || muster.CodeOf(err) != "redirected" || muster.KindOf(err) != muster.Unavailable || code != 304 && !strings.Contains(err.Error(), "/stolen") {
			t.Errorf("%d: followed %v, %v", code, followed, err)
		}
		if len(seen.all) != 1 || seen.all[0].Status != code || seen.all[0].Err == "" {
			t.Errorf("%d: recorded %+v", code, seen.all)
		}
		if c.Holds(t.Context(), c.Addrs[0], "n1") || followed {
			t.Errorf("%d: its health was followed", code)
		}
	}
}
