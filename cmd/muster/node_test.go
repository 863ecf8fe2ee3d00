package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/cluster/trust"
	"muster/testdata/ports"
)

func TestTextsInAFileOfNodesStayAsTheyAreWritten(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"a list": {"- {name: 007, slug: no, url: 'http://x', version: 1.10}", `{"name":"007","slug":"no","url":"http://x","version":"1.10"}`},
		"under nodes": {
			"nodes:\n  - name: shop\n    capabilities: [on, 1]\n    metadata: {country: NO, build: 0123, flag: true, time: 12:30, hex: 0x1F, big: 12345678901234567890, exp: 1e3, empty: }\n",
			`{"name":"shop","capabilities":["on","1"],"metadata":{"country":"NO","build":"0123","flag":true,"time":"12:30","hex":"0x1F","big":12345678901234567890,"exp":"1e3","empty":null}}`,
		},
		"by slug":           {"shop:\n  name: true\n  weight: 3\n", `{"slug":"shop","name":"true","weight":3}`},
		"JSON":              {`{"nodes":[{"name":"\ud83d\ude00","version":1.10}]}`, `{"name":"\ud83d\ude00","version":1.10}`},
		"JSON by slug":      {`{"shop":{"name":"x"}}`, `{"name":"x","slug":"shop"}`},
		"a row of no use":   {"- shop", `"shop"`},
		"nothing":           {"nodes: []", ``},
		"a text of lines":   {"- description: |\n    one\n    two\n", `{"description":"one\ntwo\n"}`},
		"negative weights":  {"- weight: -3", `{"weight":-3}`},
		"a row with a list": {"- metadata: {a: [1, x, {b: 2.50}]}", `{"metadata":{"a":[1,"x",{"b":2.50}]}}`},
	} {
		rows, err := readNodes([]byte(c.in))
		got := make([]string, len(rows))
		for i, row := range rows {
			got[i] = string(row)
		}
		if err != nil || strings.Join(got, "|") != c.want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, strings.Join(got, "|"), c.want)
		}
	}
}

func TestAFileOfNodesThatCanBeReadInTwoWaysIsRefused(t *testing.T) {
	for in, says := range map[string]string{
		"nodes: []\n---\nnodes: []\n":   "one document",
		"":                              "one document",
		"- {name: a, name: b}":          "name",
		"- &x {name: a}\n- *x":          "not read here",
		"nodes: [":                      "line",
		"7":                             "list of nodes",
		`{"a":{"name":"x"},"a":{}}`:     "twice",
		`{"a":{"name":"x","slug":"b"}}`: "slug",
		"a: {slug: b}":                  "slug",
		`{"nodes":[{"name":"x","name":"y","url":"z"}]}`: "twice",
	} {
		if rows, err := readNodes([]byte(in)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, %s", in, err, rows)
		}
	}
}

func TestTheRegistryIsKeptInOrderFromTheCommandLine(t *testing.T) {
	d, name := agents(t, "a")
	file := filepath.Join(t.TempDir(), "nodes.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("shop: {name: Shop, url: 'http://127.0.0.1:9/1', version: 1.10}\nwiki: {name: Wiki, url: 'http://127.0.0.1:9/2'}\n")
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"node sync FILE", 0, "dry run"},
		{"node show shop", 1, "no node shop"},
		{"node sync FILE --apply", 0, "create"},
		{"node sync FILE -o json", 0, `"create": []`},
		{"node show shop", 0, "1.10"},
		{"node update shop --status maintenance --meta a=b --weight 3", 0, "maintenance"},
		{"node show shop", 0, "Metadata      a=\"b\""},
		{"node show shop", 0, "Capabilities  search actions"},
		{"node show nobody", 1, "muster node list shows them"},
		{"node update shop", 2, "nothing to change"},
		{"node update shop --status error", 2, "status"},
		{"node update shop --name x --if-match 1", 1, "has changed"},
		{"node update a --name x", 2, "is an agent"},
		{"node list --status maintenance", 0, "shop"},
		{"node list --capability nosuch -o jsonl", 0, ""},
		{"node list --status asleep", 2, "status"},
		{"node stats", 0, "Maintenance"},
		{"node remove a", 1, "muster cluster remove a"},
		{"node remove shop", 0, "muster node restore shop"},
		{"node list --deleted", 0, "shop"},
		{"node restore shop", 0, "maintenance"},
		{"node restore shop", 1, "no deleted node"},
		{"node remove wiki", 0, "Removed"},
		{"node cleanup --days 0 --statuses maintenance", 0, "dry run"},
		{"node cleanup --days 0 --statuses maintenance --apply", 0, "purge"},
		{"node list --deleted -o json", 0, `"total": 1`},
		{"cluster remove a", 1, "too few"},
	} {
		args := strings.Fields(strings.ReplaceAll(c.args, "FILE", file))
		code, out := d.words(t, name, args...)
		if code != c.code || !strings.Contains(out, c.says) {
			t.Fatalf("%s: exit %d\n%s", c.args, code, out)
		}
	}
	if code, out := d.words(t, name, "node", "update", "shop", "--weight", "0", "--app-version", strings.Repeat("1", 65)); code != 2 ||
		!strings.Contains(out, "weight: must be") || !strings.Contains(out, "version: must") || strings.Contains(out, "hint") {
		t.Errorf("exit %d\n%s", code, out)
	}
	write("- {name: a, url: 'http://127.0.0.1:9/1'}\n- {name: x, url: x.example.org}\n")
	if code, out := d.words(t, name, "node", "sync", file, "--apply"); code != 2 || !strings.Contains(out, "https://x.example.org") || !strings.Contains(out, "is an agent") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// ends waits for an agent's process and returns its exit code.
func (d *demo) ends(t *testing.T, name string) int {
	t.Helper()
	ended := make(chan int, 1)
	cmd := d.procs[name]
	go func() {
		_ = cmd.Wait()
		ended <- cmd.ProcessState.ExitCode()
	}()
	select {
	case code := <-ended:
		return code
	case <-time.After(20 * time.Second):
		t.Fatalf("%s goes on", name)
		return -1
	}
}

func TestALivingAgentIsRemovedOrLeavesAndAnotherOneLeads(t *testing.T) {
	d, master := trio(t)
	gone := other(d, master)
	if code, out := d.words(t, gone, "cluster", "transfer", gone); code != 0 {
		t.Fatalf("transfer: exit %d\n%s", code, out)
	}
	until(t, "the other leads", func() bool {
		_, out := d.words(t, master, "node", "list", "--type", "master", "-o", "jsonl")
		return strings.Contains(out, `"slug":"`+gone+`"`)
	})
	if code, out := d.words(t, master, "cluster", "remove", gone); code != 0 {
		t.Fatalf("remove: exit %d\n%s", code, out)
	}
	for starts := 1; starts <= 2; starts++ { // started again it hears the same, and invites nobody
		code := d.ends(t, gone)
		raw, err := os.ReadFile(filepath.Join(d.dir, gone+".log"))
		log := string(raw)
		if err != nil || code != 5 || strings.Count(log, "error: node "+gone) != starts || strings.Count(log, "muster agent at") != starts ||
			strings.Count(log, "next, on another port") != 1 {
			t.Fatalf("removed, start %d: exit %d, %v\n%s", starts, code, err, raw)
		}
		if starts == 1 {
			if err := d.start(gone); err != nil {
				t.Fatal(err)
			}
		}
	}
	delete(d.procs, gone)
	stays := last(d, master, gone)
	until(t, "two vote", func() bool {
		_, out := d.words(t, stays, "status")
		return strings.Count(out, "voter") == 2
	})
	if code, out := d.words(t, master, "cluster", "leave"); code != 0 {
		t.Fatalf("leave: exit %d\n%s", code, out)
	}
	if code := d.ends(t, master); code != 0 {
		t.Errorf("left: exit %d", code)
	}
	until(t, "it is inactive", func() bool {
		_, out := d.words(t, stays, "node", "list", "--status", "inactive", "-o", "jsonl")
		return strings.Contains(out, `"slug":"`+master+`"`)
	})
	if code, out := d.words(t, stays, "node", "register", "shop", "http://127.0.0.1:9"); code != 0 {
		t.Errorf("a write at the one that is left: exit %d\n%s", code, out)
	}
}

func TestAnAgentThatWaitsForOthersSaysAtOnceHowTheyJoin(t *testing.T) {
	d := newDemo(t.TempDir(), streams{t.Output(), t.Output()}, "a")
	t.Cleanup(func() { _ = d.clean() })
	addrs, err := ports.Free(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	d.args["a"] = []string{
		"agent", "--name", "a", "--data-dir", filepath.Join(d.dir, "a"), "--secret-file", filepath.Join(d.dir, "secret"),
		"--http", addrs[0], "--gossip", addrs[1], "--raft", addrs[2], "--expect", "2", "--join", addrs[3],
	}
	if _, err := trust.EnsureSecretFile(filepath.Join(d.dir, "secret")); err != nil {
		t.Fatal(err)
	}
	if err := d.start("a"); err != nil {
		t.Fatal(err)
	}
	until(t, "the line for the next one", func() bool {
		raw, err := os.ReadFile(filepath.Join(d.dir, "a.log"))
		return err == nil && strings.Contains(string(raw), "next, on another port:  muster agent --name NAME --port PORT --join "+addrs[1])
	})
}

// last is the one that is neither.
func last(d *demo, not ...string) string {
	for _, name := range d.names {
		if !slices.Contains(not, name) {
			return name
		}
	}
	return ""
}
