package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster"
)

// shared is the folder of judged collections, or a skip.
func shared(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("MUSTER_DATA")
	if dir == "" {
		t.Skip("MUSTER_DATA does not name the folder of test collections")
	}
	return dir
}

func readLines(t *testing.T, path string) (rows []string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(bytes.NewReader(raw))
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		rows = append(rows, in.Text())
	}
	return rows
}

// put adds documents in bodies of the size that the command line sends, with
// time enough for a machine that is busy with other tests.
func put(t *testing.T, d *demo, name string, rows []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for some := range slices.Chunk(rows, 500) {
		got, err := d.client(name).AddDocuments(ctx, "", []byte(strings.Join(some, "\n")))
		if err != nil || got.Failed > 0 || got.Indexed != len(some) {
			t.Fatalf("add to %s: %+v %v", name, got, err)
		}
	}
}

func find(t *testing.T, d *demo, at string, q muster.Query) muster.Answer {
	t.Helper()
	a, err := d.client(at).Search(t.Context(), q)
	if err != nil {
		t.Fatalf("search %q at %s: %v", q.Text, at, err)
	}
	return a
}

// ranking is what must be equal: IDs and scores in order.
func ranking(a muster.Answer) (ids []string, scores []float64) {
	for _, h := range a.Results {
		ids, scores = append(ids, h.ID), append(scores, h.Score)
	}
	return ids, scores
}

type judged struct {
	id, text string
	grades   map[string]float64
}

func questions(t *testing.T, dir string) (list []judged) {
	t.Helper()
	grades := map[string]map[string]float64{}
	raw, err := os.ReadFile(filepath.Join(dir, "qrels.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	in := csv.NewReader(bytes.NewReader(raw))
	in.Comma = '\t'
	rows, err := in.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] {
		grade, err := strconv.ParseFloat(row[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		if grades[row[0]] == nil {
			grades[row[0]] = map[string]float64{}
		}
		grades[row[0]][row[1]] = grade
	}
	for _, line := range readLines(t, filepath.Join(dir, "queries.jsonl")) {
		var q struct {
			ID   string `json:"_id"`
			Text string `json:"text"`
		}
		if err := json.Unmarshal([]byte(line), &q); err != nil {
			t.Fatal(err)
		}
		// Quotes would make phrases, which are not there yet.
		list = append(list, judged{q.ID, strings.ReplaceAll(q.Text, `"`, " "), grades[q.ID]})
	}
	return list
}

// ndcg is nDCG@10 with linear gain, as trec_eval computes it.
func ndcg(ids []string, grades map[string]float64) float64 {
	gain := func(list []float64) (sum float64) {
		for i, g := range list[:min(10, len(list))] {
			sum += g / math.Log2(float64(i)+2)
		}
		return sum
	}
	got := make([]float64, 0, len(ids))
	ideal := make([]float64, 0, len(grades))
	for _, id := range ids {
		got = append(got, grades[id])
	}
	for _, g := range grades {
		ideal = append(ideal, g)
	}
	slices.SortFunc(ideal, func(a, b float64) int { return cmp.Compare(b, a) })
	if best := gain(ideal); best > 0 {
		return gain(got) / best
	}
	return 0
}

func TestAJudgedCollectionOverThreeAgentsRanksAsOneAgentHoldingAll(t *testing.T) {
	for _, c := range []struct {
		name string
		goal float64
	}{{"cranfield", 0.43}, {"cisi", 0.40}} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(shared(t), c.name)
			docs := readLines(t, filepath.Join(dir, "corpus.jsonl"))
			central, _ := agents(t, "all")
			put(t, central, "all", docs)
			all := questions(t, dir)
			want := make([]muster.Answer, len(all))
			sum, n := 0.0, 0.0
			for i, q := range all {
				want[i] = find(t, central, "all", muster.Query{Text: q.text, Limit: 100})
				if ids, _ := ranking(want[i]); len(q.grades) > 0 {
					sum += ndcg(ids, q.grades)
					n++
				}
			}
			t.Logf("nDCG@10 of %s: %.4f over %v judged queries", c.name, sum/n, n)
			if sum/n < c.goal {
				t.Errorf("below %v", c.goal)
			}
			random := rand.New(rand.NewPCG(1, 2))
			for split, place := range map[string]func(int) int{
				"random": func(int) int { return random.IntN(3) },
				"ranges": func(i int) int { return i * 3 / len(docs) },
			} {
				d, _ := trio(t)
				parts := make([][]string, 3)
				for i, row := range docs {
					p := place(i)
					parts[p] = append(parts[p], row)
				}
				for i, name := range d.names {
					put(t, d, name, parts[i])
				}
				for i, q := range all {
					for _, at := range d.names {
						same(t, split+" at "+at, find(t, d, at, muster.Query{Text: q.text, Limit: 100}), want[i])
					}
				}
			}
		})
	}
}

func same(t *testing.T, where string, got, want muster.Answer) {
	t.Helper()
	ids, scores := ranking(got)
	wantIDs, wantScores := ranking(want)
	if !slices.Equal(ids, wantIDs) || got.TotalResults != want.TotalResults || got.Partial || got.Merge != "exact" {
		t.Fatalf("%s: %q: %d %v %s\ngot  %v\nwant %v", where, got.Query, got.TotalResults, got.Partial, got.Merge, ids, wantIDs)
	}
	for i := range scores {
		if math.Abs(scores[i]-wantScores[i]) > 1e-9 {
			t.Fatalf("%s: %q: score of %s is %v, not %v", where, got.Query, ids[i], scores[i], wantScores[i])
		}
	}
}

func TestFourSitesAreSearchedAsOneFromEachOfTheirNodes(t *testing.T) {
	dir := filepath.Join(shared(t), "sites")
	d, _ := agents(t, "goblog", "godoc", "hugodocs", "rustbook")
	for _, site := range d.names {
		put(t, d, site, readLines(t, filepath.Join(dir, site, "corpus.jsonl")))
	}
	sites := func(a muster.Answer, top int) map[string]bool {
		seen := map[string]bool{}
		for _, h := range a.Results[:min(top, len(a.Results))] {
			seen[h.SourceNode] = true
		}
		return seen
	}
	for _, c := range []struct {
		query string
		top   int
		holds func(muster.Answer, map[string]bool) bool
	}{
		{"concurrency channel thread", 10, func(_ muster.Answer, s map[string]bool) bool { return s["rustbook"] && s["goblog"] }},
		{"garbage collector pause", 10, func(_ muster.Answer, s map[string]bool) bool { return s["goblog"] && s["godoc"] }},
		{"module dependency version", 20, func(_ muster.Answer, s map[string]bool) bool { return len(s) >= 3 }},
		{"race detector", 1, func(a muster.Answer, _ map[string]bool) bool {
			return slices.Contains([]string{"goblog:race-detector", "godoc:articles/race_detector"}, a.Results[0].ID)
		}},
		{"error handling", 10, func(_ muster.Answer, s map[string]bool) bool { return s["rustbook"] && s["goblog"] }},
	} {
		first := find(t, d, "goblog", muster.Query{Text: c.query, Limit: 20})
		if seen := sites(first, c.top); !c.holds(first, seen) {
			ids, _ := ranking(first)
			t.Errorf("%q: %v from %v", c.query, ids, seen)
		}
		for _, at := range d.names[1:] {
			same(t, at, find(t, d, at, muster.Query{Text: c.query, Limit: 20}), first)
		}
	}
}

func TestAnAnswerKeepsItsDeadlineAndNamesWhoIsMissing(t *testing.T) {
	d, master := trio(t)
	for _, name := range d.names {
		put(t, d, name, []string{fmt.Sprintf(`{"id":%q,"content":"plum of %s"}`, name, name)})
	}
	at := other(d, master)
	ill := d.names[(slices.Index(d.names, master)+2)%3]
	q := muster.Query{Text: "plum", Options: muster.QueryOptions{TimeoutMs: 500, Cache: new(bool)}}
	if a := find(t, d, at, q); a.Partial || a.TotalResults != 3 {
		t.Fatalf("before: %+v", a)
	}
	check := func(what, node string) {
		t.Helper()
		started := time.Now()
		a := find(t, d, at, q)
		if took := time.Since(started); took > 900*time.Millisecond {
			t.Errorf("%s: took %v", what, took)
		}
		ids, _ := ranking(a)
		if !a.Partial || a.TotalResults != 2 || slices.Contains(ids, node) || a.NodesSearched != 2 || math.Abs(a.Coverage-2.0/3) > 1e-9 {
			t.Errorf("%s: %+v", what, a)
		}
		for _, n := range a.Nodes {
			if (n.Node == node) != (n.Error != "") {
				t.Errorf("%s: report %+v", what, n)
			}
		}
	}
	if err := d.procs[ill].Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	check("stopped", ill)
	if err := d.procs[ill].Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	until(t, "whole again", func() bool { return !find(t, d, at, q).Partial })
	if err := d.kill(ill); err != nil {
		t.Fatal(err)
	}
	check("killed", ill)
	for what, answer := range map[string]http.HandlerFunc{
		"garbage": func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "<html>") },
		"nothing": func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "{}") },
		"500":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
	} {
		ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", strings.TrimPrefix(d.urls[ill], "http://"))
		if err != nil {
			t.Fatal(err)
		}
		stub := &httptest.Server{Listener: ln, Config: &http.Server{Handler: answer, ReadHeaderTimeout: time.Second}}
		stub.Start()
		check(what, ill)
		stub.Close()
	}
}

func TestSearchGoesOnWithoutAMaster(t *testing.T) {
	d, master := trio(t)
	for _, name := range d.names {
		put(t, d, name, []string{fmt.Sprintf(`{"id":%q,"content":"plum"}`, name)})
	}
	if err := d.kill(master); err != nil {
		t.Fatal(err)
	}
	for _, at := range d.names {
		if at == master {
			continue
		}
		started := time.Now()
		a := find(t, d, at, muster.Query{Text: "plum", Options: muster.QueryOptions{Dedupe: new(bool)}})
		if !a.Partial || a.Count != 2 {
			t.Errorf("at %s: %+v", at, a)
		}
		t.Logf("answer of %s %v after the kill, took %v", at, time.Since(started), a.TookMs)
	}
}

func TestAKillWhileIndexingLeavesWholeDocumentsAndAddingAgainCompletesThem(t *testing.T) {
	d, _ := agents(t, "all")
	const docs = 12_000 // a dozen batches: the kill comes in the middle
	rows := make([]string, 0, docs)
	for i := range docs {
		rows = append(rows, fmt.Sprintf(`{"id":"%d","title":"plum %d","content":"word%d plum"}`, i, i%300, i))
	}
	sent := make(chan error, 1)
	go func() {
		_, err := d.client("all").AddDocuments(t.Context(), "", []byte(strings.Join(rows, "\n")))
		sent <- err
	}()
	// The second batch is begun when the first is on disk.
	until(t, "some are in", func() bool {
		s, err := d.client("all").IndexStats(t.Context(), "")
		return err == nil && s.Generation > 1
	})
	if err := d.kill("all"); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err == nil {
		t.Fatal("all were in before the kill")
	}
	if err := d.start("all"); err != nil {
		t.Fatal(err)
	}
	until(t, "it is back", func() bool {
		_, err := d.client("all").IndexStats(t.Context(), "")
		return err == nil
	})
	after, err := d.client("all").IndexStats(t.Context(), "")
	if err != nil || after.Docs == 0 || after.Tokens["content"] != 2*after.Docs {
		t.Fatalf("torn: %+v %v", after, err)
	}
	if _, err := d.client("all").AddDocuments(t.Context(), "", []byte(strings.Join(rows, "\n"))); err != nil {
		t.Fatal(err)
	}
	whole, err := d.client("all").IndexStats(t.Context(), "")
	if err != nil || whole.Docs != docs || whole.Tokens["content"] != 2*docs || whole.Tokens["title"] != 2*docs {
		t.Fatalf("%+v %v", whole, err)
	}
}
