//go:build unix

package actions_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster"
	"muster/actions"
)

// handled is a definition of a program, and whether it is refused for what.
func handled(argv, more string) error {
	_, err := parse("d.yaml", "action: a\nversion: 1.0.0\ntitle: T\nrisk: low\nparams: {p: {type: string, required: true, allow_dash: true}}\n"+
		"handler: {kind: exec, argv: "+argv+more+"}\n")
	return err
}

func TestTheScriptOfAnInterpreterIsJudgedLikeAProgram(t *testing.T) {
	dir := directory(t, map[string]string{"open": "", "closed": ""})
	open, closed := filepath.Join(dir, "open"), filepath.Join(dir, "closed")
	if err := os.Chmod(open, 0o666); err != nil { //nolint:gosec // what is tested
		t.Fatal(err)
	}
	for _, c := range []struct {
		argv string // OPEN: what others may write, CLOSED: what they may not
		at   int    // of what is refused; 0: nothing
	}{
		{"[/bin/sh, OPEN]", 1},
		{"[/bin/bash, -e, OPEN]", 2},
		{"[/bin/bash, -eo, pipefail, OPEN]", 3},
		{"[/bin/bash, +x, --, OPEN]", 3},
		{"[/bin/bash, --rcfile, OPEN, -i]", 2},
		{"[/bin/ksh93, OPEN]", 1},
		{"[/usr/bin/python3, -u, OPEN, '${p}']", 2},
		{"[/usr/bin/python3.11, -W, ignore, OPEN]", 3},
		{"[/usr/bin/perl5.36.0, -w, -I/srv/lib, OPEN]", 3},
		{"[/usr/bin/ruby3.1, -r, json, OPEN]", 3},
		{"[/usr/bin/nodejs, --require, OPEN, CLOSED]", 2},
		{"[/usr/bin/node, --require=OPEN, CLOSED]", 1},
		{"[/usr/bin/php8.2, -d, memory_limit=1G, OPEN]", 3},
		{"[/usr/bin/php, -f, OPEN]", 2},
		{"[/usr/bin/php, -fOPEN]", 1},
		{"[/usr/bin/lua5.4, -e, 'x = 1', OPEN]", 3},
		{"[/usr/bin/env, python3, OPEN]", 2},
		{"[/usr/bin/env, -C, /tmp, A=/bin/sh, OPEN]", 4},
		{"[/usr/bin/env, /usr/bin/timeout, '5', /bin/sh, OPEN]", 4},
		{"[/bin/busybox, ash, OPEN]", 2},
		{"[/bin/sh, CLOSED, OPEN]", 0},
		{"[/usr/bin/python3, CLOSED, -u, OPEN]", 0},
		{"[/bin/sh, -c, 'cat \"$1\"', sh, OPEN]", 0},
		{"[/usr/bin/python3, -m, json.tool, OPEN]", 0},
		{"[/usr/bin/php, -f, CLOSED, OPEN]", 0},
		{"[/usr/bin/env, cat, CLOSED]", 0},
		{"[/usr/bin/cat, OPEN]", 0},
		{"[/usr/bin/env]", 0},
		{"[/bin/sh, /srv/not/there/yet]", 0},
	} {
		err := handled(strings.NewReplacer("CLOSED", closed, "OPEN", open).Replace(c.argv), "")
		want := fmt.Sprintf("d.yaml:6: handler.argv.%d: %s: others may write it", c.at, open)
		if c.at == 0 && err != nil || c.at > 0 && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %s", c.argv, err, want)
		}
	}
	if err := handled("[/bin/sh, open]", ", cwd: "+dir); err == nil || !strings.Contains(err.Error(), "handler.argv.1: "+open) {
		t.Errorf("a script in the working directory: %v", err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // what is tested
		t.Fatal(err)
	}
	if err := handled("[/bin/sh, "+closed+"]", ""); err == nil || !strings.Contains(err.Error(), "handler.argv.1: "+dir+": others may write it") {
		t.Errorf("a script in a directory that others may write: %v", err)
	}
}

func TestAScriptIsJudgedAgainBeforeItIsStarted(t *testing.T) {
	path := filepath.Join(directory(t, nil), "script")
	e := executor(t, actions.ExecutorConfig{},
		define(t, "a.fixed", "handler: {kind: exec, argv: [/bin/sh, -e, "+path+"]}\n"),
		define(t, "a.named", "params: {p: {type: string, required: true}}\nhandler: {kind: exec, argv: [/bin/sh, '${p}']}\n"))
	if err := errors.Join(os.WriteFile(path, []byte("echo it ran\n"), 0o600), os.Chmod(path, 0o666)); err != nil { //nolint:gosec // what is tested
		t.Fatal(err)
	}
	for action, params := range map[string]string{"a.fixed": `{}`, "a.named": `{"p": "` + path + `"}`} {
		if r := run(t, e, action, params); r.State != muster.StateFailed || r.Error.Code != "start" || !strings.Contains(r.Error.Message, path+": others may write it") {
			t.Errorf("%s: %s %+v", action, r.State, r.Error)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for action, params := range map[string]string{"a.fixed": `{}`, "a.named": `{"p": "` + path + `"}`} {
		if r := run(t, e, action, params); r.State != muster.StateOK || !strings.Contains(string(r.Result), "it ran") {
			t.Errorf("%s: %s %+v", action, r.State, r.Error)
		}
	}
}

func TestParameterIsNeverTheTextThatAnInterpreterRuns(t *testing.T) {
	for argv, ok := range map[string]bool{
		"[/usr/bin/python3, -uc, '${p}']": false, "[/usr/bin/perl, -lane, '${p}']": false, "[/usr/bin/node, --eval, '${p}']": false, "[/usr/bin/node, '--print=${p}']": false,
		"[/usr/bin/php, -r, '${p}']": false, "[/usr/bin/lua5.4, -e, '${p}', /srv/x]": false, "[/usr/bin/env, -i, ruby, -e, '${p}']": false,
		"[/usr/bin/python3, -c, 'print(1)', '${p}']": true, "[/usr/bin/python3, /srv/x, -c, '${p}']": true, "[/usr/bin/ruby, -I, '${p}', /srv/x]": true,
	} {
		if err := handled(argv, ""); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "must not be the text that an interpreter runs") {
			t.Errorf("%s: %v", argv, err)
		}
	}
}
