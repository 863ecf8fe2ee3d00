package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster"
)

// words runs a command against one node of a demo.
func (d *demo) words(t *testing.T, at string, args ...string) (code int, out string) {
	t.Helper()
	return words(t, append(args, "--addr", d.urls[at], "--secret-file", filepath.Join(d.dir, "secret"))...)
}

func TestAnActionRunsOnAllAndWhoDidNotIsNamed(t *testing.T) {
	d, master := trio(t)
	dead := other(d, master)
	code, out := d.words(t, master, "run", "app.greet", "-p", "name=Ada", "--all")
	if code != 0 || strings.Count(out, `{"greeting":"Hello","name":"Ada"}`) != 3 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	if err := d.register(t.Context(), master, "crm"); err != nil {
		t.Fatal(err)
	}
	if err := d.kill(dead); err != nil {
		t.Fatal(err)
	}
	code, out = d.words(t, master, "run", "app.greet", "-p", "name=Ada", "--all", "--serial", "--on-fail", "continue", "-o", "json")
	var a muster.RunAnswer
	if err := json.Unmarshal([]byte(before(out, "error:")), &a); err != nil || code != 3 {
		t.Fatalf("exit %d, %v\n%s", code, err, out)
	}
	if a.Success || a.SuccessCount != 2 || a.FailureCount != 1 || a.SkippedCount != 1 || a.NodesExecuted != 3 {
		t.Errorf("counts of %+v", a)
	}
	if r := a.Results[dead]; r.State != muster.StateUnreachable || r.Error == nil {
		t.Errorf("the dead one: %+v", r)
	}
	if r := a.Results["crm"]; r.State != muster.StateSkipped || r.Error == nil || r.Error.Code != "no_capability" {
		t.Errorf("the external one: %+v", r)
	}
}

func before(text, mark string) string {
	head, _, _ := strings.Cut(text, mark)
	return head
}

func TestAWrongRunIsRefusedOrSaysWhatIsWrongAtEachNode(t *testing.T) {
	d, name := agents(t, "a")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"run", "node.ping"}, 2, "--all"},
		{[]string{"run", "node.ping", "--on", "nowhere"}, 1, "nowhere"},
		{[]string{"run", "node.ping", "--where", "role=web"}, 2, "no node"},
		{[]string{"run", "node.ping", "--all", "--max-fail", "0"}, 2, "max_fail"},
		{[]string{"run", "node.ping", "--all", "--max-fail", "x"}, 2, "--max-fail"},
		{[]string{"run", "no.such", "--all"}, 2, `no action "no.such"`},
		{[]string{"run", "app.greet", "--all"}, 2, "name: must be given"},
		{[]string{"run", "app.greet", "--all", "-p", "name=$(id)"}, 2, "name"},
		{[]string{"run", "app.greet", "--all", "-p", "name=a", "-p", "name=b"}, 2, "twice"},
		{[]string{"run", "node.ping", "--all", "-p", "x=1"}, 2, "x"},
		{[]string{"run", "node.ping", "--all", "--check"}, 2, "dry run"},
		{[]string{"run", "app.greet", "--all", "--check", "-p", "name=Ada"}, 0, "would greet Ada"},
		{[]string{"run", "node.echo", "--all", "-p", "text=12=3"}, 0, `{"text":"12=3"}`},
		{[]string{"run", "file.checksum", "--all", "-p", "path=/no/such/file"}, 1, "failed"},
		{[]string{"action", "show", "no.such"}, 1, "no.such"},
		{[]string{"action", "show", "app.greet"}, 0, "low"},
	} {
		code, out := d.words(t, name, c.args...)
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%v: exit %d, %s", c.args, code, out)
		}
	}
}

func TestAKeysRightsHoldWhereTheActionRuns(t *testing.T) {
	d, master := trio(t)
	key, err := d.client(master).CreateKey(t.Context(), muster.KeySpec{Name: "ci", Scopes: []string{"run:node.*", "run:app.*"}, MaxRisk: muster.RiskRead})
	if err != nil {
		t.Fatal(err)
	}
	with := func(args ...string) (int, string) {
		return words(t, append(args, "--addr", d.urls[master], "--key", *key.Plain)...)
	}
	if code, out := with("run", "node.ping", "--all"); code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	until(t, "an action it may run is shown once, with all its nodes", func() bool {
		code, out := with("action", "show", "app.greet")
		return code == 0 && strings.Count(out, "Action ") == 1 && strings.Contains(out, "a, b, c")
	})
	for _, args := range [][]string{
		{"run", "host.disk", "--all"},                   // no scope
		{"run", "app.greet", "--all", "-p", "name=Ada"}, // too risky
		{"action", "list"},
	} {
		if code, out := with(args...); code != 5 {
			t.Errorf("%v: exit %d\n%s", args, code, out)
		}
	}
}

func TestAListIsTheSameInEveryForm(t *testing.T) {
	d, name := agents(t, "a")
	for form, says := range map[string]string{
		"table": "node.ping", "json": `"action": "node.ping"`, "jsonl": `{"action":"node.ping"`, "yaml": "action: node.ping",
	} {
		code, out := d.words(t, name, "action", "list", "-o", form)
		if code != 0 || !strings.Contains(out, says) {
			t.Errorf("%s: exit %d\n%s", form, code, out)
		}
		if form == "jsonl" && strings.Count(out, "\n") != strings.Count("\n"+out, "\n"+`{"action":`) {
			t.Errorf("not a row a line:\n%s", out)
		}
	}
	if code, out := d.words(t, name, "node", "list", "-o", "xml"); code != 2 || !strings.Contains(out, "jsonl") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func TestAnAgentThatIsStoppedEndsWhatItRunsAndSaysSo(t *testing.T) {
	t.Setenv("MUSTER_LOG_LEVEL", "debug") // what only reads is told no louder
	d, master := trio(t)
	stopped := other(d, master)
	answer := make(chan muster.Job, 1)
	go func() {
		a, err := d.client(master).Run(t.Context(), muster.Run{
			Action: "node.sleep", Params: muster.Params{"for": json.RawMessage(`"60s"`)}, On: muster.Selector{Nodes: &[]string{stopped}},
		})
		if err != nil {
			t.Error(err)
		}
		answer <- a
	}()
	until(t, "the action runs", func() bool {
		log, err := os.ReadFile(filepath.Join(d.dir, stopped+".log"))
		return err == nil && strings.Contains(string(log), "action started")
	})
	began := time.Now()
	cmd := d.procs[stopped]
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	delete(d.procs, stopped)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("stopping took %v", took)
	}
	if r := (<-answer).Results[stopped]; r.State != muster.StateInterrupted {
		t.Errorf("%+v", r)
	}
}

func TestADefinitionThatIsWrongStopsTheStartAndSaysWhere(t *testing.T) {
	t.Setenv("MUSTER_HOME", t.TempDir())
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bad.yaml"), []byte("action: app.x\nversion: 1.0.0\nrisc: low\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := words(t, "agent", "--actions", dir, "--data-dir", filepath.Join(t.TempDir(), "data"))
	if code != 2 || !strings.Contains(out, "bad.yaml:3") || !strings.Contains(out, "risc") {
		t.Errorf("exit %d\n%s", code, out)
	}
	code, out = words(t, "agent", "--actions", filepath.Join(dir, "none"), "--data-dir", filepath.Join(t.TempDir(), "data"))
	if code != 1 || !strings.Contains(out, "error: --actions: open ") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func TestSIGHUPReloadsTheDefinitionsAllOrNone(t *testing.T) {
	d, name := agents(t, "a")
	define := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(d.dir, "actions", file), meant([]byte(text)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.procs[name].Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	const good = "action: app.NEW\nversion: 1.0.0\ntitle: New\nrisk: read\nhandler: {kind: exec, argv: [/bin/echo]}\n"
	define("new.yaml", strings.ReplaceAll(good, "NEW", "new"))
	until(t, "the new action is there", func() bool {
		code, _ := d.words(t, name, "action", "show", "app.new")
		return code == 0
	})
	define("newer.yaml", "action: app.newer\nrisc: low\n")
	until(t, "the log says what is wrong", func() bool {
		log, err := os.ReadFile(filepath.Join(d.dir, name+".log"))
		return err == nil && strings.Contains(string(log), "not reloaded") && strings.Contains(string(log), "newer.yaml:2")
	})
	if code, out := d.words(t, name, "run", "app.new", "--all"); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
}
