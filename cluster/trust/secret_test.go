package trust_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster"
	"muster/cluster/trust"
)

func TestTheFirstLineSpeaksAndBlankLinesAreIgnored(t *testing.T) {
	a, b := trust.NewSecret(), trust.NewSecret()
	got, err := trust.ParseSecrets("\n" + a.Hex() + "\r\n\n  " + strings.ToUpper(b.Hex()) + "\n\n")
	if err != nil || len(got) != 2 || got[0] != a || got[1] != b {
		t.Fatalf("%d secrets, %v", len(got), err)
	}
}

func TestABadSecretIsRefusedWithItsLine(t *testing.T) {
	_, err := trust.ParseSecrets(trust.NewSecret().Hex() + "\n\nbeef")
	if err == nil || !strings.Contains(err.Error(), "line 3") || strings.Contains(err.Error(), "beef") {
		t.Fatal(err)
	}
}

func TestASecretIsNeverPrinted(t *testing.T) {
	s := trust.NewSecret()
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s)
	for _, text := range []string{s.String(), fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %x", s, s, s, s), log.String()} {
		if strings.Contains(text, s.Hex()) || strings.Contains(text, s.Hex()[:8]) || strings.Contains(text, fmt.Sprint(s[0], s[1])) {
			t.Errorf("shown: %s", text)
		}
	}
}

func TestASecretFileThatOthersCanReadIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(trust.NewSecret().Hex()), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: false, 0o604: false, 0o620: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := trust.LoadSecrets(path)
		if (err == nil) != ok {
			t.Errorf("%v: %v", mode, err)
		}
		if e, is := errors.AsType[*muster.Error](err); !ok && (!is || e.Hint != "chmod 600 "+path) {
			t.Errorf("%v: no way out in %v", mode, err)
		}
	}
}

func TestAMadeSecretFileIsForItsOwnerOnlyAndLeavesNothingBeside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "muster")
	path := filepath.Join(dir, "secret")
	first, err := trust.EnsureSecretFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := trust.EnsureSecretFile(path)
	if err != nil || again[0] != first[0] {
		t.Fatal("the second start made another secret", err)
	}
	for name, want := range map[string]os.FileMode{path: 0o600, dir: 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left over: %v %v", left, err)
	}
}

func TestTheDefaultSecretLivesInTheNearestHome(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"MUSTER_HOME": "/m", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/m/secret"},
		{map[string]string{"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/muster/secret"},
		{map[string]string{"HOME": "/h"}, "/h/.local/state/muster/secret"},
	} {
		if got := trust.DefaultSecretPath(func(k string) string { return c.env[k] }); got != filepath.FromSlash(c.want) {
			t.Errorf("%v: %s", c.env, got)
		}
	}
}

func TestDerivedKeysAreSteadyAndDiffer(t *testing.T) {
	s := trust.NewSecret()
	if !bytes.Equal(s.GossipKey(), s.GossipKey()) || !bytes.Equal(s.OperatorKey(), s.OperatorKey()) {
		t.Error("a derived key changes")
	}
	if bytes.Equal(s.GossipKey(), s.OperatorKey()) || bytes.Equal(s.GossipKey(), s[:]) || len(s.GossipKey()) != 32 {
		t.Error("purposes share a key")
	}
	if bytes.Equal(s.GossipKey(), trust.NewSecret().GossipKey()) {
		t.Error("secrets share a key")
	}
}

func FuzzParseSecrets(f *testing.F) {
	f.Add("")
	f.Add(strings.Repeat("0f", 32) + "\n" + strings.Repeat("A0", 32))
	f.Add(strings.Repeat("0f", 31) + "\nzz")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := trust.ParseSecrets(text)
		if (err == nil) != (len(got) > 0) {
			t.Fatalf("%d secrets and %v", len(got), err)
		}
		for _, s := range got {
			if !strings.Contains(strings.ToLower(text), s.Hex()) {
				t.Fatal("a secret that is not in the text")
			}
		}
	})
}
