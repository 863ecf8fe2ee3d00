package actions_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"muster/actions"
)

func TestAProgramStartsAllTheSameWhereTheKernelRefusesItsControlGroup(t *testing.T) {
	e := executor(t, actions.ExecutorConfig{}, script(t, `]`, `cat /proc/self/cgroup`))
	dir := t.TempDir() // no control group
	actions.CellsIn(e, dir)
	for range 2 {
		if o := outputOf(t, run(t, e, "a.script", `{}`)); strings.Contains(o.Stdout, "muster-action-") {
			t.Errorf("%s", o.Stdout)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 || actions.CellsOf(e) != "" {
		t.Errorf("left %v, %v; it goes on trying: %q", left, err, actions.CellsOf(e))
	}
}

func TestControlGroupsOfAKilledAgentAreEndedByTheNext(t *testing.T) {
	first := executor(t, actions.ExecutorConfig{}, script(t, `]`, `true`))
	base := actions.CellsOf(first)
	if !actions.Cells(first) {
		t.Skip("this process may not make control groups")
	}
	dead := exec.CommandContext(t.Context(), "/bin/true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "muster-action-"+strconv.Itoa(dead.Process.Pid)+"-1")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	left := exec.CommandContext(t.Context(), "/bin/sleep", "600")
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(left.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	if !actions.Cells(executor(t, actions.ExecutorConfig{}, script(t, `]`, `true`))) {
		t.Fatal("no control groups any more")
	}
	if err := left.Wait(); err == nil {
		t.Error("what was left ended by itself")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}
