//go:build unix

package actions_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster"
	"muster/actions"
)

// script defines an action that is a shell script: the shell is the program
// that is started, as any other would be.
func script(t *testing.T, rest, text string) actions.Definition {
	t.Helper()
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	handler, more, _ := strings.Cut(rest, "|")
	return define(t, "a.script", "handler: {kind: exec, argv: [/bin/sh, -c, "+string(quoted)+", sh"+handler+"}\n"+strings.TrimLeft(more, " ")+"\n")
}

type output struct {
	Stdout    string `json:"stdout"`
	Stderr    string `json:"stderr"`
	Truncated bool   `json:"truncated"`
	Binary    bool   `json:"binary"`
	Leaked    int    `json:"leaked_children"`
}

func outputOf(t *testing.T, r muster.Result) (o output) {
	t.Helper()
	if !r.Success {
		t.Fatalf("%s %+v", r.State, r.Error)
	}
	if err := json.Unmarshal(r.Result, &o); err != nil {
		t.Fatalf("%s: %v", r.Result, err)
	}
	return o
}

func TestProgramGetsItsArgumentsAsTheyAre(t *testing.T) {
	d := script(t, `, "--x=${x}", "${y}", "--z=${z}"]|params: {x: {type: string, required: true}, y: {type: int, default: 9007199254740993}, z: {type: bool}}`,
		`for a in "$@"; do echo "<$a>"; done`)
	e := executor(t, actions.ExecutorConfig{}, d)
	hostile := `a b;$(id)'"*${y}|&`
	text, _ := json.Marshal(hostile)
	o := outputOf(t, run(t, e, "a.script", `{"x":`+string(text)+`}`))
	if want := "<--x=" + hostile + ">\n<9007199254740993>\n"; o.Stdout != want {
		t.Fatalf("got %q, want %q", o.Stdout, want)
	}
}

func TestProgramReadsParametersFromStandardInput(t *testing.T) {
	d := script(t, `], stdin: params|params: {l: {type: list}, s: {type: string, default: "x"}, n: {type: float}}`, `cat`)
	e := executor(t, actions.ExecutorConfig{}, d)
	if o := outputOf(t, run(t, e, "a.script", `{"l":[1,{"a":null}],"n":1.50}`)); o.Stdout != `{"l":[1,{"a":null}],"n":1.50,"s":"x"}`+"\n" {
		t.Fatalf("%q", o.Stdout)
	}
	closed := executor(t, actions.ExecutorConfig{}, script(t, `]`, `cat; echo end`))
	if o := outputOf(t, run(t, closed, "a.script", `{}`)); o.Stdout != "end\n" {
		t.Fatalf("%q", o.Stdout)
	}
}

func TestProgramThatDoesNotReadItsInputIsNotWaitedForIt(t *testing.T) {
	d := script(t, `], stdin: params|params: {s: {type: string, max: 65536}}`, `exec 0<&-; echo done`)
	e := executor(t, actions.ExecutorConfig{}, d)
	big, _ := json.Marshal(strings.Repeat("é", 60000))
	if o := outputOf(t, run(t, e, "a.script", `{"s":`+string(big)+`}`)); o.Stdout != "done\n" {
		t.Fatalf("%+v", o)
	}
}

func TestEnvironmentIsCleanAndTheDirectoryItsOwn(t *testing.T) {
	t.Setenv("CANARY", "inherited")
	e := executor(t, actions.ExecutorConfig{}, script(t, `]`, `env; pwd; ls -A; touch left`))
	o := outputOf(t, run(t, e, "a.script", `{}`))
	var names []string
	var dir string
	for line := range strings.Lines(o.Stdout) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !slices.Contains([]string{"PWD", "SHLVL", "_", "OLDPWD"}, name) { // the shell's own
			names = append(names, name)
		}
		if name == "TMPDIR" {
			dir = value
		}
	}
	slices.Sort(names)
	want := []string{"HOME", "LANG", "MUSTER_ACTION", "MUSTER_JOB", "MUSTER_KEY", "MUSTER_NODE", "MUSTER_RESULT", "PATH", "TMPDIR"}
	if !slices.Equal(names, want) || !strings.Contains(o.Stdout, "MUSTER_ACTION=a.script\n") || !strings.Contains(o.Stdout, "MUSTER_JOB=j_1\n") ||
		!strings.Contains(o.Stdout, "MUSTER_NODE=n-self\n") || !strings.Contains(o.Stdout, "MUSTER_KEY=j_1.n-self\n") {
		t.Fatalf("%v\n%s", names, o.Stdout)
	}
	if !strings.Contains(o.Stdout, "\n"+dir+"\n") {
		t.Errorf("it ran elsewhere than in %s:\n%s", dir, o.Stdout)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there", dir)
	}
	elsewhere := executor(t, actions.ExecutorConfig{}, script(t, `], cwd: /`, `pwd`))
	if o := outputOf(t, run(t, elsewhere, "a.script", `{}`)); o.Stdout != "/\n" {
		t.Errorf("%q", o.Stdout)
	}
}

func TestExitCodesAndSignalsAreFailures(t *testing.T) {
	for text, want := range map[string]muster.ActionError{
		"echo out; exit 3":               {Code: "exit", Message: "it ended with exit code 3", ExitCode: new(3), Output: "out\n"},
		"echo out; echo err >&2; exit 1": {Code: "exit", Message: "it ended with exit code 1", ExitCode: new(1), Output: "err\n"},
		"kill -9 $$":                     {Code: "signal", Message: "it was ended by signal: killed", Signal: "killed"},
	} {
		r := run(t, executor(t, actions.ExecutorConfig{}, script(t, `]`, text)), "a.script", `{}`)
		got, _ := json.Marshal(r.Error)
		wanted, _ := json.Marshal(want)
		if r.State != muster.StateFailed || string(got) != string(wanted) {
			t.Errorf("%s: %s %s", text, r.State, got)
		}
	}
	none := define(t, "a.none", "handler: {kind: exec, argv: [/no/such/program]}\n")
	folder := define(t, "a.folder", "handler: {kind: exec, argv: [/bin]}\n")
	e := executor(t, actions.ExecutorConfig{}, none, folder)
	for _, name := range []string{"a.none", "a.folder"} {
		if r := run(t, e, name, `{}`); r.State != muster.StateFailed || r.Error.Code != "start" {
			t.Errorf("%+v", r)
		}
	}
}

func TestResultIsReadFromWhereItIsDeclared(t *testing.T) {
	file := `]|result: {n: {type: int}}`
	for _, c := range []struct{ rest, text, state, result string }{
		{file, `echo log; echo '{"n": 9007199254740993, "more": 1}' >"$MUSTER_RESULT"`, "ok", `{"n": 9007199254740993, "more": 1}`},
		{`], stdout: json|result: {n: {type: int}}`, `echo '{"n": 1}'; echo log >&2`, "ok", `{"n": 1}`},
		{`], stdout: json`, `echo '[1]'`, "ok", `[1]`},
		{`], stdout: json`, `echo '{"n": 1'`, "bad_result", ""},
		{`], stdout: json`, `echo '{"n": 1, "n": 2}'`, "bad_result", ""},
		{`], stdout: json`, `true`, "bad_result", ""},
		{`], stdout: json|result: {n: {type: int}}`, `echo '{"n": "1"}'`, "bad_result", ""},
		{`], stdout: json|result: {n: {type: enum}}`, `echo '{"m": "1"}'`, "bad_result", ""},
		{`], stdout: json|result: {n: {type: int}}`, `echo '[1]'`, "bad_result", ""},
		{`], stdout: json|limits: {output: 1KiB}`, `printf '%02000d' 1`, "result_too_large", ""},
		{file, `printf '%0300000d' 1 >"$MUSTER_RESULT"`, "bad_result", ""},
		{file, `ln -s /etc/passwd "$MUSTER_RESULT"`, "bad_result", ""},
		{file, `mkfifo "$MUSTER_RESULT"`, "bad_result", ""},
	} {
		r := run(t, executor(t, actions.ExecutorConfig{}, script(t, c.rest, c.text)), "a.script", `{}`)
		if r.Error != nil && r.Error.Code != c.state || r.Error == nil && c.state != "ok" || string(r.Result) != c.result {
			t.Errorf("%s: %s %s %+v", c.text, r.State, r.Result, r.Error)
		}
	}
}

func TestFieldThatAResultLacksIsNamed(t *testing.T) {
	e := executor(t, actions.ExecutorConfig{}, script(t, `], stdout: json|result: {n: {type: int}}`, `echo '{"m": 1}'`))
	if r := run(t, e, "a.script", `{}`); r.Error == nil || r.Error.Message != "its result has no field n" {
		t.Fatalf("%+v", r.Error)
	}
}

func TestDryRunRunsItsOwnProgram(t *testing.T) {
	d := define(t, "a.checked", `handler: {kind: exec, argv: [/bin/sh, -c, 'echo really']}
check: {kind: exec, argv: [/bin/sh, -c, 'echo only $MUSTER_CHECK']}
result: {n: {type: int}}
`)
	e := executor(t, actions.ExecutorConfig{}, d)
	r := e.Execute(t.Context(), operator(), muster.Execution{Action: "a.checked", Check: true})
	if o := outputOf(t, r); o.Stdout != "only 1\n" {
		t.Fatalf("%+v", o)
	}
}

// TestFloodOfOutputIsDrainedAndCut prints 10 MiB.
func TestFloodOfOutputIsDrainedAndCut(t *testing.T) {
	flood := `i=0; while [ $i -lt 160 ]; do printf '%065536d' 7; i=$((i+1)); done; echo; echo the end`
	e := executor(t, actions.ExecutorConfig{}, script(t, `]|limits: {output: 8KiB}`, flood))
	r := run(t, e, "a.script", `{}`)
	o := outputOf(t, r)
	if !o.Truncated || len(r.Result) > 8<<10 || len(o.Stdout) < 4<<10 {
		t.Fatalf("%d bytes, truncated %v", len(r.Result), o.Truncated)
	}
	e = executor(t, actions.ExecutorConfig{}, script(t, `]|limits: {output: 8KiB}`, flood+`; exit 1`))
	if r := run(t, e, "a.script", `{}`); !strings.HasSuffix(r.Error.Output, "\nthe end\n") || len(r.Error.Output) != 4<<10 {
		t.Fatalf("%d bytes", len(r.Error.Output))
	}
}

func TestBinaryOutputBecomesText(t *testing.T) {
	e := executor(t, actions.ExecutorConfig{}, script(t, `]|limits: {output: 1KiB}`, `printf '\377\376\001%0900d' 1; printf '%0900d' 2 >&2`))
	r := run(t, e, "a.script", `{}`)
	if o := outputOf(t, r); !o.Truncated || !o.Binary || len(r.Result) > 1<<10 || !strings.HasPrefix(o.Stdout, "\ufffd\x01") || o.Stderr == "" {
		t.Fatalf("%s", r.Result)
	}
	text := executor(t, actions.ExecutorConfig{}, script(t, `]|limits: {output: 1KiB}`, `printf 'x%02000d' 1 | sed 's/0/é/g'`)) // the cut goes through a letter
	if o := outputOf(t, run(t, text, "a.script", `{}`)); !o.Truncated || o.Binary {
		t.Fatalf("%+v", o)
	}
}

// pidIn waits until a file holds a process ID.
func pidIn(t *testing.T, path string) int {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); pause(t, 5*time.Millisecond) {
		text, _ := os.ReadFile(path)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && strings.HasSuffix(string(text), "\n") {
			return pid
		}
	}
	t.Fatalf("no process ID in %s", path)
	return 0
}

func pause(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}

// gone waits until no process has the ID, or only a zombie that its new parent
// has not noticed yet.
func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); pause(t, 5*time.Millisecond) {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err == nil && strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Errorf("process %d is still there", pid)
}

func TestGrandchildrenDieAtTheLimit(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pid")
	for name, text := range map[string]string{
		"child obeys":    `sleep 600 & echo $! >` + pids + `; wait`,
		"child is deaf":  `trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo $! >` + pids + `; while :; do sleep 1; done`,
		"parent is gone": `(trap '' TERM; while :; do sleep 1; done) & echo $! >` + pids + `; trap 'exit 0' TERM; while :; do sleep 0.1; done`,
	} {
		_ = os.Remove(pids)
		e := executor(t, actions.ExecutorConfig{}, script(t, `]|limits: {timeout: 300ms, kill_after: 200ms}`, text))
		r := run(t, e, "a.script", `{}`)
		if r.State != muster.StateTimeout || r.Error.Code != "timeout" || r.Success {
			t.Errorf("%s: %s %+v", name, r.State, r.Error)
		}
		gone(t, pidIn(t, pids))
	}
}

func TestWhatAProgramLeavesBehindIsKilled(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pid")
	e := executor(t, actions.ExecutorConfig{}, script(t, `]`, `sleep 600 & echo $! >`+pids+`; echo done`))
	if o := outputOf(t, run(t, e, "a.script", `{}`)); o.Stdout != "done\n" || o.Leaked != 0 {
		t.Errorf("%+v", o)
	}
	gone(t, pidIn(t, pids))
}

// leaver is the text of a shell that starts a process outside of its group.
func leaver(t *testing.T, pids, text string) string {
	t.Helper()
	if _, err := os.Stat("/usr/bin/setsid"); err != nil {
		t.Skip("this machine has no setsid: ", err)
	}
	return `/usr/bin/setsid ` + text + ` sh -c 'echo $$ >` + pids + `; exec sleep 600' & while [ ! -s ` + pids + ` ]; do sleep 0.01; done; `
}

func TestProcessThatLeftTheGroupIsToldInEveryOutcome(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells which processes left their group")
	}
	pids := filepath.Join(t.TempDir(), "pid")
	for _, c := range []struct {
		name, rest, text string
		state            muster.State
	}{
		{"text", `]`, ``, muster.StateOK},
		{"silent", `]`, `exec >/dev/null 2>&1; `, muster.StateOK},
		{"json", `], stdout: json`, `echo 1; exec >/dev/null 2>&1; `, muster.StateOK},
		{"file", `]`, `echo 1 >$MUSTER_RESULT; `, muster.StateOK},
		{"bad result", `]`, `echo { >$MUSTER_RESULT; `, muster.StateFailed},
		{"too large", `]|limits: {output: 1KiB}`, `printf '{"x":"%01020d"}' 1 >$MUSTER_RESULT; `, muster.StateFailed},
		{"exit", `]`, `trap 'exit 3' EXIT; `, muster.StateFailed},
		{"limit", `]|limits: {timeout: 1s}`, `trap 'sleep 600 & wait' EXIT; `, muster.StateTimeout},
	} {
		_ = os.Remove(pids)
		e := executor(t, actions.ExecutorConfig{}, script(t, c.rest, c.text+leaver(t, pids, "")+"true"))
		r := run(t, e, "a.script", `{}`)
		if r.State != c.state || r.Leaked != 1 || r.Error != nil && r.Error.Leaked != 1 {
			t.Errorf("%s: %+v %+v", c.name, r, r.Error)
		}
		gone(t, pidIn(t, pids))
	}
}

// TestProcessThatHidDoesNotHoldTheAnswer has one that cleared its environment.
func TestProcessThatHidDoesNotHoldTheAnswer(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pid")
	e := executor(t, actions.ExecutorConfig{}, script(t, `]`, leaver(t, pids, "env -i")))
	r := run(t, e, "a.script", `{}`)
	if pid := pidIn(t, pids); actions.Cells(e) {
		gone(t, pid)
	} else if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if o := outputOf(t, r); o.Leaked != 1 || r.Leaked != 1 {
		t.Fatalf("%+v", o)
	}
}

func TestProcessThatHidIsKilledWhereControlGroupsAreAllowedAndToldElsewhere(t *testing.T) {
	for _, text := range []string{"env -i", "env -i /usr/bin/setsid env -i"} {
		pids := filepath.Join(t.TempDir(), "pid")
		e := executor(t, actions.ExecutorConfig{}, script(t, `]`, `exec >/dev/null 2>&1; `+leaver(t, pids, text)))
		r := run(t, e, "a.script", `{}`)
		pid := pidIn(t, pids)
		if !actions.Cells(e) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Skip("this process may not make control groups")
		}
		gone(t, pid)
		if !r.Success || r.Leaked != 1 {
			t.Errorf("%s: %+v", text, r)
		}
	}
}

func TestChildThatHoldsTheInputDoesNotDelayTheAnswer(t *testing.T) {
	big, _ := json.Marshal(strings.Repeat("x", 65536))
	for _, text := range []string{`exec 3<&0; sleep 600 <&3 & echo done`, `cat >/dev/null; echo done`} {
		d := script(t, `], stdin: params|params: {a: {type: string, max: 65536}, b: {type: string, max: 65536}, c: {type: string, max: 65536}}`, text)
		e := executor(t, actions.ExecutorConfig{}, d)
		r := run(t, e, "a.script", `{"a":`+string(big)+`,"b":`+string(big)+`,"c":`+string(big)+`}`)
		if o := outputOf(t, r); o.Stdout != "done\n" || r.DurationMs > 4000 { // kill_after is 5 s
			t.Errorf("%d ms, %+v", r.DurationMs, o)
		}
	}
}

// TestProgramDiesWithANodeThatIsKilled has a process of its own as the node.
func TestProgramDiesWithANodeThatIsKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends a program with its agent (PR_SET_PDEATHSIG)")
	}
	pids := filepath.Join(t.TempDir(), "pid")
	node := exec.CommandContext(t.Context(), os.Args[0])
	node.Env = append(os.Environ(), nodeEnv+"="+pids)
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	pid := pidIn(t, pids)
	pause(t, 200*time.Millisecond) // idle threads of the node may end, and must not take it along
	if err := syscall.Kill(pid, 0); err != nil {
		t.Error(err)
	}
	if err := node.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = node.Wait()
	gone(t, pid)
}

func TestStopKillsProgramsAndWaits(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pid")
	e := executor(t, actions.ExecutorConfig{}, script(t, `]`, `echo $$ >`+pids+`; exec sleep 600`))
	results := make(chan muster.Result, 1)
	go func() { results <- run(t, e, "a.script", `{}`) }()
	pid := pidIn(t, pids)
	if err := e.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	if r := <-results; r.State != muster.StateInterrupted {
		t.Fatalf("%+v", r)
	}
}

func TestStopDoesNotWaitForAProgramThatIgnoresIt(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pid")
	e := executor(t, actions.ExecutorConfig{}, script(t, `]`, `trap "" TERM; echo $$ >`+pids+`; while :; do sleep 600; done`))
	results := make(chan muster.Result, 1)
	go func() { results <- run(t, e, "a.script", `{}`) }()
	pid := pidIn(t, pids)
	began := time.Now()
	if err := e.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	if took := time.Since(began); took > 4*time.Second { // kill_after is 5 s
		t.Errorf("stopping took %v", took)
	}
	if r := <-results; r.State != muster.StateInterrupted {
		t.Errorf("%+v", r)
	}
}

func TestSecretsAreInNothingThatIsSaid(t *testing.T) {
	const canary = `c"anary\é<1>`
	quoted, _ := json.Marshal(canary)
	params := `params: {token: {type: string, secret: true}, pin: {type: string, secret: true}}`
	// The program tells everything it was told, in every way.
	for rest, text := range map[string]string{
		`], stdin: params|` + params:               `tee /dev/stderr`,
		`], stdin: params, stdout: json|` + params: `cat`,
		`], stdin: params| ` + params:              `cat >"$MUSTER_RESULT"`,
		`], stdin: params|  ` + params:             `cat; exit 1`,
	} {
		r := run(t, executor(t, actions.ExecutorConfig{}, script(t, rest, text)), "a.script", `{"token":`+string(quoted)+`,"pin":"1234567"}`)
		hides(t, r)
	}
}

// hides checks that the secrets of the tests are not told, but were there.
func hides(t *testing.T, r muster.Result) {
	t.Helper()
	told, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(told), "anary") || strings.Contains(string(told), "1234567") {
		t.Errorf("told: %s", told)
	}
	if !strings.Contains(string(told), "[redacted]") {
		t.Errorf("nothing was hidden: %s", told)
	}
}

func TestASecretFieldOfAResultIsToldToNobody(t *testing.T) {
	for rest, text := range map[string]string{
		`], stdout: json|result: {token: {type: string, secret: true}, n: {type: int}}`: `echo '{"token":"canary-9","n":1,"again":"is canary-9"}'`,
		`], stdout: json|result: {token: {type: int, secret: true}}`:                    `echo '{"token":1234567,"text":"1234567"}'`,
	} {
		r := run(t, executor(t, actions.ExecutorConfig{}, script(t, rest, text)), "a.script", `{}`)
		if !r.Success {
			t.Errorf("%+v", r.Error)
		}
		hides(t, r)
	}
}

func TestAProgramWithASecretResultTellsNothingElseItPrinted(t *testing.T) {
	const declared = `|result: {token: {type: string, secret: true}, n: {type: int}}`
	for _, c := range []struct{ handler, text string }{
		{`], stdout: json`, `echo '{"token":"canary-9","n":1}'; exit 1`},
		{`], stdout: json`, `echo '{"token":"canary-9"}'`},
		{`]`, `echo canary-9; echo canary-9 >&2`},
		{`], stdout: json`, `echo '["canary-9"]'`},
	} {
		e := executor(t, actions.ExecutorConfig{}, script(t, c.handler+declared+"\ncheck: {kind: exec, argv: [/bin/echo, '[\"canary-9\"]'], stdout: json}", c.text))
		for _, check := range []bool{false, true} {
			r := e.Execute(t.Context(), operator(), muster.Execution{Action: "a.script", Job: "j_1", Check: check})
			told, err := json.Marshal(r)
			if err != nil || strings.Contains(string(told), "canary") || r.State == muster.StateInvalid {
				t.Errorf("%q, check %v: %v %s", c.text, check, err, told)
			}
		}
	}
}

func TestSecretsOfAKilledProgramAreHidden(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pid")
	e := executor(t, actions.ExecutorConfig{}, script(t, `], stdin: params|params: {token: {type: string, secret: true}}`,
		`tee /dev/stderr; echo $$ >`+pids+`; exec sleep 600`))
	results := make(chan muster.Result, 1)
	go func() { results <- run(t, e, "a.script", `{"token":"canary-7"}`) }()
	pidIn(t, pids)
	if err := e.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := <-results
	if r.State != muster.StateInterrupted {
		t.Errorf("%+v", r)
	}
	hides(t, r)
}

func TestSecretIsHiddenHoweverItIsWritten(t *testing.T) {
	for given, printed := range map[string]string{
		`"\u0063anary-7\"x"`: `canary-7\"x`, `"canary-7\u003cx"`: `canary-7\u003cx`, `"canary-7<x"`: `canary-7\u003cx`, `"canary-7x"`: `canary-7x`,
	} {
		d := script(t, `], stdin: params|params: {token: {type: string, secret: true}}`, `printf '%s' '`+printed+`'`)
		hides(t, run(t, executor(t, actions.ExecutorConfig{}, d), "a.script", `{"token":`+given+`}`))
	}
}

func TestTheWholeGroupIsAskedToEndBeforeItIsKilled(t *testing.T) {
	bye := filepath.Join(t.TempDir(), "bye")
	text := `(trap 'echo 1 >` + bye + `; exit 0' TERM; while :; do sleep 0.05; done) & trap '' TERM; while [ ! -s ` + bye + ` ]; do sleep 0.05; done`
	e := executor(t, actions.ExecutorConfig{}, script(t, `]|limits: {timeout: 500ms, kill_after: 20s}`, text))
	if r := run(t, e, "a.script", `{}`); r.State != muster.StateTimeout || r.DurationMs >= 20_000 {
		t.Errorf("%+v", r)
	}
	pidIn(t, bye)
}

func TestExampleDefinitionsRun(t *testing.T) {
	e := executor(t, actions.ExecutorConfig{}, examples(t)...)
	if r := run(t, e, "app.greet", `{"name":"Zoë B."}`); string(r.Result) != `{"greeting":"Hello","name":"Zoë B."}` {
		t.Errorf("%s %+v", r.Result, r.Error)
	}
	if r := run(t, e, "app.greet", `{"name":"\"}"}`); r.State != muster.StateInvalid {
		t.Errorf("%+v", r)
	}
	check := e.Execute(t.Context(), operator(), muster.Execution{Action: "app.greet", Params: given(t, `{"name":"Ada"}`), Check: true})
	if o := outputOf(t, check); o.Stdout != "would greet Ada" {
		t.Errorf("%+v", o)
	}
	path := filepath.Join(t.TempDir(), "-f")
	if err := os.WriteFile(path, []byte("muster\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := outputOf(t, run(t, e, "file.checksum", `{"path":"`+path+`"}`)); !strings.HasSuffix(o.Stdout, " 7 "+path+"\n") {
		t.Errorf("%+v", o)
	}
	if o := outputOf(t, run(t, e, "host.disk", `{}`)); !strings.Contains(o.Stdout, "Filesystem") {
		t.Errorf("%+v", o)
	}
}

func TestLocksKeepActionsApart(t *testing.T) {
	dir := t.TempDir()
	text := `mkdir ` + dir + `/held && sleep 0.1 && rmdir ` + dir + `/held`
	one := script(t, `]|locks: [b, 'a:${node}', b]`, text)
	two := define(t, "a.other", "locks: ['a:${node}']\nhandler: {kind: exec, argv: [/bin/sh, -c, '"+text+"']}\n")
	e := executor(t, actions.ExecutorConfig{}, one, two)
	results := make(chan muster.Result, 6)
	for range 3 {
		go func() { results <- run(t, e, "a.script", `{}`) }()
		go func() { results <- run(t, e, "a.other", `{}`) }()
	}
	for range 6 {
		if r := <-results; !r.Success {
			t.Errorf("%+v", r.Error)
		}
	}
}
