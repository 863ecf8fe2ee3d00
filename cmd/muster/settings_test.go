package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

func TestConfigShowSaysWhereEachValueCameFrom(t *testing.T) {
	t.Setenv("MUSTER_HOME", t.TempDir())
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte("voters: 3\nprofile: wan\nname: file\nsecret-file: /s\nmeta: {city: Bonn}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MUSTER_PROFILE", "quick")
	t.Setenv("MUSTER_NAME", "env")
	t.Setenv("MUSTER_LOG_LEVEL", "") // empty counts as not set
	code, out := words(t, "config", "show", "--origin", "--config", path, "--name", "typed")
	if code != 0 {
		t.Fatalf("exit %d, %s", code, out)
	}
	have := map[string]string{}
	for line := range strings.SplitSeq(out, "\n") {
		if name, rest, ok := strings.Cut(line, " "); ok {
			have[name] = strings.Join(strings.Fields(rest), " ")
		}
	}
	for name, want := range map[string]string{
		"name": "typed --name", "profile": "quick MUSTER_PROFILE", "voters": "3 " + path, "meta": "city=Bonn " + path,
		"secret-file": "/s " + path, "log-level": "info default", "bind": "127.0.0.1 default", "tls": "off other settings",
		"url": "http://127.0.0.1:7600 other settings", "tls-cert": "default",
	} {
		if have[name] != want {
			t.Errorf("%s: %q, not %q", name, have[name], want)
		}
	}
	if code, out := words(t, "config", "show", "--config", path); code != 0 || strings.Contains(out, "ORIGIN") || !strings.Contains(out, "env") {
		t.Errorf("exit %d, %s", code, out)
	}
}

func TestConfigValidateChecksWhatAnAgentWouldReadAndChangesNothing(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	t.Setenv("MUSTER_HOME", home)
	t.Chdir(t.TempDir())
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), name)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"the defaults", nil, 0, "valid"},
		{"a file", []string{"--config", file("a.yaml", "voters: 3", 0o600)}, 0, "valid"},
		{"a setting of another command", []string{"--config", file("a.yaml", "limit: 3", 0o600)}, 2, "no such setting: limit"},
		{"a bad value", []string{"--config", file("a.yaml", "voters: 4", 0o600)}, 2, "--voters"},
		{"a log level", []string{"--log-level", "loud"}, 2, "--log-level"},
		{"no secret beyond loopback", []string{"--bind", "192.0.2.1"}, 2, "--secret-file"},
		{"a secret that others can read", []string{"--secret-file", file("secret", strings.Repeat("0f", 32), 0o644)}, 2, "chmod 600"},
		{"no certificate there", []string{"--tls-cert", "c.pem", "--tls-key", "k.pem"}, 2, "c.pem"},
		{"no actions there", []string{"--actions", "nowhere"}, 1, "--actions"},
	} {
		if code, out := words(t, append([]string{"config", "validate"}, c.args...)...); code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%s: exit %d, %s", c.name, code, out)
		}
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("left over: %v %v", left, err)
	}
	if _, err := os.Stat(home); err == nil {
		t.Error("it made a secret")
	}
}

func FuzzConfigurationFile(f *testing.F) {
	f.Add("voters: 3\nmeta: {city: Berlin}\njoin: [127.0.0.1:1, 127.0.0.1:2]\n")
	f.Add("voters: [")
	f.Add("? [a]\n: b")
	f.Add("a: &x [*x]")
	f.Fuzz(func(t *testing.T, text string) {
		resolver, err := loadConfig(strings.NewReader(text))
		if (err == nil) != (resolver != nil) {
			t.Fatal(resolver, err)
		}
		if err != nil {
			return
		}
		flag := &kong.Flag{Value: &kong.Value{Name: "meta"}}
		_, _ = resolver.Resolve(nil, nil, flag)
	})
}

func TestEveryFlagInTheTableOfSettingsIsOneOfTheAgents(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "NODES.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## Where the settings of the requirement went")
	table, _, _ = strings.Cut(table, "\n## ")
	parser, err := kong.New(&cli{}, kong.Vars{"version": "x"})
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, command := range parser.Model.Children {
		if command.Name == "agent" {
			for _, group := range command.AllFlags(true) {
				for _, flag := range group {
					have["--"+flag.Name] = true
				}
			}
		}
	}
	named := regexp.MustCompile("--[a-z][a-z-]+").FindAllString(table, -1)
	for _, flag := range named {
		if !have[flag] {
			t.Errorf("%s is no flag of muster agent", flag)
		}
	}
	for _, setting := range []string{
		"enabled", "is_master", "master_url", "api_key", "auto_register", "health_check_interval", "request_timeout", "cache_ttl", "max_parallel_requests",
	} {
		if !strings.Contains(table, "| `"+setting+"` |") {
			t.Errorf("no row for %s", setting)
		}
	}
	if len(named) < 5 {
		t.Errorf("only %v are named", named)
	}
}
