package muster_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// example returns the one example of a language that a page has.
func example(t *testing.T, page, language string) string {
	t.Helper()
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(raw), -1)
	if len(found) != 1 {
		t.Fatalf("%s has %d examples of %s", page, len(found), language)
	}
	return found[0][1]
}

// accepts has a program judge a file of this text.
func accepts(t *testing.T, name, text string, argv ...string) {
	t.Helper()
	path, err := exec.LookPath(argv[0])
	if err != nil {
		t.Skip(err)
	}
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, append(argv[1:], file)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

func TestTheGoExampleOfKeepingAKeyCompiles(t *testing.T) {
	accepts(t, "ledger.go", "package ledger\n\nimport (\n\t\"context\"\n\t\"database/sql\"\n)\n\n"+example(t, "docs/REMOTE-ACTIONS.md", "go"), "go", "vet")
}

func TestThePHPExampleOfKeepingAKeyIsPHP(t *testing.T) {
	accepts(t, "ledger.php", "<?php\n"+example(t, "docs/REMOTE-ACTIONS.md", "php"), "php", "-l")
}
