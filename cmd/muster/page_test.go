package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster"
	"muster/testdata/ports"
)

// blocks returns what stands between fences before the given heading of a page.
func blocks(t *testing.T, page, before string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	text, _, ok := strings.Cut(string(raw), before)
	if !ok {
		t.Fatalf("%s has no %q", page, before)
	}
	var all strings.Builder
	for _, block := range regexp.MustCompile("(?s)\n```\n(.*?)\n```\n").FindAllStringSubmatch(text, -1) {
		all.WriteString(block[1] + "\n")
	}
	return all.String()
}

// shell runs a script whose bin/muster is this test, ends what it left in the
// background, and returns what it printed.
func shell(t *testing.T, script string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	program := fmt.Sprintf("#!/bin/sh\nMUSTER_CHILD=1 exec '%s' \"$@\"\n", self)
	if err := os.WriteFile(filepath.Join(dir, "bin", "muster"), []byte(program), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const tidy = "set -e\ntrap 'jobs -p > jobs; kill $(cat jobs); wait' EXIT\ntrap 'exit 1' TERM\n"
	cmd := exec.CommandContext(ctx, "sh", "-c", tidy+script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "MUSTER_HOME="+filepath.Join(dir, "home"))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var printed, said strings.Builder
	cmd.Stdout, cmd.Stderr = &printed, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, &printed, &said)
	}
	return printed.String()
}

func TestThePageOfSearchRunsAsItStands(t *testing.T) {
	for _, program := range []string{"sh", "curl", "sed"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	block, err := ports.Block(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	script := regexp.MustCompile(`\b186(\d\d)\b`).ReplaceAllString(blocks(t, "FEDERATED-SEARCH.md", "### The language"), strconv.Itoa(block/100)+"$1")
	out := shell(t, script)
	rest := out
	for _, want := range []string{
		"FAILED  GENERATION\n2        0        0       1", "FAILED  GENERATION\n2        0        0       1",
		"Plum jam   kitchen+garden", "Plum tree  garden", // plum
		"ID\n", "Plum tree  garden", // +plum -jam
		"ID\n", "Plum tree  garden", // in the title, by the season
		`"total_results": 3`, `"partial": false`,
		"ID\n", "Plum jam   garden", "Plum tree  garden", // of one node
		`{"query":"plum"`,
	} {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Fatalf("no %q in\n%s\nof\n%s", want, rest, out)
		}
		rest = after
	}
	answers := json.NewDecoder(strings.NewReader(out[strings.Index(out, `{"query":"plum"`):]))
	for _, hits := range []int{1, 2} {
		var a muster.Answer
		if err := answers.Decode(&a); err != nil || a.Partial || a.TotalResults != 3 || a.Count != hits {
			t.Errorf("over HTTP: %+v %v", a, err)
		}
	}
}
