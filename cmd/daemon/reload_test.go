package daemon_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster"
	"muster/cluster/trust"
	"muster/cmd/daemon"
)

func TestDefinitionsAreReadAgainAllOrNothing(t *testing.T) {
	defined := filepath.Join(t.TempDir(), "actions")
	if err := os.Mkdir(defined, 0o700); err != nil {
		t.Fatal(err)
	}
	d, client := secure(t, t.TempDir(), "a", func(c *daemon.Config) { c.Actions = defined })
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(defined, "one.yaml"), meant(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	offers := func(name string) bool {
		t.Helper()
		all, err := client.Actions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range all.Actions {
			if a.Action == name {
				return true
			}
		}
		return false
	}
	good := "action: app.greet\nversion: 1.0.0\ntitle: Greet\nrisk: low\nhandler: {kind: exec, argv: [/usr/bin/printf, hello]}\n"
	write(good)
	if err := d.Reload(); err != nil || !offers("app.greet") {
		t.Fatalf("a new definition: %v", err)
	}
	write(strings.Replace(good, "app.greet", "app.other", 1) + "no such field: 1\n")
	if err := d.Reload(); err == nil || !strings.Contains(err.Error(), "one.yaml") || !offers("app.greet") || offers("app.other") {
		t.Errorf("a bad definition: %v", err)
	}
}

func TestAChangeOfSecretsThatGotHalfwayIsTriedAgainUntilItIsEverywhere(t *testing.T) {
	old, fresh := trust.NewSecret(), trust.NewSecret()
	ring, err := trust.NewRing([]trust.Secret{old})
	if err != nil {
		t.Fatal(err)
	}
	turn, both, fault, tries := daemon.Turn(ring), []trust.Secret{fresh, old}, errors.New("no key"), 0
	reload := func(secrets []trust.Secret, end error) error {
		return turn(secrets, func() error { tries++; return end })
	}
	if err := reload(both, fault); !errors.Is(err, fault) || tries != 1 {
		t.Fatal(err, tries)
	}
	if err := reload([]trust.Secret{trust.NewSecret()}, nil); muster.KindOf(err) != muster.Invalid || tries != 1 {
		t.Fatal("a file that cannot be used:", err, tries)
	}
	if err := reload(both, fault); !errors.Is(err, fault) || tries != 2 {
		t.Fatal("with the same file:", err, tries)
	}
	if err := reload(both, nil); err != nil || tries != 3 {
		t.Fatal("when it can be done:", err, tries)
	}
	if err := reload(both, nil); err != nil || tries != 3 {
		t.Fatal("when it is done:", err, tries)
	}
}
