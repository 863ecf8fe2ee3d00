//go:build unix

package actions_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster"
	"muster/actions"
)

func TestWhatOthersMayWriteIsRefused(t *testing.T) {
	for _, c := range []struct {
		above, dir, file os.FileMode
		ok               bool
	}{
		{0o755, 0o755, 0o644, true},
		{0o700, 0o700, 0o600, true},
		{0o777 | os.ModeSticky, 0o755, 0o644, true},
		{0o755, 0o775, 0o644, false},
		{0o755, 0o757, 0o644, false},
		{0o755, 0o755, 0o664, false},
		{0o755, 0o755, 0o646, false},
		{0o777, 0o755, 0o644, false},
		{0o775, 0o755, 0o644, false},
		{0o755, 0o777 | os.ModeSticky, 0o644, false},
	} {
		above := filepath.Join(t.TempDir(), "above")
		dir := filepath.Join(above, "dir")
		file := filepath.Join(dir, "a.yaml")
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(file, []byte(meant(good)), 0o600),
			os.Chmod(file, c.file), os.Chmod(dir, c.dir), os.Chmod(above, c.above)); err != nil {
			t.Fatal(err)
		}
		if _, err := actions.LoadDir(dir); (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "others may write it") {
			t.Errorf("%o %o %o: %v", c.above, c.dir, c.file, err)
		}
	}
}

func TestLinkIsJudgedByWhereItStandsAndWhereItLeads(t *testing.T) {
	dir, open := directory(t, map[string]string{"a.yaml": good}), filepath.Join(t.TempDir(), "open")
	link := filepath.Join(open, "link")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Symlink(dir, link)); err != nil {
		t.Fatal(err)
	}
	if _, err := actions.LoadDir(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil { //nolint:gosec // what is tested
		t.Fatal(err)
	}
	if _, err := actions.LoadDir(link); err == nil || !strings.Contains(err.Error(), open+": others may write it") {
		t.Errorf("a link that others can replace: %v", err)
	}
	safe := filepath.Join(directory(t, nil), "link")
	if err := errors.Join(os.Mkdir(filepath.Join(open, "x"), 0o700), os.Symlink(filepath.Join(open, "x"), safe)); err != nil {
		t.Fatal(err)
	}
	if _, err := actions.LoadDir(safe); err == nil || !strings.Contains(err.Error(), open+": others may write it") {
		t.Errorf("a link to where others can write: %v", err)
	}
}

func TestWhatAnotherUserOwnsIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, name := range []string{"a.yaml", "."} {
		dir := directory(t, map[string]string{"a.yaml": good})
		if err := os.Chown(filepath.Join(dir, name), 65534, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := actions.LoadDir(dir); err == nil || !strings.Contains(err.Error(), "another user owns it (user ID 65534)") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProgramThatOthersMayWriteIsRefusedAndNotStarted(t *testing.T) {
	path := filepath.Join(directory(t, nil), "tool")
	text := "handler: {kind: exec, argv: [" + path + "]}\n"
	e := executor(t, actions.ExecutorConfig{}, define(t, "a.tool", text)) // not there yet
	if err := errors.Join(os.WriteFile(path, []byte("#!/bin/sh\n"), 0o600), os.Chmod(path, 0o777)); err != nil {
		t.Fatal(err)
	}
	if r := run(t, e, "a.tool", `{}`); r.State != muster.StateFailed || !strings.Contains(r.Error.Message, "others may write it") {
		t.Errorf("%+v", r.Error)
	}
	_, err := parse("a.yaml", "action: a\nversion: 1.0.0\ntitle: T\nrisk: low\n"+text)
	if err == nil || !strings.Contains(err.Error(), "a.yaml:5: handler.argv.0: "+path+": others may write it") {
		t.Error(err)
	}
}
