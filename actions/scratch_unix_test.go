//go:build unix

package actions_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"muster"
	"muster/actions"
)

func TestDirectoriesOfAKilledAgentAreRemovedByTheNextAndThoseInUseAreNot(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	pids := filepath.Join(t.TempDir(), "pid")
	e := executor(t, actions.ExecutorConfig{}, script(t, `]`, `echo $$ >`+pids+`; exec sleep 600`))
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan muster.Result, 1)
	go func() { over <- e.Execute(ctx, operator(), muster.Execution{Action: "a.script", Job: "j_1"}) }()
	pidIn(t, pids)
	used, err := filepath.Glob(filepath.Join(temp, "*"))
	if err != nil || len(used) != 1 {
		t.Fatal(used, err)
	}
	left, fresh := filepath.Join(temp, "muster-work-1"), filepath.Join(temp, "muster-work-2")
	for _, dir := range []string{left, fresh} {
		if err := os.MkdirAll(filepath.Join(dir, "work"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{left, used[0]} {
		if err := os.Chtimes(dir, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	executor(t, actions.ExecutorConfig{}).EndLeft()
	for dir, there := range map[string]bool{left: false, fresh: true, used[0]: true} {
		if _, err := os.Stat(dir); (err == nil) != there {
			t.Errorf("%s: %v", dir, err)
		}
	}
	cancel()
	<-over
	if _, err := os.Stat(used[0]); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", used[0], err)
	}
}
