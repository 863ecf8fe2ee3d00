package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"muster"
	"muster/actions/journal"
)

const slowAction = `action: app.slow
version: 1.0.0
title: Take a while
risk: low
handler: {kind: exec, argv: [/bin/sh, -c, 'sleep 60 & echo $! >>STARTED; wait']}
`

// slow gives all agents an action that tells when it runs, by a file.
func (d *demo) slow(t *testing.T, name string) (started string) {
	t.Helper()
	started = filepath.Join(t.TempDir(), "started")
	text := regexp.MustCompile("STARTED").ReplaceAllLiteralString(slowAction, started)
	if err := os.WriteFile(filepath.Join(d.dir, "actions", "slow.yaml"), meant([]byte(text)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range d.names {
		if err := d.procs[name].Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the action is there", func() bool {
		code, out := d.words(t, name, "action", "show", "app.slow")
		return code == 0 && strings.Contains(out, strings.Join(d.names, ", "))
	})
	return started
}

// runs reports whether a process is there and no zombie that its new parent has
// not looked at yet.
func runs(t *testing.T, pid string) bool {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return !errors.Is(syscall.Kill(n, 0), syscall.ESRCH) && (err != nil || !strings.Contains(string(stat), ") Z "))
}

func exists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > 0
}

// crashesInARun kills an agent in the middle of a run that somebody waits for,
// and starts it again.
func (d *demo) crashesInARun(t *testing.T, name string) {
	t.Helper()
	started := d.slow(t, name)
	answered := make(chan error, 1)
	go func() {
		_, err := d.client(name).Run(t.Context(), muster.Run{Action: "app.slow", On: muster.Selector{All: true}})
		answered <- err
	}()
	until(t, "the action runs", func() bool { return exists(started) })
	if err := d.kill(name); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; muster.KindOf(err) != muster.OutcomeUnknown {
		t.Errorf("the run was answered %v", err)
	}
	if err := d.start(name); err != nil {
		t.Fatal(err)
	}
}

func TestAnAgentThatIsKilledFindsWhatItRanInterrupted(t *testing.T) {
	d, name := agents(t, "a")
	d.crashesInARun(t, name)
	until(t, "the agent is back", func() bool {
		code, _ := d.words(t, name, "status")
		return code == 0
	})
	log, err := os.ReadFile(filepath.Join(d.dir, name+".log"))
	job := regexp.MustCompile(`msg="action started".* job=(j_\S+)`).FindSubmatch(log)
	if err != nil || job == nil {
		t.Fatalf("no job in the log: %v", err)
	}
	if err := d.kill(name); err != nil {
		t.Fatal(err)
	}
	j := journal.New(journal.Config{Path: filepath.Join(d.dir, name, "journal.db")})
	if err := j.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Stop(t.Context()) }()
	none := sha256.Sum256([]byte("{}"))
	e := muster.JournalEntry{Key: string(job[1]), Action: "app.slow", Params: j.Seal(hex.EncodeToString(none[:])), Caller: "operator"}
	if r, err := j.Recall(t.Context(), e); err != nil || r == nil || r.State != muster.StateInterrupted {
		t.Errorf("%+v, %v", r, err)
	}
	if !regexp.MustCompile(`interrupted when the node went down.* count=1`).Match(log) {
		t.Error("the agent did not say what it found")
	}
}

func TestAJobGoesOnWithoutAWaiterAndAnyNodeTellsOfIt(t *testing.T) {
	d, master := trio(t)
	code, out := d.words(t, master, "run", "node.sleep", "-p", "for=500ms", "--all", "--detach")
	id := strings.TrimSpace(out)
	if code != 0 || !strings.HasPrefix(id, "j_") {
		t.Fatalf("exit %d\n%s", code, out)
	}
	for _, name := range d.names {
		if code, out := d.words(t, name, "job", "watch", id); code != 0 || strings.Count(out, " ok ") != 3 || !strings.Contains(out, "succeeded") {
			t.Errorf("%s: exit %d\n%s", name, code, out)
		}
	}
	asked := other(d, master)
	if code, out := d.words(t, asked, "job", "list", "--node", master); code != 0 || !strings.Contains(out, id) {
		t.Errorf("exit %d\n%s", code, out)
	}
	if code, out := d.words(t, asked, "job", "show", "j_x_y"); code != 1 || !strings.Contains(out, "no job") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if err := d.kill(master); err != nil {
		t.Fatal(err)
	}
	if code, out := d.words(t, asked, "job", "show", id); code != 4 || !strings.Contains(out, "node "+master) {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func TestAJobWhoseNodeWasKilledIsInterrupted(t *testing.T) {
	d, name := agents(t, "a")
	j, err := d.client(name).Begin(t.Context(), muster.Run{
		Action: "node.sleep", Params: muster.Params{"for": json.RawMessage(`"60s"`)}, On: muster.Selector{All: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.client(name).Job(t.Context(), j.Job); err != nil || got.Status != muster.JobRunning || len(got.Pending) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := d.kill(name); err != nil {
		t.Fatal(err)
	}
	if err := d.start(name); err != nil {
		t.Fatal(err)
	}
	until(t, "the job is there again", func() bool {
		got, err := d.client(name).Job(t.Context(), j.Job)
		return err == nil && got.Status == muster.JobInterrupted && got.Results[name].State == muster.StateUnknown
	})
}

func TestAJobIsCancelledFromAnyNodeWithAllItsProcesses(t *testing.T) {
	d, master := trio(t)
	started := d.slow(t, master)
	pids := func() []string {
		raw, _ := os.ReadFile(started)
		return strings.Fields(string(raw))
	}
	code, out := d.words(t, master, "run", "app.slow", "--all", "--detach")
	id := strings.TrimSpace(out)
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	until(t, "it runs on all", func() bool { return len(pids()) == 3 })
	asked := other(d, master)
	if code, out := d.words(t, asked, "job", "cancel", id); code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	code, out = d.words(t, asked, "job", "watch", id)
	if code != 1 || strings.Count(out, "  cancelled  ") != 3 || !strings.Contains(out, "Status  cancelled") {
		t.Errorf("exit %d\n%s", code, out)
	}
	for _, pid := range pids() {
		if runs(t, pid) {
			t.Errorf("process %s still runs", pid)
		}
	}
	if code, out := d.words(t, asked, "job", "cancel", id); code != 1 || !strings.Contains(out, "has ended") {
		t.Errorf("exit %d\n%s", code, out)
	}
}
