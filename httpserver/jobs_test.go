package httpserver_test

import (
	"context"
	"strings"
	"testing"

	"muster"
	"muster/httpserver"
)

const jobID = "j_n-a_01890000-0000-7000-8000-000000000001"

// oneJob is a node that leads one job.
type oneJob struct{ began muster.Run }

func (o *oneJob) job() muster.Job {
	return muster.Job{RunAnswer: muster.RunAnswer{Job: jobID, Action: "app.x", Results: map[string]muster.Result{}}, Status: muster.JobRunning}
}

func (o *oneJob) Begin(_ context.Context, _ muster.Rights, r muster.Run) (muster.Job, error) {
	o.began = r
	return o.job(), nil
}

func (o *oneJob) Run(context.Context, muster.Rights, muster.Run) (muster.RunAnswer, error) {
	return muster.RunAnswer{}, nil
}

func (o *oneJob) Cancel(context.Context, muster.Rights, string) (muster.Job, error) {
	return o.job(), nil
}

func (o *oneJob) Job(string) (muster.Job, error) { return o.job(), nil }

func (o *oneJob) Jobs() ([]muster.Job, error) { return []muster.Job{o.job()}, nil }

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
