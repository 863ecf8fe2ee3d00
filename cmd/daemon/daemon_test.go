package daemon_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/cmd/daemon"
	"muster/httpserver/api"
	"muster/testdata/ports"

	"go.uber.org/goleak"
)

// bleve starts its workers on import, fasthttp its clock and pools; memberlist
// does not wait for a probe or an exchange that is under way.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/blevesearch/bleve_index_api.AnalysisWorker"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probe"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).pushPull"))
}

// settings are those of a node on free ports, with the defaults that kong sets.
func settings(t *testing.T) daemon.Config {
	t.Helper()
	t.Setenv("MUSTER_HOME", t.TempDir())
	return daemon.Config{
		Name: "a", DataDir: filepath.Join(t.TempDir(), "data"), Bind: "127.0.0.1", Port: 7600, Voters: 5, MaxParallel: 10, HealthInterval: time.Second, RequestTimeout: 30 * time.Second,
		HTTP: free(t), Gossip: free(t), Raft: free(t), Profile: "lan", LogLevel: "info", LogFormat: "text",
		Capabilities: []string{"search", "actions"},
	}
}

func free(t *testing.T) string {
	t.Helper()
	addrs, err := ports.Free(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return addrs[0]
}

func start(t *testing.T, cfg daemon.Config) (*daemon.Daemon, error) {
	t.Helper()
	d, err := daemon.New(cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context()); err != nil {
		return d, err
	}
	t.Cleanup(func() {
		if err := d.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return d, nil
}

func hint(err error) string {
	if e, ok := errors.AsType[*muster.Error](err); ok {
		return e.Hint
	}
	return ""
}

func ready(t *testing.T, d *daemon.Daemon) *api.Client {
	t.Helper()
	client := &api.Client{Addrs: []string{d.Addr()}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		if h, err := client.Health(ctx); err == nil && h.Ready {
			return client
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case err := <-d.Fatal():
			t.Fatal(err)
		case <-ctx.Done():
			t.Fatal("the node did not become ready")
		}
	}
}

func TestANodeComesUpGoesDownAndComesUpAgainWithItsIdentity(t *testing.T) {
	cfg := settings(t)
	ids := make([]string, 0, 2)
	for range 2 {
		d, err := daemon.New(cfg, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		h, err := ready(t, d).Health(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, h.ID)
		for range 2 { // a second Stop does nothing
			if err := d.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		cfg.HTTP, cfg.Gossip, cfg.Raft = free(t), free(t), free(t)
	}
	if ids[0] != ids[1] {
		t.Fatalf("identities %v", ids)
	}
}

func TestAStartThatFailsLeavesNothingHeld(t *testing.T) {
	for _, part := range []string{"http", "gossip", "raft"} {
		cfg := settings(t)
		addr := map[string]string{"http": cfg.HTTP, "gossip": cfg.Gossip, "raft": cfg.Raft}[part]
		ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, err = start(t, cfg)
		if err == nil || !strings.Contains(err.Error(), addr) || hint(err) == "" {
			t.Fatalf("%s port taken: %v", part, err)
		}
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		d, err := start(t, cfg)
		if err != nil {
			t.Fatalf("after the %s port is free again: %v", part, err)
		}
		ready(t, d)
	}
}

func TestADataDirectoryThatIsNotForThisNodeIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(dir string) error
		says  string
	}{
		"another format": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "FORMAT"), []byte("muster-data 9\n"), 0o600)
		}, "muster-data 9"},
		"a file":        {func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, "data directory"},
		"a damaged key": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "identity"), []byte("{"), 0o600) }, "identity"},
	} {
		cfg := settings(t)
		if name != "a file" {
			if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.spoil(cfg.DataDir); err != nil {
			t.Fatal(err)
		}
		if _, err := start(t, cfg); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASecondAgentOfAnUnnamedHostGetsASuffixAndANamedOneIsRefused(t *testing.T) {
	t.Chdir(t.TempDir())
	host, err := os.Hostname()
	if err != nil {
		t.Skip("this host has no name")
	}
	cfg := settings(t)
	cfg.Name, cfg.DataDir = "", ""
	first, err := start(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ready(t, first)
	second := settings(t)
	second.Name, second.DataDir = "", ""
	d, err := start(t, second)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ready(t, d).Health(t.Context())
	if err != nil || !strings.EqualFold(h.Name, host+"-2") {
		t.Fatalf("%+v, %v", h, err)
	}
	third := settings(t)
	third.Name, third.DataDir = "c", filepath.Join("muster-data", host)
	if _, err := start(t, third); err == nil || !strings.Contains(err.Error(), "held by another running agent") {
		t.Fatalf("a named one in the same directory: %v", err)
	}
}

func TestASettingThatCannotWorkNamesItsFlag(t *testing.T) {
	for flag, change := range map[string]func(*daemon.Config){
		"--port":            func(c *daemon.Config) { c.Port = 65535 },
		"--http":            func(c *daemon.Config) { c.HTTP = "127.0.0.1:0" },
		"--raft":            func(c *daemon.Config) { c.Raft = "127.0.0.1:99999" },
		"--join":            func(c *daemon.Config) { c.Join = []string{"x"} },
		"--expect":          func(c *daemon.Config) { c.Expect, c.Join = 1, []string{"127.0.0.1:1"} },
		"--url":             func(c *daemon.Config) { c.URL = "ftp://x" },
		"--name":            func(c *daemon.Config) { c.Name = "a\x01" },
		"--capabilities":    func(c *daemon.Config) { c.Capabilities = []string{"Search!"} },
		"--request-timeout": func(c *daemon.Config) { c.RequestTimeout = time.Hour },
		"--max-parallel":    func(c *daemon.Config) { c.MaxParallel = 0 },
		"--profile":         func(c *daemon.Config) { c.Profile = "moon" },
		"--tls":             func(c *daemon.Config) { c.TLS = "on" },
		"--tls-cert":        func(c *daemon.Config) { c.TLSCert, c.TLSKey, c.TLS = "c.pem", "k.pem", "off" },
		"--tls-key":         func(c *daemon.Config) { c.TLSKey = "k.pem" },
		"--log-level":       func(c *daemon.Config) { c.LogLevel = "loud" },
		"--log-format":      func(c *daemon.Config) { c.LogFormat = "xml" },
		"--meta":            func(c *daemon.Config) { c.Meta = []string{"=1"} },
		"--advertise-raft":  func(c *daemon.Config) { c.AdvertiseRaft = "here" },
	} {
		cfg := settings(t)
		change(&cfg)
		_, err := daemon.New(cfg, io.Discard)
		if muster.KindOf(err) != muster.Invalid || !strings.HasPrefix(err.Error(), flag+":") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

func TestANodeBoundToAllAddressesTellsTheOthersOneTheyCanReach(t *testing.T) {
	cfg := settings(t)
	_, port, err := net.SplitHostPort(cfg.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	cfg.HTTP, cfg.TLS = "0.0.0.0:"+port, "off"
	d, err := daemon.New(cfg, io.Discard)
	if err != nil {
		if muster.KindOf(err) == muster.Invalid && hint(err) != "" {
			return // this host has no private address, and the node says what to do
		}
		t.Fatal(err)
	}
	if strings.Contains(d.Addr(), "0.0.0.0") {
		t.Fatalf("told %s", d.Addr())
	}
}
