package reqlog_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"muster/httpserver/api"
	"muster/httpserver/reqlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const self = "00000000-0000-7000-8000-000000000001"

func settings(t *testing.T) reqlog.Config {
	t.Helper()
	return reqlog.Config{
		Path: filepath.Join(t.TempDir(), "requests.db"), Self: self, Log: slog.New(slog.DiscardHandler),
		Slug: func(id string) string {
			return map[string]string{self: "here", "b-id": "b", "c-id": "c"}[id]
		},
		Secrets: func(action string) ([]string, bool) { return []string{"pin"}, action == "app.known" },
	}
}

func open(t *testing.T, cfg reqlog.Config) *reqlog.Log {
	t.Helper()
	l := reqlog.New(cfg)
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Stop(context.Background()) })
	return l
}

var made atomic.Uint32

// newID is a UUIDv7 of the virtual time, which starts anew in each test.
func newID() string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:], uint64(time.Now().UnixMilli())<<16|0x7000)
	binary.BigEndian.PutUint32(id[8:], 1<<31|made.Add(1))
	return id.String()
}

// search is an incoming search that is over.
func search() api.Call {
	return api.Call{
		ID: newID(), Direction: "in", Method: "POST", Path: "/v1/search", Status: 200, Caller: "key:1",
		At: time.Now(), Payload: []byte(`{"query":"rain"}`), Response: []byte(`{"count":1}`), TraceID: "t1", Duration: 3 * time.Millisecond,
	}
}

func outgoing(node string) api.Call {
	c := search()
	c.Direction, c.NodeID, c.Path = "out", node, api.PathPin
	return c
}

func rows(t *testing.T, l *reqlog.Log, f api.RequestFilter) []api.Row {
	t.Helper()
	page, err := l.List(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return page.Requests
}

// settle waits until all that was recorded is in the file.
func settle(t *testing.T) {
	t.Helper()
	time.Sleep(150 * time.Millisecond) //nolint:forbidigo // in virtual time
	synctest.Wait()
}

func TestARowSaysWhatWasAskedByWhomAndWhatBecameOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, settings(t))
		c := search()
		c.RequestID = "r1"
		l.Record(c)
		failed := outgoing("b-id")
		failed.Status, failed.Err, failed.Response, failed.Caller = 0, "b cannot be reached", nil, "key:2"
		l.Record(failed)
		other := search()
		other.Path = "/v1/nodes/x" // leaves no row
		l.Record(other)
		settle(t)
		got := rows(t, l, api.RequestFilter{})
		if len(got) != 2 {
			t.Fatalf("%d rows: %+v", len(got), got)
		}
		in, out := got[1], got[0]
		if in.ID != c.ID || in.NodeID != self || in.Node != "here" || in.Direction != "in" || in.RequestType != "search" || in.StatusCode != http.StatusOK ||
			in.Status != "success" || in.DurationMs != 3 || in.TraceID != "t1" || in.RequestID != "r1" || in.Caller != "key:1" ||
			string(in.Payload) != `{"query":"rain"}` || string(in.Response) != `{"count":1}` || in.CreatedAt.IsZero() {
			t.Errorf("in: %+v", in)
		}
		if out.NodeID != "b-id" || out.Node != "b" || out.RecordedBy != "here" || out.Status != "failed" || out.ErrorMessage != "b cannot be reached" || out.Response != nil {
			t.Errorf("out: %+v", out)
		}
	})
}

func TestARowFromBeforeTheNodesWereKnownHasTheNamesTheyGot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := settings(t)
		names := map[string]string{}
		cfg.Slug = func(id string) string { return names[id] }
		l := open(t, cfg)
		c := outgoing("b-id")
		c.Node = "http://10.0.0.2:7600"
		l.Record(c)
		settle(t)
		if got := rows(t, l, api.RequestFilter{}); got[0].Node != c.Node {
			t.Errorf("before: %+v", got)
		}
		names["b-id"], names[self] = "b", "here"
		if got := rows(t, l, api.RequestFilter{Node: "b"}); len(got) != 1 || got[0].Node != "b" || got[0].RecordedBy != "here" {
			t.Errorf("after: %+v", got)
		}
	})
}

func TestAnActionThatFailedInAGoodAnswerIsAFailedRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, settings(t))
		c := search()
		c.Path, c.Response = "/v1/run", []byte(`{"success":false,"error":{"code":"exit","message":"exit 3"}}`)
		l.Record(c)
		settle(t)
		if got := rows(t, l, api.RequestFilter{}); got[0].Status != "failed" || got[0].ErrorMessage != "exit 3" || got[0].RequestType != "action" {
			t.Errorf("%+v", got)
		}
	})
}

func TestSecretsAreInNoRow(t *testing.T) {
	const canary, made = "c4n4ry-0123456789", "mc_0badc0de0badc0de0badc0de0badc0de0badc0de0badc0de0badc0de0badc0de"
	synctest.Test(t, func(t *testing.T) {
		cfg := settings(t)
		l := open(t, cfg)
		for path, payload := range map[string]string{
			"/v1/nodes":             `{"name":"x","credential":"QQ","metadata":{"deep":{"api_key":["QQ"],"Client-Secret":{"a":"QQ"}}}}`,
			"/v1/run":               `{"action":"app.known","params":{"pin":"QQ","path":"kept"}}`,
			"/internal/v1/run":      `{"params":{"anything":{"x":"QQ"}},"action":"app.unknown"}`,
			"/v1/tx":                `{"steps":[{"run":"a","with":{"x":"QQ"},"undo":{"run":"b","with":{"y":"QQ"}}}],"actions":{"s":{"params":{"z":"QQ"}}}}`,
			"/v1/search":            `{"query":"Bearer QQ mk_0123_QQ ` + made + ` mc_kept", "_note": "_use mk_0123_QQ please", "_mk_0123_QQ": 1}`,
			"/internal/v1/join":     `{"Authorization":"QQ","proof":"QQ","access_token":"QQ"}`,
			"/api/ai-engine/search": `password=QQ&x`, // no JSON: nothing of it is kept
			"/v1/jobs/x/retry":      `{"action":"app.known","params":"QQ"}`,
		} {
			c := search()
			c.Path, c.Payload = path, []byte(strings.ReplaceAll(payload, "QQ", canary))
			c.Response = []byte(`{"api_key":"` + canary + `","ok":1}`)
			c.Err = "refused: Bearer " + canary + ", not " + made
			l.Record(c)
		}
		settle(t)
		got := rows(t, l, api.RequestFilter{})
		text, err := json.Marshal(got)
		if err != nil || len(got) != 8 {
			t.Fatal(len(got), err)
		}
		if err := l.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile(cfg.Path)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{canary, made[:12]} {
			if strings.Contains(string(text), secret) || strings.Contains(string(file), secret) {
				t.Errorf("a secret is kept: %s", text)
			}
		}
		if !strings.Contains(string(text), "kept") || !strings.Contains(string(text), "mc_kept") || !strings.Contains(string(text), `"ok":1`) {
			t.Errorf("more than the secrets is hidden: %s", text)
		}
	})
}

func TestALongBodyIsCutWithAMarkAndStaysJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, settings(t))
		c := search()
		c.Payload = []byte(`{"query":"` + strings.Repeat("ä", 20<<10) + `","limit":3}`)
		c.Response = []byte(`{"results":[` + strings.TrimSuffix(strings.Repeat(`{"id":"1","title":"x"},`, 20<<10), ",") + `],"count":1}`)
		l.Record(c)
		settle(t)
		got := rows(t, l, api.RequestFilter{})[0]
		for name, body := range map[string]json.RawMessage{"payload": got.Payload, "response": got.Response} {
			if len(body) < 16<<10-100 || len(body) > 16<<10+100 || !json.Valid(body) || !strings.Contains(string(body), "[cut at 16 KiB]") {
				t.Errorf("%s: %d bytes, valid %v, ends %s", name, len(body), json.Valid(body), body[len(body)-60:])
			}
		}
	})
}

func TestOfTheWritesThatOneNodeSendsToAnotherTheBeginningIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, settings(t))
		c := search()
		c.Method, c.Path = "POST", api.PathApply
		c.Payload = []byte(`{"commands":[` + strings.TrimSuffix(strings.Repeat(`{"by":{"principal":"operator"},"command":{"op":"node.update"}},`, 100), ",") + `]}`)
		c.Response = []byte(`{"answers":[{"result":{"index":7}}]}`)
		l.Record(c)
		settle(t)
		got := rows(t, l, api.RequestFilter{})[0]
		if n := len(got.Payload); n < 1<<10-100 || n > 1<<10+100 || !json.Valid(got.Payload) || !strings.Contains(string(got.Payload), "[cut at 1 KiB]") {
			t.Errorf("%d bytes: %s", n, got.Payload)
		}
		if string(got.Response) != string(c.Response) {
			t.Errorf("the answer: %s", got.Response)
		}
	})
}

func TestABodyWithANameTwiceLeavesARowThatCanBeShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, settings(t))
		for _, body := range []string{
			`{"query":"a","query":"b","password":"hunter2"}`,
			`{"options":{"x":[{"y":1,"y":2}]}}`,
			`{"…":1,"……":2,"…":3}`,
			`{"mk_a":1,"mk_b":2}`, // one name once they are hidden
		} {
			call := search()
			call.Payload, call.Response = []byte(body), []byte(body)
			l.Record(call)
		}
		settle(t)
		all := rows(t, l, api.RequestFilter{})
		if len(all) != 4 {
			t.Fatalf("%d rows of 4", len(all))
		}
		for _, row := range all {
			if !jsontext.Value(row.Payload).IsValid() || !jsontext.Value(row.Response).IsValid() {
				t.Errorf("no reader takes this row: %s", row.Payload)
			}
			if !strings.Contains(string(row.Payload), "there twice") || strings.Contains(string(row.Payload), "hunter2") {
				t.Errorf("the row does not say why it ends, or says too much: %s", row.Payload)
			}
		}
	})
}

func TestFiltersChooseAndPagesJoinWithoutGapOrRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, settings(t))
		var began time.Time
		for i := range 2500 {
			if i == 1250 {
				time.Sleep(time.Second) //nolint:forbidigo // in virtual time
				began = time.Now()
			}
			c := outgoing([]string{"b-id", "c-id"}[i%2])
			c.Duration = time.Duration(i) * time.Millisecond
			c.TraceID = fmt.Sprint("t", i%5)
			if i%10 == 0 {
				c.Status = 500
			}
			if i%3 == 0 {
				c.Path = api.PathRun
			}
			l.Record(c)
		}
		settle(t)
		for want, f := range map[int]api.RequestFilter{
			2500: {Limit: 1000},
			1250: {Node: "b", Limit: 1000},
			1249: {Node: "c-id", Limit: 500, Slow: 3 * time.Millisecond},
			834:  {Type: "action", Limit: 100},
			250:  {Status: "failed", Limit: 7},
			500:  {Trace: "t3"},
			100:  {Slow: 2400 * time.Millisecond},
			0:    {Principal: "key:2"},
		} {
			checkPages(t, l, f, want)
		}
		checkPages(t, l, api.RequestFilter{Since: began}, 1250)
		checkPages(t, l, api.RequestFilter{Principal: "key:2", Own: "c-id", Type: "search"}, 833)
	})
}

func checkPages(t *testing.T, l *reqlog.Log, f api.RequestFilter, want int) {
	t.Helper()
	var ids []string
	for {
		page, err := l.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Requests {
			ids = append(ids, r.ID)
		}
		if f.Cursor = page.Cursor; f.Cursor == "" {
			break
		}
	}
	if len(ids) != want || !slices.IsSortedFunc(ids, func(a, b string) int { return strings.Compare(b, a) }) || len(slices.Compact(ids)) != want {
		t.Errorf("%+v: %d rows, want %d, the newest first", f, len(ids), want)
	}
}

func TestARowThatWasPendingAtTheEndOfTheProcessIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := settings(t)
		l := open(t, cfg)
		c := search()
		c.Pending = true
		l.Record(c)
		done := search()
		done.Pending = true
		l.Record(done)
		settle(t)
		if got := rows(t, l, api.RequestFilter{Status: "pending"}); len(got) != 2 || got[0].Response != nil {
			t.Fatalf("begun: %+v", got)
		}
		done.Pending = false
		l.Record(done)
		if err := l.Stop(t.Context()); err != nil { // and writes what it was told
			t.Fatal(err)
		}
		l = open(t, cfg)
		got := rows(t, l, api.RequestFilter{Status: "failed"})
		if len(got) != 1 || got[0].ID != c.ID || got[0].ErrorMessage != "interrupted" {
			t.Errorf("after the restart: %+v", got)
		}
		if rate := l.SuccessRate(self); rate == nil || *rate != 50 {
			t.Errorf("success rate %v", rate)
		}
	})
}

func TestTheSuccessRateIsThatOfTheLastHourWithTwoDecimals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := settings(t)
		l := open(t, cfg)
		if rate := l.SuccessRate("b-id"); rate != nil {
			t.Errorf("without rows: %v", *rate)
		}
		for i := range 4 {
			c := outgoing("b-id")
			if i == 0 {
				c.Status = 500
			}
			l.Record(c)
			settle(t)
			if i == 0 {
				time.Sleep(30 * time.Minute) //nolint:forbidigo // in virtual time
			}
		}
		check := func(when string, want float64) {
			t.Helper()
			if rate := l.SuccessRate("b-id"); rate == nil || *rate != want {
				t.Errorf("%s: %v, want %v", when, rate, want)
			}
		}
		check("one of four failed", 75)
		l.Record(outgoing("b-id"))
		l.Record(outgoing("b-id"))
		c := outgoing("b-id")
		c.Status = 404
		l.Record(c)
		settle(t)
		check("two of seven", 71.43)
		if err := l.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		l = open(t, cfg)
		check("after a restart", 71.43)
		time.Sleep(31 * time.Minute) //nolint:forbidigo // in virtual time
		check("the first is an hour old", 83.33)
		time.Sleep(time.Hour) //nolint:forbidigo // in virtual time
		if rate := l.SuccessRate("b-id"); rate != nil {
			t.Errorf("all are older: %v", *rate)
		}
	})
}

func TestRowsOlderThanAWeekGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, settings(t))
		l.Record(search())
		settle(t)
		time.Sleep(7*24*time.Hour - time.Minute) //nolint:forbidigo // in virtual time
		l.Record(search())
		settle(t)
		if got := rows(t, l, api.RequestFilter{}); len(got) != 2 {
			t.Fatalf("a minute before: %d rows", len(got))
		}
		time.Sleep(3 * time.Minute) //nolint:forbidigo // in virtual time
		synctest.Wait()
		if got := rows(t, l, api.RequestFilter{}); len(got) != 1 {
			t.Fatalf("a minute after: %d rows", len(got))
		}
	})
}

func TestRowsOfNodesThatAreGoneGoWithThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, settings(t))
		for _, id := range []string{"b-id", "c-id", ""} {
			l.Record(outgoing(id))
		}
		settle(t)
		if err := l.Keep(t.Context(), func(id string) bool { return id != "b-id" }); err != nil {
			t.Fatal(err)
		}
		got := rows(t, l, api.RequestFilter{})
		if len(got) != 2 || slices.ContainsFunc(got, func(r api.Row) bool { return r.NodeID == "b-id" }) {
			t.Errorf("%+v", got)
		}
		if rate := l.SuccessRate("b-id"); rate != nil {
			t.Errorf("its success rate is still %v", *rate)
		}
	})
}

func TestStrangersLeaveAFewRowsAMinuteAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, settings(t))
		for range 500 {
			c := search()
			c.Path, c.Method, c.Caller = api.PathHealth, "GET", ""
			l.Record(c)
		}
		l.Record(search())
		settle(t)
		got, err := l.List(t.Context(), api.RequestFilter{Limit: 1000})
		if err != nil || len(got.Requests) != 61 || got.Dropped != 0 || l.Stats().Refused != 440 {
			t.Errorf("%d rows, %+v, %v", len(got.Requests), l.Stats(), err)
		}
	})
}
