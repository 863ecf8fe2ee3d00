package daemon_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster"
	"muster/cluster/trust"
	"muster/cmd/daemon"
)

const greets = "action: app.NAME\nversion: 1.0.0\ntitle: Greet\nrisk: read\nhandler: {kind: exec, argv: [/bin/echo]}\n"

// meant has a definition say that root may run it, where root does.
func meant(definition string) []byte {
	if os.Geteuid() == 0 {
		definition = strings.ReplaceAll(definition, "kind: exec", "kind: exec, run_as: root")
	}
	return []byte(definition)
}

func TestDefinitionsAreReloadedAllOrNone(t *testing.T) {
	cfg := settings(t)
	cfg.Actions = t.TempDir()
	if err := os.Chmod(cfg.Actions, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(cfg.Actions, name+".yaml"), meant(strings.ReplaceAll(text, "NAME", name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one", greets)
	cfg.SecretFile = filepath.Join(t.TempDir(), "secret")
	secrets, err := trust.EnsureSecretFile(cfg.SecretFile)
	if err != nil {
		t.Fatal(err)
	}
	d, err := start(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ready(t, d)
	client := operator(d.Addr(), secrets[0])
	offered := func() (names string) {
		all, err := client.Actions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range all.Actions {
			if strings.HasPrefix(a.Action, "app.") {
				names += a.Action + " "
			}
		}
		return names
	}
	write("two", greets)
	if names := offered(); names != "app.one " {
		t.Errorf("before: %s", names)
	}
	if err := d.Reload(); err != nil || offered() != "app.one app.two " {
		t.Errorf("after: %s, %v", offered(), err)
	}
	write("three", greets)
	write("four", greets+"risc: low\n")
	if err := d.Reload(); muster.KindOf(err) != muster.Invalid || !strings.Contains(err.Error(), "four.yaml:6") || offered() != "app.one app.two " {
		t.Errorf("with a bad one: %s, %v", offered(), err)
	}
}

func TestADirectoryThatCannotBeReadIsNoFaultOfTheFlag(t *testing.T) {
	cfg := settings(t)
	cfg.Actions = filepath.Join(t.TempDir(), "none")
	d, err := daemon.New(cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	err = d.Start(t.Context())
	if muster.KindOf(err) != muster.Internal || strings.Count(err.Error(), "actions:") != 1 || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", muster.KindOf(err), err)
	}
}
