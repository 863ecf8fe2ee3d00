package httpserver_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"muster"
	"muster/httpserver"
	"muster/httpserver/api"
)

const awayID = "j_n-b_01890000-0000-7000-8000-000000000002"

// lately is a node whose one job ends when it was looked at so many times.
type lately struct {
	mu    sync.Mutex
	first string     // the job of the key
	looks int        // guarded by mu
	asked muster.Run // guarded by mu
	err   error      // of a look
}

func (l *lately) job() muster.Job {
	j := muster.Job{RunAnswer: muster.RunAnswer{Job: jobID, Action: "app.x", Success: true, Results: map[string]muster.Result{"a": {Node: "a", Success: true, State: muster.StateOK}}}, Status: muster.JobSucceeded}
	if l.looks > 0 {
		j.Status, j.Success = muster.JobRunning, false
	}
	l.looks--
	return j
}

func (l *lately) Begin(_ context.Context, _ muster.Rights, r muster.Run) (muster.Job, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = r
	if l.first != "" {
		return muster.Job{RunAnswer: muster.RunAnswer{Job: l.first}}, nil
	}
	return l.job(), nil
}

func (*lately) Run(context.Context, muster.Rights, muster.Run) (muster.RunAnswer, error) {
	return muster.RunAnswer{}, errors.New("a run with a key is a job")
}

func (*lately) Cancel(context.Context, muster.Rights, string) (muster.Job, error) {
	return muster.Job{}, nil
}

func (l *lately) Job(string) (muster.Job, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.job(), l.err
}

func (*lately) Jobs() ([]muster.Job, error) { return nil, nil }

func TestARunWithAKeyIsTheJobOfItsKey(t *testing.T) {
	away := func(status string) func(context.Context, muster.Node, muster.Rights, api.Request) (api.Response, error) {
		return func(_ context.Context, to muster.Node, _ muster.Rights, r api.Request) (api.Response, error) {
			if status == "" {
				return api.Response{}, muster.Errorf(muster.Unavailable, "no route")
			}
			if to.ID != "n-b" || !strings.HasPrefix(r.Path, "/v1/jobs/"+awayID) {
				t.Errorf("asked %s for %s", to.ID, r.Path)
			}
			return api.Response{Status: 200, Body: []byte(`{"job":"` + awayID + `","status":"` + status + `","success":true,"results":{"b":{"node":"b","state":"ok","success":true}}}`)}, nil
		}
	}
	const body = `{"action":"app.x","on":{"all":true},"key":"k"}`
	for _, c := range []struct {
		name, path, body string
		header           []string
		l                *lately
		away             string
		code             int
		says             string
	}{
		{"it ends", "/v1/run", body, nil, &lately{looks: 3}, "", 200, `"success":true`},
		{"the key as header", "/v1/run", `{"action":"app.x","on":{"all":true}}`, []string{api.HeaderIdempotency, "k"}, &lately{}, "", 200, jobID},
		{"it outlasts the wait", "/v1/run", `{"action":"app.x","on":{"all":true},"key":"k","timeout_ms":30}`, nil, &lately{looks: 1 << 30}, "", 202, `"status":"running"`},
		{"nobody waits", "/v1/run", `{"action":"app.x","on":{"all":true},"key":"k","wait":false}`, nil, &lately{looks: 1 << 30}, "", 202, `"status":"running"`},
		{"begun at another node", "/v1/run", body, nil, &lately{first: awayID}, "succeeded", 200, `"b":{`},
		{"begun there, nobody waits", "/v1/run", `{"action":"app.x","on":{"all":true},"key":"k","wait":false}`, nil, &lately{first: awayID}, "running", 202, awayID},
		{"begun at a node that is gone", "/v1/run", body, nil, &lately{first: awayID}, "", 503, "kept by node b"},
		{"never begun", "/v1/run", body, nil, &lately{first: jobID, err: muster.Errorf(muster.NotFound, "no job")}, "", 409, "job_lost"},
		{"on this node alone", pathActions, `{"action":"app.x","key":"k"}`, nil, &lately{looks: 2}, "", 200, `"node":"a"`},
	} {
		house := &house{nodes: []muster.Node{{ID: "n-a", Slug: "a"}, {ID: "n-b", Slug: "b"}}}
		base, _ := serve(t, house, withActions(&hands{}), func(cfg *httpserver.Config) {
			cfg.Runner, cfg.Jobs, cfg.ID, cfg.Forward = c.l, c.l, "n-a", forwards(away(c.away))
		})
		got := ask(t, "POST", base+c.path, "mk_run:app.*", c.body, c.header...)
		if got.code != c.code || !strings.Contains(got.body, c.says) {
			t.Errorf("%s: %d %s", c.name, got.code, got.body)
		}
		if c.l.asked.Key != "k" || len(c.l.asked.Digest) != 64 {
			t.Errorf("%s: begun %+v", c.name, c.l.asked)
		}
	}
}

type forwards func(context.Context, muster.Node, muster.Rights, api.Request) (api.Response, error)

func (f forwards) Forward(ctx context.Context, to muster.Node, by muster.Rights, r api.Request) (api.Response, error) {
	return f(ctx, to, by, r)
}
