package httpserver_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/httpserver"
	"muster/httpserver/api"
)

const jobID = "j_n-a_01890000-0000-7000-8000-000000000001"

// oneJob is a node that leads one job.
type oneJob struct {
	began   muster.Run
	again   muster.Retry
	unknown bool     // what it led is not known
	kept    []string // instead, the newest first
	read    int      // jobs that were taken from the list

	quiet chan struct{} // until it is closed nothing happens after the second event
}

func (o *oneJob) job() muster.Job {
	return muster.Job{RunAnswer: muster.RunAnswer{Job: jobID, Action: "app.x", Results: map[string]muster.Result{}}, Status: muster.JobRunning}
}

func (o *oneJob) Begin(_ context.Context, _ muster.Rights, r muster.Run) (muster.Job, error) {
	o.began = r
	return o.job(), nil
}

func (o *oneJob) Run(_ context.Context, _ muster.Rights, r muster.Run) (muster.Job, error) {
	o.began = r
	return o.job(), nil
}

func (o *oneJob) Judge(muster.Rights, muster.Run) error { return nil }

func (o *oneJob) Retry(_ context.Context, _ muster.Rights, id string, again muster.Retry) (muster.Job, error) {
	o.again = again
	j := o.job()
	j.RetryOf = id
	return j, nil
}

func (o *oneJob) Events(ctx context.Context, _ string, after int64) (muster.JobEvents, error) {
	if after < 2 {
		return muster.JobEvents{Events: []muster.JobEvent{{Seq: after + 1, Type: muster.EventLog, Text: "line\nline"}}}, nil
	}
	select {
	case <-o.quiet:
		return muster.JobEvents{Events: []muster.JobEvent{{Seq: after + 1, Type: muster.EventSummary, Job: &muster.Job{Status: muster.JobSucceeded}}}, Ended: true}, nil
	case <-ctx.Done():
		return muster.JobEvents{}, nil
	}
}

func (o *oneJob) Cancel(context.Context, muster.Rights, string) (muster.Job, error) {
	return o.job(), nil
}

func (o *oneJob) Job(id string) (muster.Job, error) {
	if o.unknown {
		return muster.Job{}, muster.Errorf(muster.NotFound, "no job %s", id)
	}
	return o.job(), nil
}

func (o *oneJob) Jobs(from string) iter.Seq2[muster.Job, error] {
	return func(yield func(muster.Job, error) bool) {
		if !o.unknown {
			o.read++
			yield(o.job(), nil)
			return
		}
		for _, id := range o.kept {
			if from != "" && id > from {
				continue
			}
			o.read++
			if !yield(muster.Job{RunAnswer: muster.RunAnswer{Job: id, Action: "app.x"}}, nil) {
				return
			}
		}
	}
}

func TestAJobIsForThoseWhoMayRunItsAction(t *testing.T) {
	o := &oneJob{}
	base, _ := serve(t, &house{}, withActions(&hands{}), func(c *httpserver.Config) { c.Runner, c.Jobs, c.ID = o, o, "n-a" })
	for _, c := range []struct {
		method, path, token, body string
		code                      int
		says                      string
	}{
		{"POST", "/v1/run", "mk_run:app.*", `{"action":"app.x","on":{"all":true},"wait":false}`, 202, jobID},
		{"POST", "/v1/run", "mk_run:web.*", `{"action":"app.x","on":{"all":true},"wait":false}`, 403, "run:app.x"},
		{"GET", "/v1/jobs/" + jobID, "mk_run:app.*", "", 200, `"status":"running"`},
		{"GET", "/v1/jobs/" + jobID, "mk_run:web.*", "", 403, "run:app.x"},
		{"GET", "/v1/jobs/x", "mk_run:app.*", "", 404, "no job"},
		{"GET", "/v1/jobs/" + strings.Replace(jobID, "n-a", "n-gone", 1), "mk_run:app.*", "", 404, "no job"},
		{"GET", "/v1/jobs", "mk_run:app.*", "", 200, jobID},
		{"GET", "/v1/jobs", "mk_run:web.*", "", 200, `{"jobs":[]}`},
		{"GET", "/v1/jobs?cursor=" + jobID, "mk_run:app.*", "", 200, `{"jobs":[]}`},
		{"GET", "/v1/jobs?limit=0", "mk_run:app.*", "", 422, "limit"},
	} {
		if got := ask(t, c.method, base+c.path, c.token, c.body); got.code != c.code || !strings.Contains(got.body, c.says) {
			t.Errorf("%s %s: %d %s", c.method, c.path, got.code, got.body)
		}
	}
	if o.began.Action != "app.x" || !o.began.On.All {
		t.Errorf("%+v", o.began)
	}
}

// elsewhere is the ID of a job that node n-b leads.
var elsewhere = strings.Replace(jobID, "n-a", "n-b", 1)

func leading(o *oneJob) func(*httpserver.Config) {
	return func(c *httpserver.Config) { c.Runner, c.Jobs, c.ID, c.Heartbeat = o, o, "n-a", 20*time.Millisecond }
}

func TestARunThatOutlastsTheWaitIsAJob(t *testing.T) {
	o := &oneJob{}
	base, _ := serve(t, &house{}, leading(o))
	for _, path := range []string{"/v1/run", pathActions} {
		got := ask(t, "POST", base+path, "mk_run:app.*", `{"action":"app.x","on":{"all":true},"timeout_ms":10}`)
		if got.code != 202 || !strings.Contains(got.body, `"job":"`+jobID) || !strings.Contains(got.body, `"status":"running"`) {
			t.Errorf("%s: %d %s", path, got.code, got.body)
		}
	}
}

func TestAKeyStandsForOneJob(t *testing.T) {
	for _, c := range []struct {
		name, stands string // the job that the key stands for; empty: the new one
		err          error
		code         int
		says         string
		began        bool
		sent         string // to another node
	}{
		{"a new key", "", nil, 202, jobID, true, ""},
		{"of a job here", jobID, nil, 202, jobID, true, ""},
		{"of a job elsewhere", elsewhere, nil, 200, `"results"`, false, api.PathLead},
		{"of a node that is gone", strings.Replace(jobID, "n-a", "n-x", 1), nil, 410, "gone", false, ""},
		{"of another run", "", muster.Errorf(muster.Conflict, "another body").WithCode("idempotency_key_reused"), 409, "idempotency_key_reused", false, ""},
	} {
		o, h := &oneJob{}, &house{nodes: []muster.Node{{ID: "n-b", Slug: "b", Kind: muster.KindAgent}}}
		var asked muster.Write
		base, _ := serve(t, h, leading(o), func(cfg *httpserver.Config) {
			cfg.RunKey = func(_ context.Context, w muster.Write, job string) (string, error) {
				asked = w
				return cmp.Or(c.stands, job), c.err
			}
		})
		got := ask(t, "POST", base+"/v1/run", "mk_run:app.*", `{"action":"app.x","on":{"all":true},"key":"k"}`)
		if got.code != c.code || !strings.Contains(got.body, c.says) || (o.began.ID != "") != c.began {
			t.Errorf("%s: %d %s, began %+v", c.name, got.code, got.body, o.began)
		}
		if c.stands == jobID && o.began.ID != jobID {
			t.Errorf("%s: began %s", c.name, o.began.ID)
		}
		if sent := len(h.sent) > 0; sent != (c.sent != "") || sent && (h.sent[0].Path != c.sent || !strings.Contains(string(h.sent[0].Body), elsewhere)) {
			t.Errorf("%s: sent %+v", c.name, h.sent)
		}
		first := asked
		ask(t, "POST", base+"/v1/run", "mk_run:app.*", `{"on":{"all":true}, "action":"app.x","wait":false,"timeout_ms":9}`, api.HeaderIdempotency, "k")
		if asked.Digest != first.Digest || asked.Key != "k" || asked.Route != first.Route {
			t.Errorf("%s: the same run is another one: %+v, %+v", c.name, first, asked)
		}
		// Which parameters are secret changes with the catalogue: its leader compares them all.
		ask(t, "POST", base+"/v1/run", "mk_run:app.*", `{"action":"app.x","on":{"all":true},"key":"k","params":{"p":1}}`)
		if asked.Digest != first.Digest {
			t.Errorf("%s: parameters are in what the key stands for", c.name)
		}
		ask(t, "POST", base+"/v1/run", "mk_run:app.*", `{"action":"app.y","on":{"all":true},"key":"k"}`)
		if asked.Digest == first.Digest {
			t.Errorf("%s: another run is the same", c.name)
		}
	}
}

func TestAJobThatAKeyStandsForBeginsIfItDidNotUnlessItMayBeForgotten(t *testing.T) {
	older, newer := strings.Replace(jobID, "-8000-", "-7fff-", 1), strings.Replace(jobID, "-8000-", "-9000-", 1)
	for _, c := range []struct {
		name string
		kept []string // the newest first
		code int
	}{
		{"nothing was ever led here", nil, 202},
		{"an older one is kept", []string{newer, older}, 202},
		{"only newer ones are kept", []string{newer}, 410},
	} {
		o := &oneJob{unknown: true, kept: c.kept}
		base, _ := serve(t, &house{}, leading(o), func(cfg *httpserver.Config) {
			cfg.RunKey = func(context.Context, muster.Write, string) (string, error) { return jobID, nil }
		})
		got := ask(t, "POST", base+"/v1/run", "mk_run:app.*", `{"action":"app.x","on":{"all":true},"key":"k","wait":false}`)
		if got.code != c.code || (o.began.ID == jobID) != (c.code == 202) {
			t.Errorf("%s: %d %s, began %+v", c.name, got.code, got.body, o.began)
		}
	}
}

func TestANodeLeadsOnlyItsOwnJobsForAnother(t *testing.T) {
	o := &oneJob{}
	base, _ := serve(t, &house{}, leading(o))
	body := `{"job":"ID","action":"app.x","on":{"all":true},"key":"k"}`
	for id, code := range map[string]int{jobID: 200, elsewhere: 404, "x": 404} {
		if got := ask(t, "POST", base+api.PathLead, "a.node.token", strings.Replace(body, "ID", id, 1)); got.code != code {
			t.Errorf("%s: %d %s", id, got.code, got.body)
		}
	}
	if o.began.ID != jobID || o.began.Action != "app.x" {
		t.Errorf("%+v", o.began)
	}
}

func TestAJobIsTriedAgainByThoseWhoMayRunItsAction(t *testing.T) {
	o := &oneJob{}
	base, _ := serve(t, &house{}, leading(o))
	for _, c := range []struct {
		token, body string
		code        int
		says        string
	}{
		{"mk_run:app.*", `{"only":"unreachable"}`, 202, `"retry_of":"` + jobID},
		{"mk_run:app.*", "", 202, `"retry_of":"` + jobID},
		{"mk_run:app.*", `{"nolu":"failed"}`, 422, "nolu"},
		{"mk_run:web.*", "", 403, "run:app.x"},
	} {
		if got := ask(t, "POST", base+"/v1/jobs/"+jobID+"/retry", c.token, c.body); got.code != c.code || !strings.Contains(got.body, c.says) {
			t.Errorf("%+v: %d %s", c, got.code, got.body)
		}
	}
	if o.again.ID == "" {
		t.Error("it was given no ID")
	}
}

// follow reads a stream line by line until want has come, and returns all.
func follow(t *testing.T, lines *bufio.Scanner, want string) string {
	t.Helper()
	var all strings.Builder
	for lines.Scan() {
		all.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), want) {
			return all.String()
		}
	}
	t.Fatalf("no %q in\n%s", want, all.String())
	return ""
}

// streamed opens a stream, and returns its media type.
func streamed(t *testing.T, url, last string) (media string, lines *bufio.Scanner) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer mk_run:app.*")
	if last != "" {
		req.Header.Set(api.HeaderLastEvent, last)
	}
	got, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = got.Body.Close() })
	if got.StatusCode != http.StatusOK {
		t.Fatal(got.Status)
	}
	return got.Header.Get("Content-Type"), bufio.NewScanner(got.Body)
}

func TestEventsAreStreamedResumedAndEndWithTheJob(t *testing.T) {
	o := &oneJob{quiet: make(chan struct{})}
	base, _ := serve(t, &house{}, leading(o))
	media, lines := streamed(t, base+"/v1/jobs/"+jobID+"/events", "")
	if media != "text/event-stream" {
		t.Errorf("it is %s", media)
	}
	first := follow(t, lines, ": heartbeat")
	if strings.Count(first, "event: log\n") != 2 || !strings.HasPrefix(first, "id: 1\nevent: log\ndata: {\"seq\":1,") || !strings.Contains(first, `line\nline`) {
		t.Errorf("%s", first)
	}
	_, resumed := streamed(t, base+"/v1/jobs/"+jobID+"/events", "1")
	if text := follow(t, resumed, ": heartbeat"); strings.Contains(text, "id: 1\n") || !strings.HasPrefix(text, "id: 2\n") {
		t.Errorf("resumed: %s", text)
	}
	_, known := streamed(t, base+"/v1/jobs/"+jobID+"/events", "2")
	if text := follow(t, known, ": heartbeat") + follow(t, known, ": heartbeat"); strings.Contains(text, "id: ") {
		t.Errorf("who knows all is told again: %s", text)
	}
	close(o.quiet)
	for _, rest := range []*bufio.Scanner{lines, resumed} {
		follow(t, rest, "event: summary")
		for rest.Scan() {
		}
		if rest.Err() != nil {
			t.Errorf("after the end: %v", rest.Err())
		}
	}
}

func TestAStreamEndsWhenTheServerStops(t *testing.T) {
	o := &oneJob{quiet: make(chan struct{})}
	base, s := serve(t, &house{}, leading(o), func(c *httpserver.Config) { c.Heartbeat = time.Hour })
	_, lines := streamed(t, base+"/v1/jobs/"+jobID+"/events", "")
	follow(t, lines, "id: 2")
	began := time.Now()
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	for lines.Scan() {
	}
	if lines.Err() != nil || time.Since(began) > time.Second {
		t.Errorf("%v after %v", lines.Err(), time.Since(began))
	}
}

// fickle lets a key in until it is revoked.
type fickle struct {
	*house

	revoked chan struct{}
}

func (f fickle) Key(ctx context.Context, plain string) (muster.Rights, error) {
	select {
	case <-f.revoked:
		return muster.Rights{}, muster.Errorf(muster.Unauthorized, "Invalid API key")
	default:
		return f.house.Key(ctx, plain)
	}
}

func TestAStreamEndsWhenItsReadersKeyIsRevoked(t *testing.T) {
	o, f := &oneJob{quiet: make(chan struct{})}, fickle{&house{}, make(chan struct{})}
	base, _ := serve(t, f.house, leading(o), func(c *httpserver.Config) { c.Auth = f })
	_, lines := streamed(t, base+"/v1/jobs/"+jobID+"/events", "")
	follow(t, lines, "heartbeat")
	close(f.revoked)
	follow(t, lines, "event: error")
	if text := follow(t, lines, "data: "); !strings.Contains(text, `"code":"unauthorized"`) || !strings.Contains(text, `"status":401`) {
		t.Errorf("%s", text)
	}
	for lines.Scan() {
	}
	if lines.Err() != nil {
		t.Error(lines.Err())
	}
}

func TestAStreamIsRefusedWithAnAnswerBeforeItBegins(t *testing.T) {
	o := &oneJob{}
	base, _ := serve(t, &house{nodes: []muster.Node{{ID: "n-b", Slug: "b", Kind: muster.KindAgent}}, lost: muster.Errorf(muster.Unavailable, "away")}, leading(o))
	for _, c := range []struct {
		id, token, last string
		code            int
		says            string
	}{
		{jobID, "mk_run:web.*", "", 403, "run:app.x"},
		{jobID, "mk_run:app.*", "x", 422, "Last-Event-ID"},
		{"x", "mk_run:app.*", "", 404, "no job"},
		{elsewhere, "mk_run:app.*", "", 503, "node b"},
	} {
		if got := ask(t, "GET", base+"/v1/jobs/"+c.id+"/events", c.token, "", api.HeaderLastEvent, c.last); got.code != c.code || !strings.Contains(got.body, c.says) {
			t.Errorf("%+v: %d %s", c, got.code, got.body)
		}
	}
}

func TestJobsOfAllNodesAreOneListAndWhoIsMissingIsNamed(t *testing.T) {
	o := &oneJob{}
	later := strings.Replace(elsewhere, "000000000001", "000000000002", 1)
	base, _ := serve(t, &house{}, leading(o), func(c *httpserver.Config) {
		c.EveryJob = func(_ context.Context, f api.JobFilter) ([]api.Jobs, []string) {
			if f.Cursor != "" {
				return nil, nil
			}
			return []api.Jobs{{Jobs: []muster.Job{{RunAnswer: muster.RunAnswer{Job: later}}}}}, []string{"c"}
		}
	})
	got := ask(t, "GET", base+"/v1/jobs?scope=cluster&limit=1", "mk_run:app.*", "")
	if got.code != 200 || !strings.Contains(got.body, `"job":"`+later) || strings.Contains(got.body, jobID) || !strings.Contains(got.body, `"missing":["c"],"cursor":"`+later) {
		t.Errorf("%d %s", got.code, got.body)
	}
	if got = ask(t, "GET", base+"/v1/jobs?scope=cluster&limit=1&cursor="+later, "mk_run:app.*", ""); !strings.Contains(got.body, jobID) || strings.Contains(got.body, "cursor") {
		t.Errorf("%d %s", got.code, got.body)
	}
	for query, says := range map[string]string{
		"scope=all": "scope", "scope=cluster&node=b": "node", "status=done": "status", "limit=0": "limit",
	} {
		if got := ask(t, "GET", base+"/v1/jobs?"+query, "mk_run:app.*", ""); got.code != 422 || !strings.Contains(got.body, says) {
			t.Errorf("%s: %d %s", query, got.code, got.body)
		}
	}
	if got = ask(t, "GET", base+"/v1/jobs?status=failed", "mk_run:app.*", ""); got.body != `{"jobs":[]}` {
		t.Errorf("%s", got.body)
	}
	if got = ask(t, "GET", base+"/v1/jobs?action=app.x&status=running", "mk_run:app.*", ""); !strings.Contains(got.body, jobID) {
		t.Errorf("%s", got.body)
	}
}

func TestAPageOfJobsReadsNoMoreThanItNeeds(t *testing.T) {
	o := &oneJob{unknown: true}
	for i := range 500 {
		o.kept = append(o.kept, fmt.Sprintf("j_n-a_01890000-0000-7000-8000-%012d", 500-i))
	}
	base, _ := serve(t, &house{}, withActions(&hands{}), func(c *httpserver.Config) { c.Runner, c.Jobs, c.ID = o, o, "n-a" })
	cursor := ""
	for n := range 3 {
		o.read = 0
		var page api.Jobs
		if got := ask(t, "GET", base+"/v1/jobs?limit=10&cursor="+cursor, "mk_run:app.*", ""); json.Unmarshal([]byte(got.body), &page) != nil || len(page.Jobs) != 10 ||
			page.Jobs[0].Job != o.kept[10*n] || page.Cursor != o.kept[10*n+9] {
			t.Fatalf("page %d: %+v", n, page)
		}
		if cursor = page.Cursor; o.read > 12 { // the cursor's own, and the first of the next page
			t.Errorf("page %d: %d jobs were read", n, o.read)
		}
	}
}

func TestOnlyTheNodeThatLeadsAJobIsToldWhatBecameOfIt(t *testing.T) {
	base, _ := serve(t, &house{}, func(c *httpserver.Config) {
		c.ID, c.Outcome = "n-a", func(string) (muster.Outcome, error) { return muster.Outcome{Known: true}, nil }
	})
	mine := strings.Replace(jobID, "n-a", "1", 1) // the node that signs
	for _, c := range []struct {
		job, token string
		code       int
	}{
		{mine, "a.b.c", 200}, {jobID, "a.b.c", 404}, {"", "a.b.c", 404}, {"j_1_x", "a.b.c", 404}, {mine, "mk_admin", 403},
	} {
		if got := ask(t, "GET", base+api.PathOutcome+"?job="+c.job, c.token, ""); got.code != c.code || (c.code == 200) != strings.Contains(got.body, `"known":true`) {
			t.Errorf("%q by %s: %d %s", c.job, c.token, got.code, got.body)
		}
	}
}
