package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"muster"
	"muster/httpserver/api"
)

// leaky are actions that say aloud what they are told in confidence.
var leaky = map[string]string{
	"login.yaml": `action: app.login
version: 1.0.0
title: Log in
risk: low
params:
  pin: {type: string, secret: true, required: true}
  user: {type: string}
handler: {kind: exec, argv: [/bin/cat], stdin: params}
`,
	"fail.yaml": `action: app.fail
version: 1.0.0
title: Fail aloud
risk: low
params: {pin: {type: string, secret: true, required: true}}
handler: {kind: exec, argv: [/bin/sh, -c, 'cat >&2; exit 3'], stdin: params}
`,
	"slow.yaml": `action: app.wait
version: 1.0.0
title: Wait aloud until it is ended
risk: low
params: {pin: {type: string, secret: true, required: true}}
limits: {timeout: 1s, kill_after: 1s}
handler: {kind: exec, argv: [/bin/sh, -c, 'cat; sleep 60'], stdin: params}
`,
}

// keeper is an application that keeps the credentials it was called with.
type keeper struct {
	*httptest.Server

	mu   sync.Mutex
	seen map[string]bool // guarded by mu
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{seen: map[string]bool{}}
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		k.seen[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")] = true
		k.mu.Unlock()
		switch {
		case strings.HasSuffix(r.URL.Path, "/health"):
			_, _ = io.WriteString(w, `{"status":"healthy","ready":true}`)
		case strings.HasSuffix(r.URL.Path, "/search"):
			_, _ = io.WriteString(w, `{"results":[{"id":"1","title":"rain"}]}`)
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(k.Close)
	return k
}

func (k *keeper) got(credential string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.seen[credential]
}

// secretPart is the part of a key that nobody but its holder may have.
func secretPart(key string) string { return key[strings.LastIndex(key, "_")+1:] }

func TestWhatIsConfidentialIsInNothingThatAgentsWriteOrTell(t *testing.T) {
	t.Setenv("MUSTER_LOG_LEVEL", "debug")
	d, master := trio(t)
	const param, given, later = "p4ram0canary0123456789", "cr3dential0canary0123456789", "cr3dential1canary0123456789"
	for name, text := range leaky {
		if err := os.WriteFile(filepath.Join(d.dir, "actions", name), meant([]byte(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range d.names {
		if err := d.procs[name].Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the actions are there", func() bool {
		code, out := d.words(t, master, "action", "show", "app.wait")
		return code == 0 && strings.Contains(out, strings.Join(d.names, ", "))
	})
	asker := other(d, master)
	op := d.client(asker)
	confidential := map[string]string{"param": param, "given credential": given, "later credential": later}

	shop := newKeeper(t)
	registered, err := op.Register(t.Context(), muster.Registration{Name: "shop", URL: shop.URL, Credential: given}, "")
	if err != nil {
		t.Fatal(err)
	}
	confidential["node's key"] = secretPart(*registered.APIKey)
	own, err := op.Register(t.Context(), muster.Registration{Name: "wiki", URL: "http://127.0.0.1:9"}, "")
	if err != nil || own.Credential == nil {
		t.Fatal(own, err)
	}
	confidential["made credential"] = *own.Credential
	key, err := op.CreateKey(t.Context(), muster.KeySpec{Name: "app", Scopes: []string{"search", "read", "run:*"}})
	if err != nil {
		t.Fatal(err)
	}
	confidential["key"] = secretPart(*key.Plain)
	until(t, "the key holds, and the application is asked with its credential", func() bool {
		by := &api.Client{Addrs: []string{d.urls[asker]}, HTTP: d.http, Key: *key.Plain}
		_, err := by.Search(t.Context(), muster.Query{Text: "rain", Options: muster.QueryOptions{Cache: new(bool)}})
		return err == nil && shop.got(given)
	})

	send := func(method, path, body, bearer string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, d.urls[asker]+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+bearer)
		got, err := d.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = got.Body.Close()
		return got.StatusCode
	}
	pin := `{"pin":"` + param + `","user":"jane"}`
	for _, c := range []struct {
		method, path, body, bearer string
		code                       int
	}{
		{"POST", "/v1/run", `{"action":"app.login","params":` + pin + `,"on":{"all":true}}`, *key.Plain, 200},
		{"POST", "/v1/run", `{"action":"app.login","params":` + pin + `,"on":{"all":true},"key":"login-1"}`, *key.Plain, 200},
		{"POST", "/v1/run", `{"action":"app.fail","params":{"pin":"` + param + `"},"on":{"all":true},"how":{"on_fail":"continue"}}`, *key.Plain, 200},
		{"POST", "/v1/run", `{"action":"app.wait","params":{"pin":"` + param + `"},"on":{"all":true},"how":{"on_fail":"continue"}}`, *key.Plain, 200},
		{"POST", "/v1/run", `{"action":"app.unknown","params":` + pin + `,"on":{"all":true}}`, *key.Plain, 200},
		{"POST", "/v1/run", `{"action":"app.login","params":{"pin":["` + param + `"]},"on":{"all":true}}`, *key.Plain, 200},
		{"POST", "/v1/run", `{"action":"app.login","params":{"pin":"` + param + `"`, *key.Plain, 400},
		{"POST", "/v1/run", `{"action":"app.login","nosuch":1,"params":` + pin + `}`, *key.Plain, 422},
		{"POST", "/api/ai-engine/actions", `{"action":"app.login","params":` + pin + `}`, *key.Plain, 200},
		{"DELETE", "/v1/nodes/wiki", "", *key.Plain, 403},
		{"GET", "/v1/nodes", "", *key.Plain + "0", 401},
	} {
		if code := send(c.method, c.path, c.body, c.bearer); code != c.code {
			t.Errorf("%s %s %s: %d", c.method, c.path, c.body, code)
		}
	}
	first, at := &api.Client{Addrs: []string{d.urls[asker]}, HTTP: d.http, Key: *key.Plain}, &api.Client{Addrs: []string{d.urls[master]}, HTTP: d.http, Key: *key.Plain}
	again := muster.Run{Action: "app.login", Params: muster.Params{"pin": []byte(`"` + param + `"`), "user": []byte(`"jane"`)}, On: muster.Selector{All: true}}
	plain := plainDigests(t, again)
	again.Key = "login-1"
	began, err := first.Run(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := at.Run(t.Context(), again); err != nil || a.Job != began.Job {
		t.Errorf("the same key, secret and all, at another node: %+v, %v", a, err)
	}
	again.Params["pin"] = []byte(`"another"`)
	if _, err := at.Run(t.Context(), again); muster.CodeOf(err) != "idempotency_key_reused" {
		t.Errorf("the same key with another secret: %v", err)
	}
	maps.Copy(confidential, plain)
	change := sha256.Sum256([]byte("/v1/nodes/shop\n" + `{"credential":"` + later + `"}`))
	confidential["plain digest of a credential's change"] = hex.EncodeToString(change[:])
	if err := op.Do(t.Context(), http.MethodPatch, "/v1/nodes/shop", map[string]string{"credential": later}, nil); err != nil {
		t.Fatal(err)
	}
	until(t, "the application is asked with the later credential", func() bool {
		_, err := op.Search(t.Context(), muster.Query{Text: "rain", Options: muster.QueryOptions{Cache: new(bool)}})
		return err == nil && shop.got(later)
	})
	rotated, err := op.RotateKey(t.Context(), key.ID, muster.Rotation{Overlap: "1h"})
	if err != nil {
		t.Fatal(err)
	}
	confidential["rotated key"] = secretPart(*rotated.Plain)
	search := func() {
		t.Helper()
		d.holds(t, confidential)
	}
	search()
	if err := d.kill(master); err != nil {
		t.Fatal(err)
	}
	if err := d.start(master); err != nil {
		t.Fatal(err)
	}
	until(t, "all are back", func() bool { _, whole := d.whole(t.Context()); return whole })
	search()
}

// plainDigests are those of a run and its parameters that need no key: a short
// secret could be found by trying.
func plainDigests(t *testing.T, run muster.Run) map[string]string {
	t.Helper()
	digests := map[string]string{}
	for what, v := range map[string]any{"plain digest of the parameters": run.Params, "plain digest of the run": run} {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(raw)
		digests[what] = hex.EncodeToString(sum[:])
	}
	return digests
}

// holds looks for confidential texts in all files of the agents, in what they
// print, in their metrics, jobs and request logs.
func (d *demo) holds(t *testing.T, confidential map[string]string) {
	t.Helper()
	look := func(where string, raw []byte) {
		for what, text := range confidential {
			if bytes.Contains(raw, []byte(text)) {
				t.Errorf("the %s is in %s", what, where)
			}
		}
	}
	told := 0
	for _, name := range d.names {
		for _, path := range []string{"/metrics", "/v1/requests?limit=1000", "/v1/requests?limit=1000&type=action", "/v1/jobs", "/v1/nodes", "/v1/keys", "/v1/actions", "/v1/search/cache"} {
			answer, err := d.client(name).Send(t.Context(), api.Request{Method: http.MethodGet, Path: path})
			if err != nil {
				t.Fatal(name, path, err)
			}
			look(path+" of "+name, answer.Body)
			told += strings.Count(string(answer.Body), `"user":"jane"`)
		}
	}
	if told == 0 {
		t.Error("no run is in any request log: nothing was looked at")
	}
	err := filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && e.IsDir() {
			return nil
		}
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the agents are at work
		}
		look(path, raw)
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
