package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster"
	"muster/httpserver/api"

	"github.com/google/uuid"
	"github.com/mattn/go-runewidth"
)

// page is a log that can be read while it is written.
type page struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *page) Write(raw []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(raw)
}

func (p *page) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// at are the words that reach an agent of the demo as its operator.
func at(d *demo, name string, args ...string) []string {
	return append(args, "--addr", d.urls[name], "--secret-file", filepath.Join(d.dir, "secret"))
}

func TestTheLogTellsOneStoryOfAllNodesAndGoesOn(t *testing.T) {
	d, _ := agents(t, "a", "b")
	find(t, d, "a", muster.Query{Text: "first"})
	var all api.Requests
	until(t, "rows of both nodes", func() bool {
		_, out := words(t, at(d, "b", "log", "--type", "search", "-o", "json")...)
		pending := func(r api.Row) bool { return r.Status == api.RowPending }                                                    // its end goes to the disk with a later batch
		return json.Unmarshal([]byte(out), &all) == nil && len(all.Requests) == 3 && !slices.ContainsFunc(all.Requests, pending) // a was asked and asked b, b was asked
	})
	trace := all.Requests[0].TraceID
	if slices.ContainsFunc(all.Requests, func(r api.Row) bool { return r.TraceID != trace }) {
		t.Errorf("one search, several traces: %+v", all.Requests)
	}
	code, out := words(t, at(d, "a", "log", "--trace", trace, "--node", "b", "--status", "success", "--since", "10m")...)
	if code != 0 || strings.Count(out, trace) != 2 || strings.Count(out, "\n") != 3 {
		t.Errorf("of a trace: exit %d\n%s", code, out)
	}
	if code, out = words(t, at(d, "a", "log", "--slow", "10m")...); code != 0 || strings.Count(out, "\n") != 1 {
		t.Errorf("slow ones: exit %d\n%s", code, out)
	}
	if code, out = words(t, at(d, "a", "log", "--since", "yesterday")...); code != 2 || !strings.Contains(out, "since") {
		t.Errorf("exit %d\n%s", code, out)
	}
	ctx, stop := context.WithCancel(t.Context())
	var seen page
	var wg sync.WaitGroup
	wg.Go(func() {
		if code := run(ctx, at(d, "a", "log", "--follow", "--type", "search", "--since", "0s", "-o", "jsonl"), streams{&seen, &seen}); code != 0 {
			t.Errorf("follow: exit %d %s", code, seen.String())
		}
	})
	until(t, "a search made while following", func() bool {
		find(t, d, "b", muster.Query{Text: "second"})
		return strings.Contains(seen.String(), "second")
	})
	stop()
	wg.Wait()
	ids := map[string]int{}
	for text := range strings.Lines(seen.String()) {
		var r api.Row
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatal(err)
		}
		if ids[r.ID+r.Status]++; ids[r.ID+r.Status] > 1 || strings.Contains(text, "first") {
			t.Errorf("again: %s", text)
		}
	}
}

func TestLinesOfTheLogFitAndNothingOfThemIsMissingInJSON(t *testing.T) {
	row := api.Row{
		ID: uuid.NewString(), Node: strings.Repeat("n", 63), Direction: "out", RequestType: "action", Status: "success", StatusCode: 503,
		DurationMs: 123456, Caller: "node:" + uuid.NewString(), TraceID: strings.Repeat("a", 32), CreatedAt: time.Now(),
		ErrorMessage: strings.Repeat("why it failed\n", 20) + "end",
	}
	var asked atomic.Int32
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1)%2 == 0 { // to end what follows the log
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(api.Requests{Requests: []api.Row{row, {ID: uuid.NewString(), Node: "a", TraceID: row.TraceID, CreatedAt: row.CreatedAt}}})
	}))
	defer node.Close()
	for _, args := range [][]string{{"log"}, {"log", "--follow"}} {
		asked.Store(0)
		var out, faults page
		run(t.Context(), append(args, "--key", "mk_a", "--addr", node.URL), streams{&out, &faults})
		said := out.String()
		for text := range strings.Lines(said) {
			if wide := runewidth.StringWidth(strings.TrimSuffix(text, "\n")); wide > 120 {
				t.Errorf("%v: %d columns: %s", args, wide, text)
			}
		}
		if !strings.Contains(said, "\n    why it failed why it failed") || strings.Contains(said, "end") || !strings.Contains(said, "…") || !strings.Contains(said, "aaaaaaaa") {
			t.Errorf("%v:\n%s%s", args, said, faults.String())
		}
	}
	asked.Store(0)
	var got api.Requests
	_, out := words(t, "log", "--key", "mk_a", "--addr", node.URL, "-o", "json")
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Requests[0].Caller != row.Caller || got.Requests[0].ErrorMessage != row.ErrorMessage || got.Requests[0].Node != row.Node {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestFollowingTheLogOutlivesANodeThatDoesNotAnswerForAWhile(t *testing.T) {
	var asked atomic.Int32
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var err error
		row := api.Requests{Requests: []api.Row{}}
		switch asked.Add(1) {
		case 1:
			row.Missing = []string{"b"}
		case 2, 3:
			err = muster.Errorf(muster.Unavailable, "this node is stopping")
		case 4:
			row.Requests = []api.Row{{ID: uuid.NewString(), CreatedAt: time.Now(), Caller: "after-the-fault"}}
		default:
			err = muster.Errorf(muster.Unauthorized, "Invalid API key")
		}
		if err != nil {
			w.WriteHeader(api.Status(err))
			_ = json.NewEncoder(w).Encode(api.ErrorBody(err, ""))
			return
		}
		_ = json.NewEncoder(w).Encode(row)
	}))
	defer node.Close()
	var out, faults page
	code := run(t.Context(), []string{"log", "--follow", "--key", "mk_a", "--addr", node.URL}, streams{&out, &faults})
	if code != 5 || !strings.Contains(out.String(), "after-the-fault") {
		t.Errorf("exit %d\n%s%s", code, out.String(), faults.String())
	}
	if said := faults.String(); strings.Count(said, "is stopping") != 1 || strings.Count(said, "not from b") != 1 {
		t.Errorf("it says %s", said)
	}
}

func TestAKillCostsTheLogItsLastMomentAndInterruptsWhatWasUnderWay(t *testing.T) {
	d, _ := agents(t, "a")
	find(t, d, "a", muster.Query{Text: "before the kill"})
	time.Sleep(150 * time.Millisecond) // the promise is a time: 100 ms, and the commit
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = words(t, at(d, "a", "run", "node.sleep", "-p", "for=50s", "--on", "a")...) })
	only := func(what string, f api.RequestFilter) (r api.Row) {
		until(t, what, func() bool {
			got, err := d.client("a").Requests(t.Context(), f)
			if err != nil || len(got.Requests) != 1 {
				return false
			}
			r = got.Requests[0]
			return true
		})
		return r
	}
	running := only("a pending row", api.RequestFilter{Type: "action", Status: "pending"})
	if err := d.kill("a"); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if err := d.start("a"); err != nil {
		t.Fatal(err)
	}
	if r := only("the row from before the kill", api.RequestFilter{Type: "search"}); !strings.Contains(string(r.Payload), "before the kill") {
		t.Errorf("%+v", r)
	}
	if r := only("the row of the run", api.RequestFilter{Type: "action"}); r.ID != running.ID || r.Status != "failed" || r.ErrorMessage != "interrupted" {
		t.Errorf("%+v", r)
	}
}
