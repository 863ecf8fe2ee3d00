package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"muster"
	"muster/cluster/trust"
	"muster/httpserver/api"
)

// secure is a cluster of processes with automatic HTTPS, each with a secret
// file of its own, as on machines of their own.
func secure(t *testing.T, names ...string) (*demo, string) {
	t.Helper()
	d := newDemo(t.TempDir(), streams{t.Output(), t.Output()}, names...)
	d.more = func(name string) []string { return []string{"--tls", "auto", "--secret-file", d.secretOf(name)} }
	for _, name := range names {
		if err := os.WriteFile(d.secretOf(name), []byte(d.secret.Hex()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return raised(t, d)
}

func (d *demo) secretOf(name string) string { return filepath.Join(d.dir, "secret-"+name) }

// with runs a command at a node, as the operator of its machine.
func (d *demo) with(t *testing.T, name string, args ...string) (code int, out string) {
	t.Helper()
	return words(t, append(args, "--addr", d.urls[name], "--secret-file", d.secretOf(name))...)
}

// copySecret brings a secret file to another machine.
func (d *demo) copySecret(t *testing.T, from, to string) {
	t.Helper()
	secrets, err := trust.LoadSecrets(d.secretOf(from))
	if err == nil {
		err = trust.ReplaceSecretFile(d.secretOf(to), secrets, false)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// load is callers who go on while something is done to the cluster.
type load struct {
	calls atomic.Int64
	wg    sync.WaitGroup
	stop  context.CancelFunc
}

// start calls until the load is stopped; every failure fails the test.
func (l *load) start(ctx context.Context, t *testing.T, what string, call func(ctx context.Context, n int) error) {
	t.Helper()
	l.wg.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			if err := call(context.WithoutCancel(ctx), n); err != nil {
				t.Errorf("%s %d: %v", what, n, err)
				return
			}
			l.calls.Add(1)
		}
	})
}

// operator is a client of a machine, by its secret file as it is now.
func (d *demo) operator(name string) (*api.Client, error) {
	f := clientFlags{Addr: []string{d.urls[name]}, SecretFile: d.secretOf(name)}
	return f.client()
}

func (d *demo) load(t *testing.T, key string) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop}
	for _, name := range d.names {
		l.start(ctx, t, "register at "+name, func(ctx context.Context, n int) error {
			client, err := d.operator(name)
			if err != nil {
				return err
			}
			app := fmt.Sprintf("app-%s-%d", name, n)
			_, err = client.Register(ctx, muster.Registration{Name: app, URL: "http://127.0.0.1:9/x", Capabilities: []muster.Capability{"web"}}, app)
			return err
		})
		keyed := &api.Client{Addrs: []string{d.urls[name]}, Key: key, HTTP: anybody()}
		l.start(ctx, t, "search at "+name, func(ctx context.Context, _ int) error {
			found, err := keyed.Search(ctx, muster.Query{Text: "rain", Limit: 1})
			if err == nil && (found.Partial || found.NodesSearched != len(d.names)) {
				err = fmt.Errorf("%d nodes answered: %+v", found.NodesSearched, found.Nodes)
			}
			return err
		})
	}
	l.start(ctx, t, "run", func(ctx context.Context, _ int) error {
		client, err := d.operator(d.names[0])
		if err != nil {
			return err
		}
		ran, err := client.Run(ctx, muster.Run{Action: "node.ping", On: muster.Selector{Nodes: &d.names}})
		if err == nil && !ran.Success {
			err = fmt.Errorf("%+v", ran.Results)
		}
		return err
	})
	return l
}

// anybody dials without a look at certificates, as an application with a key
// alone might: it is not what is tested.
func anybody() *http.Client {
	conf, err := trust.OperatorTLS([]trust.Secret{trust.NewSecret()})
	if err != nil {
		panic(err)
	}
	conf.VerifyConnection = nil
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: conf}}
}

func TestTheSecretIsRotatedOneByOneUnderLoadWithoutAFailedRequest(t *testing.T) {
	d, _ := secure(t, "a", "b", "c")
	key, err := d.client("a").CreateKey(t.Context(), muster.KeySpec{Name: "app", Scopes: []string{muster.ScopeAdmin}}) // which no rate limits
	if err != nil {
		t.Fatal(err)
	}
	l := d.load(t, *key.Plain)
	started := time.Now()
	defer l.wg.Wait()
	defer l.stop()
	must := func(name string, args ...string) {
		t.Helper()
		if code, out := d.with(t, name, args...); code != 0 {
			t.Fatalf("%v at %s: exit %d, %s", args, name, code, out)
		}
	}
	refused := func(name, step string, who ...string) {
		t.Helper()
		code, out := d.with(t, name, "secret", "rotate", step)
		if code != 1 || !strings.Contains(out, " yet: "+strings.Join(who, ", ")+"\n") {
			t.Fatalf("%s at %s: exit %d, %s", step, name, code, out)
		}
	}
	told := func(secrets int, first string, names ...string) {
		t.Helper()
		until(t, "all have heard of all", func() bool {
			for _, name := range d.names {
				client, err := d.operator(name)
				if err != nil {
					t.Fatal(err)
				}
				s, err := client.Cluster(t.Context())
				if err != nil || slices.ContainsFunc(s.Peers, func(p muster.PeerStatus) bool {
					return slices.Contains(names, p.Slug) && (len(p.Secrets) != secrets || p.Secrets[0] != first)
				}) {
					return false
				}
			}
			return true
		})
	}
	must("a", "secret", "rotate", "--add")
	old := fingerprint(d.secret)
	told(2, old, "a")
	refused("a", "--use", "b", "c")
	for _, name := range []string{"b", "c"} {
		d.copySecret(t, "a", name)
	}
	told(2, old, d.names...)
	must("a", "secret", "rotate", "--use")
	now, err := trust.LoadSecrets(d.secretOf("a"))
	if err != nil {
		t.Fatal(err)
	}
	fresh := fingerprint(now[0])
	told(2, fresh, "a")
	refused("a", "--drop", "b", "c")
	must("b", "secret", "rotate", "--use")
	d.copySecret(t, "a", "c")
	told(2, fresh, d.names...)
	until(t, "all credentials are sealed anew, as each node sees it", func() bool {
		return !slices.ContainsFunc(d.names, func(name string) bool {
			client, err := d.operator(name)
			if err != nil {
				t.Fatal(err)
			}
			s, err := client.Cluster(t.Context())
			return err != nil || s.OldSeals > 0
		})
	})
	for _, name := range d.names {
		must(name, "secret", "rotate", "--drop")
	}
	told(1, fresh, d.names...)
	seen := l.calls.Load()
	until(t, "some calls after it", func() bool { return l.calls.Load() > seen+20 || t.Failed() })
	l.stop()
	l.wg.Wait()
	t.Logf("%d calls in %v", l.calls.Load(), time.Since(started))
	if _, err := d.client("a").Cluster(t.Context()); err == nil {
		t.Error("the old secret still admits")
	}
	if err := d.kill("c"); err != nil {
		t.Fatal(err)
	}
	before := d.secret
	d.secret = now[0]
	if d.http, err = dialing(now[:1]); err != nil {
		t.Fatal(err)
	}
	if err := d.start("c"); err != nil {
		t.Fatal(err)
	}
	d.leaks(t, before, now[0])
	until(t, "a node that knows the new secret alone is back", func() bool { _, whole := d.whole(t.Context()); return whole })
}

// leaks looks for secrets in all that the agents wrote.
func (d *demo) leaks(t *testing.T, secrets ...trust.Secret) {
	t.Helper()
	err := filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the agents are at work
		}
		if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), "secret") {
			return err
		}
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, s := range secrets {
			if bytes.Contains(raw, s[:]) || bytes.Contains(raw, []byte(s.Hex())) {
				t.Errorf("the secret is in %s", path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAStepOfARotationNeedsTheRightFileAndANodeThatSaysItIsTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	one, two := trust.NewSecret().Hex(), trust.NewSecret().Hex()
	for _, c := range []struct {
		name, text string
		args       []string
		code       int
		says       string
	}{
		{"no step", one, nil, 2, "--add"},
		{"two steps", one, []string{"--add", "--use"}, 2, "--add"},
		{"a second rotation", one + "\n" + two, []string{"--add"}, 1, "2 lines"},
		{"nothing to use", one, []string{"--use"}, 1, "one line"},
		{"nothing to drop", one, []string{"--drop"}, 1, "one line"},
		{"nobody to ask", one + "\n" + two, []string{"--use"}, 4, "reached"},
		{"nobody to ask before the end", one + "\n" + two, []string{"--drop"}, 4, "reached"},
		{"no secret", "", []string{"--add"}, 2, "empty"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out := words(t, append([]string{"secret", "rotate", "--secret-file", path, "--addr", "http://127.0.0.1:1"}, c.args...)...)
		after, err := os.ReadFile(path)
		if code != c.code || !strings.Contains(out, c.says) || err != nil || string(after) != c.text {
			t.Errorf("%s: exit %d, %s", c.name, code, out)
		}
	}
	if err := os.WriteFile(path, []byte(one), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := words(t, "secret", "rotate", "--add", "--secret-file", path)
	secrets, err := trust.LoadSecrets(path) // refuses what others can read
	if code != 0 || err != nil || len(secrets) != 2 || secrets[0].Hex() != one {
		t.Fatalf("exit %d, %s, %v", code, out, err)
	}
	if strings.Contains(out, one) || strings.Contains(out, secrets[1].Hex()) || !strings.Contains(out, fingerprint(secrets[1])) {
		t.Errorf("it prints %s", out)
	}
}

func TestASecretIsNotDroppedWhileItAloneOpensACredential(t *testing.T) {
	fresh, old := trust.NewSecret(), trust.NewSecret()
	var seals atomic.Int64
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == api.PathHealth {
			_ = json.NewEncoder(w).Encode(api.Health{ID: "n"})
			return
		}
		_ = json.NewEncoder(w).Encode(muster.ClusterStatus{
			Master: &muster.MasterRef{Slug: "a"}, OldSeals: int(seals.Load()),
			Peers: []muster.PeerStatus{{Slug: "a", Alive: true, Secrets: []string{fingerprint(fresh), fingerprint(old)}}},
		})
	}))
	defer node.Close()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(fresh.Hex()+"\n"+old.Hex()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		seals int64
		code  int
		says  string
		lines int
	}{{2, 1, "credentials of 2 nodes", 2}, {0, 0, "is out from then on", 1}} {
		seals.Store(c.seals)
		code, out := words(t, "secret", "rotate", "--drop", "--secret-file", path, "--addr", node.URL)
		secrets, err := trust.LoadSecrets(path)
		if code != c.code || !strings.Contains(out, c.says) || err != nil || len(secrets) != c.lines {
			t.Errorf("%d: exit %d, %s, %v", c.seals, code, out, err)
		}
	}
}

func TestAStepOfARotationGoesByWhatANodeWithAMasterSees(t *testing.T) {
	old, fresh := trust.NewSecret(), trust.NewSecret()
	var seen muster.ClusterStatus
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == api.PathHealth {
			_ = json.NewEncoder(w).Encode(api.Health{ID: "n"})
			return
		}
		_ = json.NewEncoder(w).Encode(seen)
	}))
	defer node.Close()
	both := []string{fingerprint(old), fingerprint(fresh)}
	peer := func(slug string, alive bool, secrets ...string) muster.PeerStatus {
		return muster.PeerStatus{Slug: slug, Alive: alive, Secrets: secrets}
	}
	for _, c := range []struct {
		name   string
		master bool
		peers  []muster.PeerStatus
		code   int
		says   string
	}{
		{"all understand", true, []muster.PeerStatus{peer("a", true, both...), peer("b", true, both[1], both[0])}, 0, "--drop"},
		{"one does not", true, []muster.PeerStatus{peer("a", true, both...), peer("b", true, both[0])}, 1, "yet: b\n"},
		{"one says nothing", true, []muster.PeerStatus{peer("a", true, both...), peer("b", true)}, 1, "yet: b\n"},
		{"one is dead", true, []muster.PeerStatus{peer("a", true, both...), peer("b", false, both[0])}, 0, "not asked: b."},
		{"no master", false, []muster.PeerStatus{peer("a", true, both...), peer("b", false, both[0])}, 4, "no master"},
	} {
		seen = muster.ClusterStatus{Peers: c.peers}
		if c.master {
			seen.Master = &muster.MasterRef{Slug: "a"}
		}
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(old.Hex()+"\n"+fresh.Hex()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out := words(t, "secret", "rotate", "--use", "--secret-file", path, "--addr", node.URL)
		secrets, err := trust.LoadSecrets(path)
		if code != c.code || !strings.Contains(out, c.says) || err != nil || (secrets[0] == fresh) != (c.code == 0) {
			t.Errorf("%s: exit %d, %s, %v", c.name, code, out, err)
		}
		if c.code != 0 {
			continue
		}
		step := func(flag string, code int, first trust.Secret, says string) {
			got, out := words(t, "secret", "rotate", flag, "--secret-file", path, "--addr", node.URL)
			secrets, err := trust.LoadSecrets(path)
			if got != code || !strings.Contains(out, says) || err != nil || len(secrets) != 2 || secrets[0] != first {
				t.Errorf("%s, then %s: exit %d, %s, %v", c.name, flag, got, out, err)
			}
		}
		step("--use", 0, fresh, "already")
		step("--back", 0, old, "--use")
		step("--back", 1, old, "still")
		step("--use", 0, fresh, "--drop")
	}
}

func TestSIGHUPReadsTheSecretAgainAndOneThatCannotBeUsedChangesNothing(t *testing.T) {
	d, _ := secure(t, "a")
	log := func() string {
		raw, err := os.ReadFile(filepath.Join(d.dir, "a.log"))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	if err := os.WriteFile(d.secretOf("a"), []byte("beef"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.procs["a"].Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "it says what is wrong", func() bool {
		return strings.Contains(log(), "not reloaded") && strings.Contains(log(), "secret: line 1")
	})
	if _, err := d.client("a").Cluster(t.Context()); err != nil {
		t.Error(err)
	}
}
