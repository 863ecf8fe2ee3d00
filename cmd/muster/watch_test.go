package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster"
	"muster/httpserver/api"
)

// process is the program as a process of its own, at an agent.
func (d *demo) process(t *testing.T, at string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, append(args, "--addr", d.urls[at], "--secret-file", filepath.Join(d.dir, "secret"))...)
	cmd.Env = append(demoEnv(os.Environ()), "MUSTER_CHILD=1")
	return cmd
}

func TestANodeListThatWatchesShowsEachChangeUntilItIsEnded(t *testing.T) {
	d, name := agents(t, "a")
	cmd := d.process(t, name, "node", "list", "--watch", "-o", "json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			lines <- in.Text()
		}
	}()
	shows := func(text string) {
		t.Helper()
		limit := time.After(30 * time.Second)
		for {
			select {
			case line, more := <-lines:
				if !more {
					t.Fatalf("it ended before it showed %s", text)
				}
				if strings.Contains(line, text) {
					return
				}
			case <-limit:
				t.Fatalf("it does not show %s", text)
			}
		}
	}
	shows(`"a"`)
	if _, err := d.client(name).Register(t.Context(), muster.Registration{Name: "shop", URL: "http://127.0.0.1:9"}, ""); err != nil {
		t.Fatal(err)
	}
	shows(`"shop"`)
	if _, err := d.client(name).UpdateNode(t.Context(), "shop", 0, api.NodePatch{NodeChange: muster.NodeChange{Status: new(muster.StatusMaintenance)}}); err != nil {
		t.Fatal(err)
	}
	shows(`"maintenance"`)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for range lines {
		continue // until it has ended
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C is how it ends: %v", err)
	}
}

func TestAKeyIsRotatedFromTheCommandLineAndItsNewSecretShownOnce(t *testing.T) {
	d, name := agents(t, "a")
	shown := func(args ...string) (k api.NewKey) {
		t.Helper()
		cmd := d.process(t, name, append(args, "-o", "json")...)
		raw, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		if err := json.Unmarshal(raw, &k); err != nil || k.Plain == nil {
			t.Fatalf("%v: %s %v", args, raw, err)
		}
		return k
	}
	opens := func(k api.NewKey) bool {
		by := &api.Client{Addrs: []string{d.urls[name]}, HTTP: d.http, Key: *k.Plain}
		_, err := by.Nodes(t.Context())
		return err == nil
	}
	first := shown("key", "create", "--name", "app", "--scope", "read")
	second := shown("key", "rotate", first.ID, "--overlap", "1h")
	if first.ID != second.ID || !opens(first) || !opens(second) {
		t.Errorf("with an overlap: %v %v", opens(first), opens(second))
	}
	if third := shown("key", "rotate", first.ID); opens(second) || !opens(third) {
		t.Errorf("without one: the last %v, the new %v", opens(second), opens(third))
	}
	registered, err := d.client(name).Register(t.Context(), muster.Registration{Name: "shop", URL: "http://127.0.0.1:9"}, "")
	if err != nil {
		t.Fatal(err)
	}
	own := shown("key", "rotate", "--node", "shop")
	if !opens(own) || opens(api.NewKey{Plain: registered.APIKey}) {
		t.Error("the key of a node")
	}
	raw, err := d.process(t, name, "key", "list", "-o", "json").Output()
	if err != nil || strings.Contains(string(raw), secretPart(*own.Plain)) || !strings.Contains(string(raw), first.ID) {
		t.Errorf("the list: %s %v", raw, err)
	}
	var ended *exec.ExitError
	if _, err := d.process(t, name, "key", "rotate", "nobody").Output(); !errors.As(err, &ended) || ended.ExitCode() != 1 {
		t.Errorf("a key of nobody: %v", err)
	}
}
