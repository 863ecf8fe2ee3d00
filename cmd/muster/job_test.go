package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"muster"
	"muster/httpserver/api"
)

// give has all agents load one more action, and waits until a node knows that
// they have it.
func (d *demo) give(t *testing.T, at, name, rest string) {
	t.Helper()
	text := "action: " + name + "\nversion: 1.0.0\ntitle: A test\nrisk: low\n" + rest
	if err := os.WriteFile(filepath.Join(d.dir, "actions", name+".yaml"), meant([]byte(text)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, agent := range d.names {
		if err := d.procs[agent].Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	until(t, name+" is there", func() bool {
		code, out := d.words(t, at, "action", "show", name)
		return code == 0 && strings.Contains(out, strings.Join(d.names, ", "))
	})
}

// take has all agents lose an action again, and waits until a node knows that none
// has it.
func (d *demo) take(t *testing.T, at, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(d.dir, "actions", name+".yaml")); err != nil {
		t.Fatal(err)
	}
	for _, agent := range d.names {
		if err := d.procs[agent].Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	until(t, name+" is gone", func() bool {
		code, _ := d.words(t, at, "action", "show", name)
		return code != 0
	})
}

// heard is what a command prints while it runs.
type heard struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(b)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

// aside runs a command at a node; its exit code comes when it has ended.
func (d *demo) aside(t *testing.T, at string, errs *os.File, args ...string) (out, notes *heard, code <-chan int) {
	t.Helper()
	out, notes = &heard{}, &heard{}
	io := streams{out, notes}
	if errs != nil {
		io.err = errs
	}
	ended := make(chan int, 1)
	args = append(args, "--addr", d.urls[at], "--secret-file", filepath.Join(d.dir, "secret"))
	go func() { ended <- run(t.Context(), args, io) }()
	return out, notes, ended
}

// jobIn is the job that a command printed as JSON, between other things.
func jobIn(t *testing.T, out string) (j muster.Job) {
	t.Helper()
	_, rest, _ := strings.Cut(out, "{\n")
	if err := json.NewDecoder(strings.NewReader("{" + rest)).Decode(&j); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return j
}

func (d *demo) detached(t *testing.T, at string, args ...string) (job string) {
	t.Helper()
	code, out := d.words(t, at, append(append([]string{"run"}, args...), "--detach")...)
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	return strings.TrimSpace(out)
}

func TestOutputStaysWhereItWasPrintedAndAnyNodeFetchesIt(t *testing.T) {
	d, master := trio(t)
	d.give(t, master, "app.say", "params: {pass: {type: string, secret: true}}\n"+
		"handler: {kind: exec, stdin: params, argv: [/bin/sh, -c, 'echo said by $MUSTER_NODE; cat; echo trouble >&2; printf \"\\033[31mred\\n\"']}\n")
	code, out := d.words(t, master, "run", "app.say", "--all", "-p", "pass=canary-secret", "-o", "json")
	j := jobIn(t, out)
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	asked := other(d, master)
	if code, out := d.words(t, asked, "job", "output", j.Job); code != 0 || strings.Count(out, "said by") != 3 ||
		strings.Count(out, "[redacted]") != 3 || strings.Count(out, "trouble") != 3 || !strings.Contains(out, "==> "+master+", stderr <==") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if err := d.kill(master); err != nil {
		t.Fatal(err)
	}
	if code, out := d.words(t, asked, "job", "output", j.Job, asked); code != 0 || !strings.HasPrefix(out, "said by ") || !strings.Contains(out, "\033[31mred") {
		t.Errorf("without the node that led it: exit %d\n%s", code, out)
	}
	if code, out := d.words(t, asked, "job", "output", j.Job, master); code != 4 {
		t.Errorf("of a dead node: exit %d\n%s", code, out)
	}
	if code, out := d.words(t, asked, "job", "output", j.Job); code != 4 || !strings.Contains(out, "node "+master) {
		t.Errorf("which nodes had it, is not known: exit %d\n%s", code, out)
	}
	for _, name := range d.names {
		files, err := os.ReadDir(filepath.Join(d.dir, name, "outputs"))
		if err != nil || len(files) != 1 {
			t.Errorf("%s keeps %d outputs, %v", name, len(files), err)
		}
	}
	if code, out := d.words(t, asked, "job", "output", "j_x_y", asked); code != 1 || !strings.Contains(out, "no output") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

const tellingAction = "handler: {kind: exec, argv: [/bin/sh, -c, 'echo hello from it; echo ::progress 40 half of it; until test -e GATE; do sleep 0.05; done; echo ::progress 90 nearly']}\n"

func TestAJobIsWatchedFromAnyNodeALinePerEvent(t *testing.T) {
	d, master := trio(t)
	gate := filepath.Join(t.TempDir(), "gate")
	d.give(t, master, "app.tell", strings.ReplaceAll(tellingAction, "GATE", gate))
	id := d.detached(t, master, "app.tell", "--all")
	asked := other(d, master)
	out, notes, ended := d.aside(t, asked, nil, "job", "watch", id)
	for _, name := range d.names {
		until(t, name+" says how far it is", func() bool { return strings.Contains(notes.String(), name+"   40 %  half of it") })
		if text := notes.String(); !strings.Contains(text, name+" | hello from it") || !strings.Contains(text, name+"  running") {
			t.Errorf("%s\n%s", name, text)
		}
	}
	if o, err := d.client(asked).JobOutput(t.Context(), id, master); err != nil || !o.Running || !strings.HasPrefix(o.Stdout, "hello from it\n") || o.Progress.Percent != 40 {
		t.Errorf("what it printed so far: %+v, %v", o, err)
	}
	if out.String() != "" {
		t.Errorf("the result is told before the end: %s", out)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != 0 || strings.Count(notes.String(), "  ok\n") != 3 || strings.Count(notes.String(), " 90 %  nearly") != 3 || !strings.Contains(out.String(), "succeeded") {
		t.Errorf("exit %d\n%s\n%s", code, notes, out)
	}
	// Afterwards its events are told again.
	if code, text := d.words(t, asked, "job", "watch", id); code != 0 || strings.Count(text, "| hello from it") != 3 {
		t.Errorf("exit %d\n%s", code, text)
	}
}

func TestWatchingGoesOnWhereItWasWhenTheNodeAskedDies(t *testing.T) {
	d, master := trio(t)
	gate := filepath.Join(t.TempDir(), "gate")
	d.give(t, master, "app.tell", strings.ReplaceAll(tellingAction, "GATE", gate))
	id := d.detached(t, master, "app.tell", "--on", master)
	asked := other(d, master)
	_, notes, ended := d.aside(t, asked, nil, "job", "watch", id, "--addr", d.urls[master])
	until(t, "it is watched", func() bool { return strings.Contains(notes.String(), "half of it") })
	if err := d.kill(asked); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != 0 || strings.Count(notes.String(), "half of it") != 2 { // printed, and said
		t.Errorf("exit %d\n%s", code, notes)
	}
}

func TestAFailedNodeIsTriedAgainAsANewJob(t *testing.T) {
	d, master := trio(t)
	gate := filepath.Join(t.TempDir(), "gate")
	bad := other(d, master)
	// It fails where the parameter says, until the gate is open.
	d.give(t, master, "app.flaky", "params: {bad: {type: string}}\nhandler: {kind: exec, argv: [/bin/sh, -c, 'grep -qz -- \"--name\" /proc/$PPID/cmdline; tr \"\\0\" \"\\n\" </proc/$PPID/cmdline | grep -qx \"$0\" && ! test -e "+gate+" && exit 7; echo done', '${bad}']}\n")
	code, out := d.words(t, master, "run", "app.flaky", "--all", "--serial", "--on-fail", "continue", "-p", "bad="+bad, "-o", "json")
	old := jobIn(t, out)
	if code != 3 || old.Results[bad].Error == nil || *old.Results[bad].Error.ExitCode != 7 || old.SuccessCount != 2 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out = d.words(t, bad, "job", "retry", old.Job, "--failed")
	id := strings.TrimSpace(out)
	if code != 0 || id == old.Job || !strings.HasPrefix(id, "j_") {
		t.Fatalf("exit %d\n%s", code, out)
	}
	code, out = d.words(t, bad, "job", "watch", id, "-o", "json")
	again := jobIn(t, out)
	if code != 0 || again.RetryOf != old.Job || len(again.Results) != 1 || !again.Results[bad].Success {
		t.Errorf("exit %d\n%s", code, out)
	}
	if code, out := d.words(t, bad, "job", "retry", id); code != 1 || !strings.Contains(out, "no node of the job is left") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func TestARunWhoseWaitEndsGoesOnAsAJob(t *testing.T) {
	d, master := trio(t)
	started := d.slow(t, master)
	code, out := d.words(t, master, "run", "app.slow", "--on", master, "--timeout", "500ms")
	if code != 4 || !strings.Contains(out, "muster job watch j_") || !strings.Contains(out, "Status   running") {
		t.Fatalf("exit %d\n%s", code, out)
	}
	until(t, "it runs", func() bool { return exists(started) })
	asked := other(d, master)
	code, out = d.words(t, asked, "job", "list", "--status", "running", "-o", "json")
	var all api.Jobs
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != 0 || len(all.Jobs) != 1 || all.Jobs[0].Pending[0] != master {
		t.Fatalf("exit %d, %v\n%s", code, err, out)
	}
	if code, out := d.words(t, asked, "job", "cancel", all.Jobs[0].Job); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
	until(t, "it has ended", func() bool {
		_, out := d.words(t, asked, "job", "show", all.Jobs[0].Job)
		return strings.Contains(out, "Status  cancelled")
	})
}

func TestAKeyBeginsOneJobWhicheverNodeIsAsked(t *testing.T) {
	d, master := trio(t)
	count := filepath.Join(t.TempDir(), "count")
	d.give(t, master, "app.count", "params: {n: {type: int}}\nhandler: {kind: exec, argv: [/bin/sh, -c, 'echo x >>"+count+"; sleep 0.3']}\n")
	run := muster.Run{Action: "app.count", Params: muster.Params{"n": json.RawMessage("1")}, On: muster.Selector{Nodes: &[]string{master}}, Key: "one"}
	answers := make(chan muster.Job, 9)
	for i := range cap(answers) {
		go func() {
			j, err := d.client(d.names[i%3]).Run(t.Context(), run)
			if err != nil {
				t.Error(err)
			}
			answers <- j
		}()
	}
	first := <-answers
	for range cap(answers) - 1 {
		if j := <-answers; j.Job != first.Job || !j.Success {
			t.Errorf("%+v is not %s", j, first.Job)
		}
	}
	if raw, err := os.ReadFile(count); err != nil || strings.Count(string(raw), "x") != 1 {
		t.Errorf("it ran %q, %v", raw, err)
	}
	if j, err := d.client(other(d, master)).Begin(t.Context(), run); err != nil || j.Job != first.Job || j.Status != muster.JobSucceeded {
		t.Errorf("later, without waiting: %+v, %v", j, err)
	}
	d.give(t, master, "app.count", "params: {m: {type: int, required: true}}\nhandler: {kind: exec, argv: [/bin/false]}\n")
	if j, err := d.client(master).Begin(t.Context(), run); err != nil || j.Job != first.Job {
		t.Errorf("when its definition has changed: %+v, %v", j, err)
	}
	d.take(t, master, "app.count")
	if j, err := d.client(master).Begin(t.Context(), run); err != nil || j.Job != first.Job {
		t.Errorf("when it is defined nowhere: %+v, %v", j, err)
	}
	run.Params = muster.Params{"n": json.RawMessage("2")}
	for _, name := range d.names {
		if _, err := d.client(name).Run(t.Context(), run); muster.KindOf(err) != muster.Conflict {
			t.Errorf("another run with the key, at %s: %v", name, err)
		}
	}
	if code, out := d.words(t, master, "run", "app.count", "-p", "n=2", "--on", master, "--idempotency-key", "one"); code != 1 || !strings.Contains(out, "other parameters") {
		t.Errorf("exit %d\n%s", code, out)
	}
	nodes, err := d.client(master).Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(nodes.Nodes, func(n muster.Node) bool { return strings.Contains(first.Job, n.ID) })
	leader := nodes.Nodes[i].Slug
	if err := d.kill(leader); err != nil {
		t.Fatal(err)
	}
	run.Params = muster.Params{"n": json.RawMessage("1")}
	if _, err := d.client(other(d, leader)).Run(t.Context(), run); muster.KindOf(err) != muster.Unavailable || !strings.Contains(err.Error(), "node "+leader) {
		t.Errorf("while the node that led it is dead: %v", err)
	}
}

func TestJobsOfAllNodesAreListedAndTheDeadOneIsNamed(t *testing.T) {
	d, master := trio(t)
	ids := map[string]string{}
	for _, name := range d.names {
		if code, out := d.words(t, name, "run", "app.greet", "-p", "name=Ada", "--on", name); code != 0 {
			t.Fatalf("exit %d\n%s", code, out)
		}
		ids[name] = d.detached(t, name, "node.echo", "--on", name, "-p", "text=hi")
	}
	asked := other(d, master)
	until(t, "all have ended", func() bool {
		code, out := d.words(t, asked, "job", "list")
		return code == 0 && strings.Count(out, "  succeeded  ") == 6
	})
	if code, out := d.words(t, asked, "job", "list", "--node", master, "--action", "node.echo"); code != 0 || strings.Count(out, "j_") != 1 || !strings.Contains(out, ids[master]) {
		t.Errorf("exit %d\n%s", code, out)
	}
	if code, out := d.words(t, asked, "job", "list", "--local"); code != 0 || strings.Count(out, "j_") != 2 {
		t.Errorf("exit %d\n%s", code, out)
	}
	if err := d.kill(master); err != nil {
		t.Fatal(err)
	}
	if code, out := d.words(t, asked, "job", "list"); code != 3 || strings.Count(out, "j_") != 4 || !strings.Contains(out, "not from "+master) {
		t.Errorf("exit %d\n%s", code, out)
	}
	if err := d.start(master); err != nil {
		t.Fatal(err)
	}
	until(t, "the history of the one that was killed is there again", func() bool {
		code, out := d.words(t, asked, "job", "list")
		return code == 0 && strings.Count(out, "  succeeded  ") == 6
	})
}

func TestWhenTheNodeThatLedAJobDiesItIsInterruptedAndCanStillBeEnded(t *testing.T) {
	d, master := trio(t)
	started := d.slow(t, master)
	runner := other(d, master)
	id := d.detached(t, master, "app.slow", "--on", runner)
	until(t, "it runs", func() bool { return exists(started) })
	_, notes, ended := d.aside(t, runner, nil, "job", "watch", id)
	until(t, "it is watched", func() bool { return strings.Contains(notes.String(), "running") })
	if err := d.kill(master); err != nil {
		t.Fatal(err)
	}
	until(t, "the other node says who kept it", func() bool {
		code, out := d.words(t, runner, "job", "show", id)
		return code == 4 && strings.Contains(out, "node "+master)
	})
	if err := d.start(master); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != 4 || !strings.Contains(notes.String(), runner+"  unknown") {
		t.Errorf("exit %d\n%s", code, notes)
	}
	if j, err := d.client(runner).Job(t.Context(), id); err != nil || j.Status != muster.JobInterrupted || j.Results[runner].State != muster.StateUnknown {
		t.Errorf("%+v, %v", j, err)
	}
	raw, err := os.ReadFile(started)
	pid := strings.TrimSpace(string(raw))
	if err != nil || !runs(t, pid) {
		t.Errorf("it was ended with the node that led it: %v", err)
	}
	until(t, "it is cancelled", func() bool {
		code, _ := d.words(t, runner, "job", "cancel", id)
		return code == 0
	})
	until(t, "what still ran of it is ended", func() bool { return !runs(t, pid) })
	until(t, "its leader hears of that", func() bool {
		j, err := d.client(runner).Job(t.Context(), id)
		return err == nil && j.Results[runner].State == muster.StateCancelled && j.Status == muster.JobFailed
	})
}

func TestWhatEndsWhileItsLeaderIsDownIsKnownWhenThatIsBack(t *testing.T) {
	d, master := trio(t)
	gate := filepath.Join(t.TempDir(), "gate")
	d.give(t, master, "app.gated", "handler: {kind: exec, argv: [/bin/sh, -c, 'echo begun; until test -e "+gate+"; do sleep 0.05; done; echo done']}\n")
	id := d.detached(t, master, "app.gated", "--all")
	runner := other(d, master)
	for _, name := range d.names {
		until(t, "it runs at "+name, func() bool {
			_, out := d.words(t, name, "job", "output", id, name)
			return strings.Contains(out, "begun")
		})
	}
	if err := d.kill(master); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.start(master); err != nil {
		t.Fatal(err)
	}
	var j muster.Job
	until(t, "its leader heard how it ended elsewhere", func() bool {
		job, err := d.client(runner).Job(t.Context(), id)
		j = job
		return err == nil && j.Status != muster.JobInterrupted
	})
	for _, name := range d.names {
		want := muster.StateOK
		if name == master {
			want = muster.StateInterrupted
		}
		if r := j.Results[name]; r.State != want || r.Node != name || name != master && !strings.Contains(string(r.Result), "done") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if j.Status != muster.JobPartial || j.SuccessCount != 2 || j.FailureCount != 1 {
		t.Errorf("%+v", j)
	}
}

func TestCancelReachesProcessesThatLeftTheirGroupFromAnyNode(t *testing.T) {
	d, master := trio(t)
	pids := filepath.Join(t.TempDir(), "pids")
	d.give(t, master, "app.stray", "limits: {kill_after: 500ms}\nhandler: {kind: exec, argv: [/bin/sh, -c, 'setsid sh -c \"sleep 60 & echo \\$! >>"+pids+"; wait\" & sleep 60 & echo $! >>"+pids+"; trap \"\" TERM; wait; sleep 60']}\n")
	found := func() []string {
		raw, _ := os.ReadFile(pids)
		return strings.Fields(string(raw))
	}
	id := d.detached(t, master, "app.stray", "--all")
	until(t, "it runs on all", func() bool { return len(found()) == 6 })
	asked := other(d, master)
	if code, out := d.words(t, asked, "job", "cancel", id); code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	code, out := d.words(t, asked, "job", "watch", id, "-o", "json")
	j := jobIn(t, out)
	if code != 1 || j.Status != muster.JobCancelled {
		t.Fatalf("exit %d\n%s", code, out)
	}
	for slug, r := range j.Results {
		if r.State != muster.StateCancelled || r.Leaked == 0 {
			t.Errorf("%s: %+v", slug, r)
		}
	}
	for _, pid := range found() {
		if runs(t, pid) {
			t.Errorf("process %s still runs", pid)
		}
	}
}

func TestAWaitedRunIsInTheHistoryAfterACrash(t *testing.T) {
	d, name := agents(t, "a")
	d.crashesInARun(t, name)
	until(t, "it is interrupted", func() bool {
		all, err := d.client(name).Jobs(t.Context(), api.JobFilter{})
		return err == nil && len(all.Jobs) == 1 && all.Jobs[0].Status == muster.JobInterrupted && fmt.Sprint(all.Jobs[0].Pending) == "[]"
	})
}
