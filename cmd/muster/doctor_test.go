package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"muster"
	"muster/httpserver/api"
)

// diagnose asks one node of a demo with a secret of the operator's own.
func diagnose(t *testing.T, d *demo, at string) (found diagnosis, code int, out string) {
	t.Helper()
	own := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(own, []byte(d.secret.Hex()), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out = words(t, "doctor", "-o", "json", "--addr", d.urls[at], "--secret-file", own)
	if err := json.Unmarshal([]byte(before(out, "error:")), &found); err != nil {
		t.Fatalf("exit %d, %v\n%s", code, err, out)
	}
	return found, code, out
}

// allVote waits until all vote and each knows that.
func allVote(t *testing.T, d *demo) {
	t.Helper()
	until(t, "all vote", func() bool {
		return !slices.ContainsFunc(d.names, func(name string) bool {
			s, err := d.client(name).Cluster(t.Context())
			return err != nil || s.CanLose != (len(d.names)-1)/2 || s.Master == nil
		})
	})
}

func has(found diagnosis, want api.Finding) bool {
	return slices.ContainsFunc(found.Findings, func(f api.Finding) bool {
		return f.Node == want.Node && f.Check == want.Check && f.Peer == want.Peer && f.Status == want.Status
	})
}

func TestTheDoctorFindsAWellClusterWellFromEachNodeToEachOther(t *testing.T) {
	d, _ := trio(t)
	allVote(t, d)
	found, code, out := diagnose(t, d, "a")
	if code != 0 || found.Fail != 0 || len(found.Missing) != 0 || found.OK+found.Warn != len(found.Findings) {
		t.Fatalf("exit %d\n%s", code, out)
	}
	for _, from := range d.names {
		for _, check := range []string{"secret", "identity", "disk", "master", "contact", "lag", "voters", "quorum", "ports"} {
			if !has(found, api.Finding{Node: from, Check: check, Status: "ok"}) && check != "disk" { // which is this machine's
				t.Errorf("%s of %s in\n%s", check, from, out)
			}
		}
		for _, to := range d.names {
			for _, check := range []string{"http", "gossip", "raft", "clock"} {
				if from != to && !has(found, api.Finding{Node: from, Peer: to, Check: check, Status: "ok"}) {
					t.Errorf("%s from %s to %s in\n%s", check, from, to, out)
				}
			}
		}
	}
	short := at(d, "b", "doctor")
	if code, out := words(t, short...); code != 0 || strings.Count(out, "things are well") != 4 || strings.Contains(out, "leads") {
		t.Errorf("for people: exit %d\n%s", code, out)
	}
	if code, out := words(t, append(short, "--all")...); code != 0 || strings.Count(out, " leads\n") != 3 {
		t.Errorf("all of it: exit %d\n%s", code, out)
	}
}

func TestTheDoctorNamesANodeThatHangsAndASecretThatOthersCanRead(t *testing.T) {
	d, _ := trio(t)
	allVote(t, d)
	if err := os.Chmod(filepath.Join(d.dir, "secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out := words(t, at(d, "a", "doctor")...); code != 1 || !strings.Contains(out, "do: chmod 600 "+filepath.Join(d.dir, "secret")) {
		t.Errorf("its own secret: exit %d\n%s", code, out)
	}
	if err := d.procs["c"].Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.procs["c"].Process.Signal(syscall.SIGCONT) }() // so that it hears that it shall end
	found, code, out := diagnose(t, d, "a")
	if code != 1 {
		t.Errorf("exit %d\n%s", code, out)
	}
	for _, from := range []string{"a", "b"} {
		for _, want := range []api.Finding{{Check: "alive", Peer: "c"}, {Check: "secret"}} {
			want.Node, want.Status = from, api.FindingFail
			if !has(found, want) {
				t.Errorf("%+v is not in\n%s", want, out)
			}
		}
	}
	for _, f := range found.Findings {
		if (f.Status == api.FindingOK) != (f.Remedy == "") {
			t.Errorf("%+v", f)
		}
	}
}

func TestTheDoctorSaysWhatItCouldNotFindOut(t *testing.T) {
	d, _ := agents(t, "a")
	t.Setenv("MUSTER_HOME", t.TempDir())
	if code, out := words(t, "doctor", "--addr", "http://127.0.0.1:1", "--key", "mk_x"); code != 4 || !strings.Contains(out, "is an agent running there?") {
		t.Errorf("nobody there: exit %d\n%s", code, out)
	}
	k, err := d.client("a").CreateKey(t.Context(), muster.KeySpec{Name: "reader", Scopes: []string{"read"}})
	if err != nil {
		t.Fatal(err)
	}
	if code, out := words(t, "doctor", "--addr", d.urls["a"], "--key", *k.Plain); code != 5 || !strings.Contains(out, "scope admin") {
		t.Errorf("a key that may not: exit %d\n%s", code, out)
	}
	if code, out := words(t, "doctor", "--addr", d.urls["a"]); code != 5 || !strings.Contains(out, "--secret-file") {
		t.Errorf("no secret: exit %d\n%s", code, out)
	}
	for _, c := range []struct {
		d     diagnosis
		asked error
		code  int
	}{
		{diagnosis{Warn: 1}, nil, 0},
		{diagnosis{Missing: []string{"b"}, Warn: 1}, nil, 3},
		{diagnosis{Missing: []string{"b"}, Fail: 1}, nil, 1},
		{diagnosis{Fail: 1}, &muster.Error{Kind: muster.Unavailable}, 4},
	} {
		if code := api.ExitCode(c.d.verdict(c.asked)); code != c.code {
			t.Errorf("%+v: exit %d", c.d, code)
		}
	}
}
