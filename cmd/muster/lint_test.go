package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/cmd/daemon"
)

func TestLintNamesFileLineAndReasonOfEveryFaultAndItsCodeSaysSo(t *testing.T) {
	t.Setenv("MUSTER_HOME", t.TempDir())
	dir := t.TempDir()
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, file), meant([]byte(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code, out := words(t, "action", "lint", dir); code != 2 || !strings.Contains(out, "no definitions") {
		t.Errorf("an empty directory: exit %d\n%s", code, out)
	}
	write("good.yaml", "action: app.good\nversion: 1.0.0\ntitle: Good\nrisk: low\nhandler: {kind: http, url: http://127.0.0.1:1/}\n")
	if code, out := words(t, "action", "lint", dir); code != 0 || !strings.Contains(out, "app.good") {
		t.Errorf("a good one: exit %d\n%s", code, out)
	}
	write("one.yaml", "action: app.one\nversion: 1.0.0\ntitle: One\nrisc: low\nhandler: {kind: exec, argv: [/bin/ls]}\n")
	write("two.yaml", "action: app.two\nversion: 1\ntitle: Two\nrisk: grave\nhandler: {kind: exec, argv: [ls]}\n")
	write("twin.json", "{\n\"action\": \"app.good\", \"version\": \"1.0.0\", \"title\": \"T\", \"risk\": \"low\",\n\"handler\": {\"kind\": \"http\", \"url\": \"http://127.0.0.1/\"}}\n")
	write("notes.txt", "no definition")
	want := []string{
		"one.yaml:4: risc: no such field", "twin.json:2: app.good is defined in ", "two.yaml:2: version: must be a string",
	}
	code, out := words(t, "action", "lint", dir)
	for _, says := range want {
		if !strings.Contains(out, filepath.Join(dir, says)) {
			t.Errorf("%q is missing", says)
		}
	}
	if code != 2 || strings.Contains(out, "notes.txt") || !strings.Contains(out, "faults in the definitions: 3") {
		t.Errorf("exit %d\n%s", code, out)
	}
	code, out = words(t, "action", "lint", dir, "-o", "json")
	var found daemon.Lint
	if err := json.Unmarshal([]byte(before(out, "error:")), &found); err != nil || code != 2 || len(found.Faults) != 3 || found.Faults[0].Line != 4 || len(found.Actions) != 1 {
		t.Errorf("exit %d, %v\n%s", code, err, out)
	}
	if code, out := words(t, "action", "lint", filepath.Join(dir, "good.yaml")); code != 0 {
		t.Errorf("one file: exit %d\n%s", code, out)
	}
	if code, out := words(t, "action", "lint", filepath.Join(dir, "nowhere")); code != 1 || !strings.Contains(out, "nowhere") {
		t.Errorf("no such path: exit %d\n%s", code, out)
	}
	if err := os.Chmod(filepath.Join(dir, "good.yaml"), 0o666); err != nil { //nolint:gosec // that is the fault
		t.Fatal(err)
	}
	if code, out := words(t, "action", "lint", dir); code != 2 || !strings.Contains(out, "good.yaml: others may write it") {
		t.Errorf("a file that others may write: exit %d\n%s", code, out)
	}
}
