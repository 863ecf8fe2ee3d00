//go:build unix

package actions_test

import (
	"encoding/json"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"muster/actions"
)

// somebody is a user who is not root and not this process's.
func somebody(t *testing.T) *user.User {
	t.Helper()
	for _, name := range []string{"daemon", "nobody"} {
		if u, err := user.Lookup(name); err == nil && u.Uid != strconv.Itoa(os.Geteuid()) {
			return u
		}
	}
	t.Skip("no such user")
	return nil
}

func TestRootRunsAProgramAsTheUserNamedWithNoGroupsOfItsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	u := somebody(t)
	d := script(t, `], run_as: `+u.Username, `id -u; id -g; id -G; echo "$HOME"; touch "$TMPDIR/mine" here && echo wrote; cat /etc/shadow || true`)
	lines := strings.Split(outputOf(t, run(t, executor(t, actions.ExecutorConfig{}, d), "a.script", `{}`)).Stdout, "\n")
	groups, err := u.GroupIds()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(lines[2])
	slices.Sort(groups)
	slices.Sort(got)
	if lines[0] != u.Uid || lines[1] != u.Gid || !slices.Equal(got, groups) || lines[3] != u.HomeDir || lines[4] != "wrote" || lines[5] != "" {
		t.Errorf("%q, groups %v", lines, groups)
	}
}

func TestUserNamedCannotPassOffAFileOfRootAsItsResult(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	secret := filepath.Join(t.TempDir(), "result.json")
	if err := os.WriteFile(secret, []byte(`"canary"`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`ln -s ` + secret + ` "$MUSTER_RESULT"`,
		`cd /; rm -r "$TMPDIR"; ln -s ` + filepath.Dir(secret) + ` "$TMPDIR"; true`,
	} {
		d := script(t, `], run_as: `+somebody(t).Username, text)
		r := run(t, executor(t, actions.ExecutorConfig{}, d), "a.script", `{}`)
		if told, _ := json.Marshal(r); strings.Contains(string(told), "canary") {
			t.Errorf("%s: %s", text, told)
		}
	}
}

func TestProgramsOfOthersAreForRootAndRootMustBeMeant(t *testing.T) {
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	other := somebody(t)
	wants := map[string]string{
		"": "", ", run_as: no-such-user": "handler.run_as: no user no-such-user on this machine",
		", run_as: " + u.Username:     "",
		", run_as: " + other.Username: "handler.run_as: only an agent that is root can run programs as",
	}
	if os.Geteuid() == 0 {
		wants[""], wants[", run_as: "+other.Username] = "handler.run_as: must be said, for this agent is root", ""
	}
	for as, want := range wants {
		_, err := actions.Parse("a.yaml", []byte("action: a\nversion: 1.0.0\ntitle: T\nrisk: low\nhandler: {kind: exec, argv: [/bin/true]"+as+"}\n"))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), "a.yaml:5: "+want)) {
			t.Errorf("%q: %v, want %q", as, err, want)
		}
	}
}
