package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"muster"

	"go.uber.org/goleak"
)

// TestMain lets the test binary be the agent, so that the race detector sees
// it, too.
func TestMain(m *testing.M) {
	if app := os.Getenv("MUSTER_ACT"); app != "" {
		os.Exit(act(app))
	}
	if os.Getenv("MUSTER_CHILD") == "1" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		code := run(ctx, os.Args[1:], streams{os.Stdout, os.Stderr})
		stop()
		os.Exit(code)
	}
	if addr := os.Getenv("MUSTER_BARE"); addr != "" {
		fmt.Fprintln(os.Stderr, bareServer(addr))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func words(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var both bytes.Buffer
	code = run(t.Context(), args, streams{&both, &both})
	return code, both.String()
}

func TestAWrongWordIsNamedAndEndsWithTheRightCode(t *testing.T) {
	t.Setenv("MUSTER_HOME", t.TempDir())
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "agent.yaml")
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"agent", "--voters", "4"}, 2, "--voters"},
		{[]string{"agent", "--http", "nowhere"}, 2, "--http"},
		{[]string{"agent", "--bind", "0.0.0.0"}, 2, "secret"},
		{[]string{"agent", "--tls", "on"}, 2, "--tls"},
		{[]string{"agent", "--meta", "x"}, 2, "--meta"},
		{[]string{"agent", "--cache-size", "64MB"}, 2, `"64MB" is not a size`},
		{[]string{"agent", "--cache-size", "99999999999GiB"}, 2, "is not a size"},
		{[]string{"agent", "--cache-ttl", "0s"}, 2, "--cache-ttl"},
		{[]string{"agent", "--nosuch"}, 2, "nosuch"},
		{[]string{"agent", "--health-interval", "1ms"}, 2, "--health-interval"},
		{[]string{"agent", "--config", file("health-interval: 2h")}, 2, "--health-interval"},
		{[]string{"agent", "--request-timeout", "1ms"}, 2, "--request-timeout"},
		{[]string{"status", "--addr", "http://127.0.0.1:1", "--key", "mk_x"}, 4, "reached"},
		{[]string{"version"}, 0, muster.Version},
		{[]string{"agent", "--config", file("voters: 4")}, 2, "--voters"},
		{[]string{"agent", "--config", file("voters: 4"), "--voters", "2"}, 2, "--voters"},
		{[]string{"agent", "--config", file("votters: 5")}, 2, "votters"},
		{[]string{"agent", "--config", file("voters: [")}, 2, "configuration"},
		{[]string{"agent", "--config", file("meta: {city: Berlin}\nmeta: {city: Bonn}")}, 2, "configuration"},
		{[]string{"agent", "--config", file("profile:")}, 2, "profile"},
	} {
		code, out := words(t, c.args...)
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%v: exit %d, %s", c.args, code, out)
		}
	}
}

func TestTheDemoTellsTheTruthAndLeavesNothingBehind(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	code, out := words(t, "demo")
	if code != 0 || !strings.Contains(out, "New master") || !strings.Contains(out, "\nRolled back after ") {
		t.Fatalf("exit %d\n%s", code, out)
	}
	left, err := os.ReadDir(temp)
	if err != nil || len(left) > 0 {
		t.Fatalf("left behind: %v %v", left, err)
	}
}

// trio is three agents as processes of their own.
func trio(t *testing.T) (*demo, string) {
	t.Helper()
	return agents(t, "a", "b", "c")
}

// agents is a cluster of processes; the master's name is returned beside it.
func agents(tb testing.TB, names ...string) (*demo, string) {
	tb.Helper()
	return raised(tb, newDemo(tb.TempDir(), streams{tb.Output(), tb.Output()}, names...))
}

// raised brings up a cluster that is prepared.
func raised(tb testing.TB, d *demo) (*demo, string) {
	tb.Helper()
	d.self = os.Getenv("MUSTER_BIN") // the benchmarks measure the program, not the test
	tb.Cleanup(func() {
		if tb.Failed() {
			d.explain(tb)
		}
		_ = d.clean()
	})
	if err := d.raise(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	master, err := d.showVoters(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return d, master
}

// explain shows what each agent logged, and what all its goroutines were at.
func (d *demo) explain(tb testing.TB) {
	tb.Helper()
	for name, cmd := range d.procs {
		_ = cmd.Process.Signal(syscall.SIGQUIT)
		_ = cmd.Wait()
		delete(d.procs, name)
	}
	for _, name := range d.names {
		if raw, err := os.ReadFile(filepath.Join(d.dir, name+".log")); err == nil {
			tb.Logf("%s:\n%s", name, raw)
		}
	}
}

func TestAgentsThatStartAtTheSameInstantFoundOneCluster(t *testing.T) {
	d, _ := trio(t)
	ids := map[string]bool{}
	for _, name := range d.names {
		s, err := d.client(name).Cluster(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ids[s.ClusterID] = true
	}
	if len(ids) != 1 {
		t.Fatalf("clusters: %v", ids)
	}
}

func TestNoAcknowledgedRegistrationIsLostWhenTheMasterIsKilled(t *testing.T) {
	d, master := trio(t)
	asker := d.names[(slices.Index(d.names, master)+1)%3]
	var mu sync.Mutex
	var acknowledged []string
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("app-%d-%d", w, i)
				r, err := d.client(asker).Register(t.Context(), muster.Registration{Name: name, URL: "http://127.0.0.1:9/x"}, name)
				if err != nil {
					t.Errorf("register %s: %v", name, err)
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, r.Node.Slug)
				mu.Unlock()
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(acknowledged) }
	reach := func(n int) {
		for count() < n && !t.Failed() && look(t.Context()) {
		}
	}
	reach(20)
	if err := d.kill(master); err != nil {
		t.Fatal(err)
	}
	before := count()
	started := time.Now()
	reach(before + 8)
	t.Logf("8 further registrations %v after the kill", time.Since(started))
	stop()
	wg.Wait()
	page, err := d.client(asker).Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]int{}
	for _, n := range page.Nodes {
		have[n.Slug]++
	}
	for _, slug := range acknowledged {
		if have[slug] != 1 {
			t.Errorf("%s is there %d times", slug, have[slug])
		}
	}
}

func TestANodeThatLostItsDiskReplacesItsOldSelf(t *testing.T) {
	d, master := trio(t)
	lost := d.names[(slices.Index(d.names, master)+1)%3]
	other := d.names[(slices.Index(d.names, master)+2)%3]
	if err := d.kill(lost); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(d.dir, lost)); err != nil {
		t.Fatal(err)
	}
	before, err := d.client(master).Node(t.Context(), lost)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.start(lost); err != nil {
		t.Fatal(err)
	}
	var s muster.ClusterStatus
	until(t, "three voters, none of them the old one", func() bool {
		s, err = d.client(master).Cluster(t.Context())
		return err == nil && len(s.Peers) == 3 && !slices.ContainsFunc(s.Peers, func(p muster.PeerStatus) bool {
			return p.ID == before.ID || p.Role != muster.RoleVoter || !p.Alive
		})
	})
	if err := d.kill(other); err != nil {
		t.Fatal(err)
	}
	if err := d.register(t.Context(), master, "after"); err != nil {
		t.Fatalf("the newcomer does not count: %v", err)
	}
}

func until(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	untilIn(tb, 30*time.Second, what, ok)
}

func untilIn(tb testing.TB, limit time.Duration, what string, ok func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), limit)
	defer cancel()
	for !ok() {
		if !look(ctx) {
			tb.Fatalf("not within %v: %s", limit, what)
		}
	}
}

func TestAFlagComesBeforeTheEnvironmentAndThatBeforeTheFile(t *testing.T) {
	t.Setenv("MUSTER_HOME", t.TempDir())
	path := filepath.Join(t.TempDir(), "agent.yaml")
	text := "profile: file\nvoters: 4\nhttp: file\nmeta: {city: Berlin, n: 3}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MUSTER_CONFIG", "")
	t.Setenv("MUSTER_JOIN", "") // empty counts as not set
	t.Setenv("MUSTER_HTTP", "environment")
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, `"environment" is not HOST:PORT`},
		{[]string{"--http", "flag"}, `"flag" is not HOST:PORT`},
		{[]string{"--http", "127.0.0.1:1"}, "--voters"},
		{[]string{"--http", "127.0.0.1:1", "--voters", "3"}, "--profile"},
	} {
		code, out := words(t, append([]string{"agent", "--config", path}, c.args...)...)
		if code != 2 || !strings.Contains(out, c.says) {
			t.Errorf("%v: exit %d, %s", c.args, code, out)
		}
	}
}
