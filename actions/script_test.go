//go:build unix

package actions_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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
		{"[/usr/bin/timeout, '5', OPEN]", 2},
		{"[/usr/bin/timeout, -k, '1', --signal, TERM, '5', /bin/sh, OPEN]", 7},
		{"[/usr/bin/nice, -n, '5', OPEN]", 3},
		{"[/usr/bin/env, -u, HOME, --, A=OPEN, python3, OPEN]", 6},
		{"[/usr/bin/ionice, -c3, nohup, setsid, -w, stdbuf, -oL, bash, OPEN]", 8},
		{"[/usr/bin/perl, '-MFile::Copy', -I, /srv/none, OPEN]", 4},
		{"[/usr/bin/node, --title, x, OPEN]", 3},
		{"[/usr/bin/node, -r, OPEN, CLOSED]", 2},
		{"[/usr/bin/ruby, '-W:no-experimental', OPEN]", 2},
		{"[/usr/bin/perl, '-d:DevelTrace', OPEN]", 2},
		{"[/bin/sh, -c, OPEN]", 2},
		{"[/usr/bin/env, cat, OPEN]", 0},
		{"[/usr/bin/env, LC_ALL=C, sort, -o, OPEN, CLOSED]", 0},
		{"[/usr/bin/env, LC_ALL=C, cat, /dev/null]", 0},
		{"[/usr/bin/timeout, '5', cat, OPEN]", 0},
		{"[/usr/bin/timeout, '5', cat, /bin/sh, OPEN]", 0},
		{"[/usr/bin/nice, touch, OPEN]", 0},
		{"[/usr/bin/perl, -I, /srv/none, CLOSED]", 0},
		{"[/usr/bin/perl, -ne, print, OPEN]", 0},
		{"[/usr/bin/perl, -pi, -e, 's/a/b/', OPEN]", 0},
		{"[/usr/bin/php, --file, CLOSED, OPEN]", 0},
		{"[/usr/bin/node, --no-warnings, CLOSED, OPEN]", 0},
		{"[/usr/bin/node, --title=x, CLOSED, OPEN]", 0},
		{"[/usr/bin/node, --title, --, CLOSED, OPEN]", 0},
		{"[/bin/bash, /dev/null]", 0},
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

func TestWhatIsNotThereIsForTheProgramToTell(t *testing.T) {
	dir := directory(t, nil)
	made := filepath.Join(dir, "new")
	e := executor(t, actions.ExecutorConfig{},
		define(t, "a.touch", "handler: {kind: exec, argv: [/usr/bin/nice, touch, "+made+"]}\n"),
		define(t, "a.sort", "handler: {kind: exec, argv: [/usr/bin/env, LC_ALL=C, sort, -o, "+made+", /dev/null]}\n"),
		define(t, "a.script", "handler: {kind: exec, argv: [/bin/sh, "+filepath.Join(dir, "none")+"]}\n"))
	for _, action := range []string{"a.touch", "a.sort"} {
		if r := run(t, e, action, `{}`); r.State != muster.StateOK {
			t.Errorf("%s: %s %+v", action, r.State, r.Error)
		}
		if err := os.Remove(made); err != nil {
			t.Error(err)
		}
	}
	if r := run(t, e, "a.script", `{}`); r.State != muster.StateFailed || r.Error.Code == "start" {
		t.Errorf("%s %+v", r.State, r.Error)
	}
}

func TestParameterIsNeverTheTextThatAnInterpreterRuns(t *testing.T) {
	const may, mayNot, bare = 0, 1, 2 // bare: if its value cannot begin with -
	for argv, when := range map[string]int{
		"[/usr/bin/python3, -uc, '${p}']": mayNot, "[/usr/bin/python3, -m, '${p}']": mayNot, "[/usr/bin/node, --eval, '${p}']": mayNot, "[/usr/bin/node, '--print=${p}']": mayNot,
		"[/usr/bin/node, -pe, '${p}']": mayNot, "[/usr/bin/node, -p, -e, '${p}']": mayNot, "[/usr/bin/node, -p, --, '${p}']": mayNot, "[/usr/bin/node, --title, x, -e, '${p}']": mayNot,
		"[/usr/bin/node, -e, x, --import, '${p}']": mayNot, "[/usr/bin/node, '--import=${p}', /srv/x]": mayNot, "[/usr/bin/node, --import, /srv/x, -e, '${p}']": mayNot,
		"[/usr/bin/perl, -lane, '${p}']": mayNot, "[/usr/bin/perl, -de, '${p}']": mayNot, "[/usr/bin/perl, -e, x, -e, '${p}']": mayNot, "[/usr/bin/perl, -I, --, -e, '${p}']": mayNot,
		"[/usr/bin/ruby, -e, x, -e, '${p}']": mayNot, "[/usr/bin/ruby, -W0e, '${p}']": mayNot, "[/usr/bin/ruby, -0777ne, '${p}']": mayNot, "[/usr/bin/ruby, -I, '${p}', /srv/x]": mayNot,
		"[/usr/bin/php, -r, '${p}']": mayNot, "[/usr/bin/php, -B, x, -R, '${p}']": mayNot, "[/usr/bin/php, --process-code, '${p}']": mayNot, "[/usr/bin/php, -F, /srv/x, -B, '${p}']": mayNot,
		"[/usr/bin/php, -d, 'auto_prepend_file=${p}', /srv/x]": mayNot, "[/usr/bin/lua5.4, -e, '${p}', /srv/x]": mayNot, "[/usr/bin/lua5.4, -e, x, -e, '${p}']": mayNot,
		"[/usr/bin/env, -i, ruby, -e, '${p}']": mayNot, "[/usr/bin/env, -S, 'python3 -c', '${p}']": mayNot, "[/usr/bin/env, '--split-string=python3 -c', '${p}']": mayNot,
		"[/usr/bin/env, -vS, 'python3 -c', x, '${p}']": mayNot, "[/usr/bin/env, '${p}']": mayNot, "[/usr/bin/timeout, --sig, TERM, '5', python3, -c, '${p}']": mayNot,
		"[/usr/bin/perl, '-eprint', '${p}']": mayNot, "[/usr/bin/node, '--eval=x', '${p}']": mayNot,
		"[/usr/bin/python3, '${p}']": bare, "[/usr/bin/perl, -w, '${p}']": bare, "[/usr/bin/perl, -e, x, '${p}']": bare, "[/usr/bin/node, -e, x, '${p}']": bare,
		"[/usr/bin/env, --, perl, '${p}']": bare, "[/usr/bin/timeout, '${p}', cat]": bare,
		"[/usr/bin/python3, -c, 'print(1)', '${p}']": may, "[/usr/bin/python3, -m, json.tool, '${p}']": may, "[/usr/bin/python3, -mjson.tool, '${p}']": may, "[/usr/bin/python3, /srv/x, -c, '${p}']": may,
		"[/usr/bin/python3, -W, ignore, /srv/x, '${p}']": may, "[/usr/bin/perl, -e, x, --, '${p}']": may, "[/usr/bin/perl, -e, x, y, '${p}']": may, "[/usr/bin/node, -e, x, --, '${p}']": may,
		"[/usr/bin/node, /srv/x, -p, '${p}']": may, "[/usr/bin/node, --title, x, /srv/x, '${p}']": may, "[/usr/bin/php, -r, x, --, '${p}']": may, "[/usr/bin/lua5.4, -e, x, /srv/x, '${p}']": may,
		"[/usr/bin/node, --trace-gc, --, /srv/x, --port, '${p}']": may, "[/usr/bin/node, --trace-gc, /srv/x, --port, '${p}']": mayNot,
		"[/usr/bin/env, 'LC_ALL=${p}', sort, '${p}']": may, "[/usr/bin/nice, -n, '${p}', cat, '${p}']": may,
	} {
		for dash, more := range map[string]bool{"": true, ", allow_dash: true": false} {
			_, err := parse("d.yaml", "action: a\nversion: 1.0.0\ntitle: T\nrisk: low\nparams: {p: {type: string, required: true"+dash+"}}\n"+
				"handler: {kind: exec, argv: "+argv+"}\n")
			ok := when == may || when == bare && more && !strings.Contains(argv, "env, --,")
			if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "must not be the text that an interpreter runs") {
				t.Errorf("%s%s: %v", argv, dash, err)
			}
		}
	}
}

func TestAnInterpreterIsNotFedWithParametersAsItsScript(t *testing.T) {
	for argv, ok := range map[string]bool{
		"[/bin/sh]": false, "[/bin/sh, -s, x]": false, "[/usr/bin/env, python3, -u]": false, "[/usr/bin/python3, '-', x]": false, "[/usr/bin/perl, --]": false, "[/usr/bin/perl, -eprint]": false,
		"[/bin/sh, /srv/x]": true, "[/bin/sh, -c, cat]": true, "[/usr/bin/python3, -m, json.tool]": true, "[/usr/bin/perl, -pe, x]": true, "[/usr/bin/env, cat]": true,
	} {
		err := handled(argv, ", stdin: params")
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "handler.stdin: an interpreter without a script runs what it reads") {
			t.Errorf("%s: %v", argv, err)
		}
	}
}

func TestProgramAndScriptMayBeOfTheUserTheyRunAs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	u := somebody(t)
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	dir := directory(t, map[string]string{"artisan": "#!/bin/sh\necho it ran\n"})
	path := filepath.Join(dir, "artisan")
	for at := dir; at != os.TempDir() && at != "/"; at = filepath.Dir(at) { // for the user to pass
		if err := os.Chmod(at, 0o755); err != nil { //nolint:gosec // as above
			t.Fatal(err)
		}
	}
	for _, argv := range []string{"[/bin/sh, artisan]", "[" + path + "]"} {
		rest := func(as string) string {
			return "handler: {kind: exec, argv: " + argv + ", cwd: " + dir + ", run_as: " + as + "}\n"
		}
		if err := errors.Join(os.Chown(dir, uid, 0), os.Chown(path, uid, 0), os.Chmod(path, 0o755)); err != nil { //nolint:gosec // to be run
			t.Fatal(err)
		}
		e := executor(t, actions.ExecutorConfig{}, define(t, "a.owned", rest(u.Username)))
		if r := run(t, e, "a.owned", `{}`); r.State != muster.StateOK || !strings.Contains(string(r.Result), "it ran") {
			t.Errorf("%s: %s %+v", argv, r.State, r.Error)
		}
		head := "action: a\nversion: 1.0.0\ntitle: T\nrisk: low\n"
		if _, err := parse("d.yaml", head+rest("root")); err == nil || !strings.Contains(err.Error(), "another user owns it (user ID "+u.Uid+")") {
			t.Errorf("%s as root: %v", argv, err)
		}
		if err := os.Chmod(path, 0o775); err != nil { //nolint:gosec // what is tested
			t.Fatal(err)
		}
		if _, err := parse("d.yaml", head+rest(u.Username)); err == nil || !strings.Contains(err.Error(), "others may write it") {
			t.Errorf("%s: %v", argv, err)
		}
		if r := run(t, e, "a.owned", `{}`); r.State != muster.StateFailed || r.Error.Code != "start" {
			t.Errorf("%s: %s %+v", argv, r.State, r.Error)
		}
	}
}
