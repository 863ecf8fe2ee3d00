package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// ledgerApp is a real one with a ledger of its own: it drops no duplicate, but
// notes every call. Each execution of a step calls it three times: before it
// writes its key to a file, then, and when it has told the ledger, too.
type ledgerApp struct {
	*httptest.Server
	file string

	mu     sync.Mutex
	calls  map[string][]string     // points by key; guarded by mu
	fails  string                  // step whose doing fails; guarded by mu
	strike func(key, point string) // nil, or what happens at each call, which waits for it; guarded by mu
}

// The points of an execution: it has begun, it has written the file, and the
// ledger has it too.
const (
	atBegin  = "begin"
	atFile   = "file"
	atLedger = "ledger"
)

func newLedgerApp(t *testing.T) *ledgerApp {
	t.Helper()
	a := &ledgerApp{file: filepath.Join(t.TempDir(), "effects"), calls: map[string][]string{}}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, point := r.FormValue("key"), r.FormValue("point")
		a.mu.Lock()
		a.calls[key] = append(a.calls[key], point)
		strike, fails := a.strike, a.fails
		a.mu.Unlock()
		if strike != nil {
			strike(key, point)
		}
		if point == atBegin && fails != "" && strings.Contains(key, "."+fails+".do.") {
			w.WriteHeader(http.StatusConflict)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

// act is an execution of a step, as a process of its own: exit 1 says that it did
// nothing.
func act(app string) int {
	key := os.Getenv("MUSTER_JOB")
	call := func(point string) bool {
		res, err := http.PostForm(app, url.Values{"key": {key}, "point": {point}}) //nolint:noctx // its process is killed at its limit
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	}
	if !call(atBegin) {
		return 1
	}
	f, err := os.OpenFile(os.Args[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 1
	}
	if _, err := fmt.Fprintln(f, key); err != nil || f.Close() != nil || !call(atFile) || !call(atLedger) {
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			_ = self.Kill() // nobody knows how far it came
		}
	}
	return 0
}

// effects are the keys in the file, in their order.
func (a *ledgerApp) effects(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile(a.file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Fields(string(raw))
}
