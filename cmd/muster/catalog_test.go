package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"muster"
	"muster/httpserver/api"
)

// defines writes a definition to the directory that all agents of the demo read,
// and has some of them read it.
func (d *demo) defines(t *testing.T, file, text string, names ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, "actions", file), meant([]byte(text)), 0o600); err != nil {
		t.Fatal(err)
	}
	d.rereads(t, names...)
}

func (d *demo) rereads(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := d.procs[name].Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
}

// versions waits until an action has these versions at every node's catalog: each
// as VERSION SLUG,SLUG.
func (d *demo) versions(t *testing.T, action string, want ...string) {
	t.Helper()
	for at := range d.procs {
		until(t, action+" is "+strings.Join(want, ", ")+" at "+at, func() bool {
			catalog, err := d.client(at).Actions(t.Context())
			if err != nil {
				return false
			}
			var have []string
			for _, a := range catalog.Actions {
				if a.Action == action {
					have = append(have, a.Version+" "+strings.Join(a.Nodes, ","))
				}
			}
			return strings.Join(have, ", ") == strings.Join(want, ", ")
		})
	}
}

const tagged = "action: app.tag\nversion: VERSION\ntitle: Tag\nrisk: low\nparams: {n: {type: int, max: MOST, required: true}}\n" +
	"handler: {kind: exec, argv: [/bin/echo, \"--n=${n}\"]}\n"

func version(v string, most int) string {
	return strings.NewReplacer("VERSION", v, "MOST", strconv.Itoa(most)).Replace(tagged)
}

// How a list, and the description, of an action in two versions look.
var (
	mixedList  = regexp.MustCompile(`(?m)^app\.tag +1\.0\.0 +low +Tag +b *\napp\.tag +2\.0\.0 +low +Tag +c *$`)
	mixedShown = regexp.MustCompile(`(?s)Version +1\.0\.0\n.*Nodes +b\n.*"max":5.*Version +2\.0\.0\n.*Nodes +c\n.*"max":9`)
)

func TestEveryNodeDocumentsAndJudgesActionsThatItDoesNotHave(t *testing.T) {
	d, _ := trio(t)
	d.defines(t, "tag.yaml", version("1.0.0", 5), "b")
	d.versions(t, "app.tag", "1.0.0 b")
	code, out := d.words(t, "a", "action", "show", "app.tag")
	if code != 0 || !strings.Contains(out, `"max":5`) {
		t.Errorf("exit %d\n%s", code, out)
	}
	if code, out := d.words(t, "a", "run", "app.tag", "--on", "b", "-p", "n=6"); code != 2 || !strings.Contains(out, "n: must be at most 5") {
		t.Errorf("a wrong parameter: exit %d\n%s", code, out)
	}
	if log, err := os.ReadFile(filepath.Join(d.dir, "b.log")); err != nil || strings.Contains(string(log), "action=app.tag") {
		t.Errorf("b was asked all the same, %v", err)
	}
	if code, out := d.words(t, "a", "run", "app.tag", "--on", "b", "-p", "n=5"); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
	// Another version elsewhere is shown, and what one of them takes is tried.
	d.defines(t, "tag.yaml", version("2.0.0", 9), "c")
	d.versions(t, "app.tag", "1.0.0 b", "2.0.0 c")
	if code, out := d.words(t, "a", "action", "list"); code != 0 || !mixedList.MatchString(out) {
		t.Errorf("exit %d\n%s", code, out)
	}
	if code, out := d.words(t, "a", "action", "show", "app.tag"); code != 0 || !mixedShown.MatchString(out) {
		t.Errorf("exit %d\n%s", code, out)
	}
	if code, out := d.words(t, "a", "run", "app.tag", "--on", "b,c", "-p", "n=9", "--on-fail", "continue"); code != 3 ||
		!strings.Contains(out, "n: must be at most 5") || !strings.Contains(out, "--n=9") {
		t.Errorf("mixed versions: exit %d\n%s", code, out)
	}
	if code, out := d.words(t, "a", "run", "app.tag", "--on", "b,c", "-p", "n=10"); code != 2 || !strings.Contains(out, "error: n: must be at most") {
		t.Errorf("what no version takes: exit %d\n%s", code, out)
	}
	d.rereads(t, "b")
	d.versions(t, "app.tag", "2.0.0 b,c")
	// Of a dead node the catalog still tells; of a removed one it does not.
	last := other(d, mustMaster(t, d))
	for _, name := range d.names {
		if name != last {
			d.rereads(t, name)
		}
	}
	d.rereads(t, last)
	d.versions(t, "app.tag", "2.0.0 a,b,c")
	if err := d.kill(last); err != nil {
		t.Fatal(err)
	}
	at := other(d, last)
	if code, out := d.words(t, at, "action", "show", "app.tag"); code != 0 || !strings.Contains(out, "a, b, c") {
		t.Errorf("with one dead: exit %d\n%s", code, out)
	}
	until(t, "the dead one can be removed", func() bool {
		code, _ := d.words(t, at, "cluster", "remove", last)
		return code == 0
	})
	d.versions(t, "app.tag", "2.0.0 "+strings.Join(without(d.names, last), ","))
}

func without(names []string, gone string) (rest []string) {
	for _, name := range names {
		if name != gone {
			rest = append(rest, name)
		}
	}
	return rest
}

func mustMaster(t *testing.T, d *demo) string {
	t.Helper()
	s, err := d.client(d.names[0]).Cluster(t.Context())
	if err != nil || s.Master == nil {
		t.Fatal(err)
	}
	return s.Master.Slug
}

// shop is an application with a ledger of its own.
type shop struct {
	mu    sync.Mutex
	done  map[string]int // by idempotency key; guarded by mu
	calls int            // guarded by mu
	bodys []string       // guarded by mu
}

// ServeHTTP sells once per key.
func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	s.calls++
	s.bodys = append(s.bodys, string(body))
	key := r.Header.Get("Idempotency-Key")
	if strings.Contains(string(body), `"sold out"`) {
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"message":"sold out"}`)
		return
	}
	if s.calls == 1 { // not done yet
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusTooEarly)
		return
	}
	if s.done == nil {
		s.done = map[string]int{}
	}
	s.done[key] = 1 // an insert that finds the key changes nothing
	_, _ = io.WriteString(w, `{"sold":`+strconv.Itoa(len(s.done))+`}`)
}

func TestAnAgentHasTheApplicationBesideItDoTheWork(t *testing.T) {
	d, master := trio(t)
	s := &shop{}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	d.defines(t, "sell.yaml", "action: shop.sell\nversion: 1.0.0\ntitle: Sell\nrisk: low\nparams: {sku: {type: string, required: true}, pin: {type: string, secret: true}}\n"+
		"result: {sold: {type: int}}\nhandler: {kind: http, url: "+server.URL+"/sell}\n", d.names...)
	d.versions(t, "shop.sell", "1.0.0 a,b,c")
	code, out := d.words(t, master, "run", "shop.sell", "-p", "sku=a1", "-p", "pin=c4n4ry-0123", "--all")
	s.mu.Lock()
	if code != 0 || strings.Count(out, `{"sold":`) != 3 || len(s.done) != 3 || s.calls != 4 || !strings.Contains(s.bodys[0], `"pin":"c4n4ry-0123"`) {
		t.Errorf("exit %d, %d calls of %d keys\n%s", code, s.calls, len(s.done), out)
	}
	s.mu.Unlock()
	code, out = d.words(t, master, "run", "shop.sell", "-p", "sku=sold out", "--on", "b")
	if code != 1 || !strings.Contains(out, "failed") || !strings.Contains(out, "409: sold out") {
		t.Errorf("exit %d\n%s", code, out)
	}
	server.Close()
	code, out = d.words(t, master, "run", "shop.sell", "-p", "sku=a1", "--on", "b")
	if code != 1 || !strings.Contains(out, "cannot be reached") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func TestTheSameKeyAtAllNodesRunsAnActionOnceOnEach(t *testing.T) {
	d, master := trio(t)
	ledger := filepath.Join(t.TempDir(), "ledger")
	d.defines(t, "count.yaml", "action: app.count\nversion: 1.0.0\ntitle: Count\nrisk: low\nparams: {n: {type: int, default: 1}}\n"+
		"handler: {kind: exec, argv: [/bin/sh, -c, 'echo $MUSTER_KEY >>"+ledger+"; sleep 0.2']}\n", d.names...)
	d.versions(t, "app.count", "1.0.0 a,b,c")
	run := muster.Run{Action: "app.count", On: muster.Selector{All: true}, Key: "order-17"}
	answers := make([]muster.Job, 12)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			a, err := d.client(d.names[i%3]).Run(t.Context(), run)
			if err != nil {
				t.Errorf("at %s: %v", d.names[i%3], err)
			}
			answers[i] = a
		})
	}
	wg.Wait()
	raw, err := os.ReadFile(ledger)
	if lines := strings.Fields(string(raw)); err != nil || len(lines) != 3 {
		t.Errorf("executed %d times, %v", len(lines), err)
	}
	for _, a := range answers {
		if !a.Success || a.Job != answers[0].Job || a.SuccessCount != 3 {
			t.Errorf("%+v", a)
		}
	}
	more := run
	more.Params = muster.Params{"n": []byte("2")}
	if _, err := d.client(master).Run(t.Context(), more); muster.KindOf(err) != muster.Conflict || muster.CodeOf(err) != "idempotency_key_reused" {
		t.Errorf("another request under the key: %v", err)
	}
	if code, out := d.words(t, other(d, master), "run", "app.count", "--all", "--idempotency-key", "order-18"); code != 0 || strings.Count(out, " ok ") != 3 {
		t.Errorf("exit %d\n%s", code, out)
	}
	bad := run
	bad.Key, bad.Params = "order-19", muster.Params{"n": []byte(`"x"`)}
	if _, err := d.client(master).Run(t.Context(), bad); muster.KindOf(err) != muster.Invalid {
		t.Errorf("a wrong run: %v", err)
	}
	bad.Params = nil
	if a, err := d.client(master).Run(t.Context(), bad); err != nil || !a.Success {
		t.Errorf("a run that was refused took the key: %+v %v", a, err)
	}
	// The node that keeps the job is named when it cannot be reached.
	leader := ""
	for _, name := range d.names {
		if h, err := d.client(name).Jobs(context.Background(), api.JobFilter{Node: name}); err == nil && len(h.Jobs) > 0 && h.Jobs[len(h.Jobs)-1].Job == answers[0].Job {
			leader = name
		}
	}
	if leader == "" {
		t.Fatal("nobody keeps the job")
	}
	if err := d.kill(leader); err != nil {
		t.Fatal(err)
	}
	until(t, "there is a master", func() bool {
		_, err := d.client(other(d, leader)).Run(t.Context(), run)
		return muster.KindOf(err) == muster.Unavailable && strings.Contains(err.Error(), "kept by node "+leader)
	})
}

func TestAProgramMakesFilesForItsUserOnlyAndNothingOfTheAgentsIsItsOwn(t *testing.T) {
	t.Setenv("CANARY", "of the agent")
	d, name := agents(t, "a")
	d.defines(t, "look.yaml", "action: app.look\nversion: 1.0.0\ntitle: Look\nrisk: low\n"+
		"handler: {kind: exec, argv: [/bin/sh, -c, 'umask; touch made; ls -l made; env; ls /proc/self/fd']}\n", name)
	d.versions(t, "app.look", "1.0.0 a")
	code, out := d.words(t, name, "run", "app.look", "--all", "-o", "json")
	if code != 0 || !strings.Contains(out, `"stdout": "0077\n-rw------- `) || strings.Contains(out, "CANARY") || strings.Contains(out, "MUSTER_SECRET") || !strings.Contains(out, `\n0\n1\n2\n3\n"`) {
		t.Errorf("exit %d\n%s", code, out)
	}
}
