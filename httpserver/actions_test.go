package httpserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/httpserver"
	"muster/httpserver/api"
)

// hands stands for actions that do what the test says.
type hands struct {
	refuse error
	result muster.Result
	answer muster.RunAnswer
	asked  muster.Run
	done   muster.Execution
	by     muster.Rights
	left   time.Duration // until the deadline
	infos  []muster.ActionInfo
	block  chan struct{} // nil, or what Execute waits for
	killed chan struct{} // closed when it was killed meanwhile

	stubborn bool // cannot be killed
}

func (h *hands) Admit(muster.Rights, muster.Execution) error { return h.refuse }

func (h *hands) Infos() []muster.ActionInfo {
	if h.infos != nil {
		return slices.Clone(h.infos)
	}
	return []muster.ActionInfo{{Action: "app.x", Version: "1"}}
}

func (h *hands) Execute(ctx context.Context, by muster.Rights, e muster.Execution) muster.Result {
	h.note(ctx, by)
	h.done = e
	if h.block == nil {
		return h.result
	}
	if h.stubborn {
		<-h.block
		return h.result
	}
	select {
	case <-h.block:
	case <-ctx.Done():
		close(h.killed)
	}
	return h.result
}

func (h *hands) Begin(context.Context, muster.Rights, muster.Run) (muster.Job, error) {
	return muster.Job{}, h.refuse
}

func (h *hands) Judge(muster.Rights, muster.Run) error { return h.refuse }

func (h *hands) Run(ctx context.Context, by muster.Rights, r muster.Run) (muster.Job, error) {
	h.note(ctx, by)
	h.asked = r
	return muster.Job{RunAnswer: h.answer}, nil
}

func (h *hands) note(ctx context.Context, by muster.Rights) {
	h.by = by
	end, _ := ctx.Deadline()
	h.left = time.Until(end)
}

func (h *hands) Catalog(context.Context) ([]muster.ActionInfo, []string) {
	return []muster.ActionInfo{{Action: "app.x", Nodes: []string{"a", "b"}}, {Action: "app.y", Nodes: []string{"b"}}}, []string{"c"}
}

func withActions(h *hands) func(*httpserver.Config) {
	return func(c *httpserver.Config) {
		c.Actions, c.Runner = h, h
		c.RunKey = func(_ context.Context, _ muster.Write, job string) (string, error) { return job, nil }
	}
}

const pathActions = "/api/ai-engine/actions"

func TestAnActionOnThisNodeTellsWhatBecameOfIt(t *testing.T) {
	for _, c := range []struct {
		name, token, body string
		result            muster.Result
		code              int
		says              string
	}{
		{"done", "mk_run:app.*", `{"action":"app.x","params":{"a":1}}`, muster.Result{Success: true, State: muster.StateOK, Result: json.RawMessage(`{}`)}, 200, `"result":{}`},
		{"failed", "mk_run:app.*", `{"action":"app.x"}`, muster.Result{State: muster.StateFailed, Error: &muster.ActionError{Code: "exit"}}, 200, `"code":"exit"`},
		{"not its scope", "mk_run:web.*", `{"action":"app.x"}`, muster.Result{}, 403, "run:app.x"},
		{"another glob", "mk_run:app.x", `{"action":"app.*"}`, muster.Result{}, 403, ""},
		{"no action", "mk_admin", `{}`, muster.Result{}, 422, `"action"`},
		{"how without on", "mk_admin", `{"action":"app.x","how":{"mode":"serial"}}`, muster.Result{}, 422, `"how"`},
		{"negative", "mk_admin", `{"action":"app.x","timeout_ms":-1}`, muster.Result{}, 422, `"timeout_ms"`},
		{"misspelt", "mk_admin", `{"action":"app.x","onn":{}}`, muster.Result{}, 422, `"onn"`},
		{"misspelt inside", "mk_admin", `{"action":"app.x","on":{"nodse":[]}}`, muster.Result{}, 422, `"on.nodse"`},
		{"a long key", "mk_admin", `{"action":"app.x","key":"` + strings.Repeat("k", 256) + `"}`, muster.Result{}, 422, `"key"`},
	} {
		h := &hands{result: c.result}
		base, _ := serve(t, &house{nodes: []muster.Node{{ID: "1", Slug: "a"}}}, withActions(h))
		got := ask(t, "POST", base+pathActions, c.token, c.body)
		if got.code != c.code || !strings.Contains(got.body, c.says) {
			t.Errorf("%s: %d %s", c.name, got.code, got.body)
		}
		if got.code == 200 && (!strings.HasPrefix(h.done.Job, "j_1_") || h.by.Principal != "key:1") {
			t.Errorf("%s: asked %+v by %+v", c.name, h.done, h.by)
		}
	}
}

func TestANodeTellsOfTheNamedActionsAndOfThoseThatUndoThem(t *testing.T) {
	h := &hands{infos: []muster.ActionInfo{
		{Action: "app.do", Undo: &muster.TxUndo{Action: "app.undo"}}, {Action: "app.undo"}, {Action: "app.other", Undo: &muster.TxUndo{Action: "app.do"}}, {Action: "web.hidden"},
	}}
	base, _ := serve(t, &house{nodes: []muster.Node{{ID: "1", Slug: "a"}}, behind: []string{"run:app.*"}}, withActions(h))
	for names, want := range map[string][]string{
		"":                           {"app.do", "app.undo", "app.other"},
		"?names=":                    {"app.do", "app.undo", "app.other"},
		"?names=app.do":              {"app.do", "app.undo"},
		"?names=app.undo":            {"app.undo"},
		"?names=app.undo%2Capp.do":   {"app.do", "app.undo"},
		"?names=web.hidden%2Capp.no": {},
	} {
		got := ask(t, "GET", base+api.PathActions+names, "a.node", "")
		var list api.Actions
		if err := json.Unmarshal([]byte(got.body), &list); err != nil || got.code != 200 {
			t.Fatalf("%s: %d %s", names, got.code, got.body)
		}
		told := make([]string, 0, len(list.Actions))
		for _, a := range list.Actions {
			told = append(told, a.Action)
		}
		if !slices.Equal(told, want) {
			t.Errorf("%s: %v, not %v", names, told, want)
		}
	}
}

func TestARefusedActionIsAnErrorAndIsNotStarted(t *testing.T) {
	for code, err := range map[int]error{
		400: muster.Errorf(muster.Malformed, "no action here").WithCode("unknown_action"),
		403: muster.Errorf(muster.Forbidden, "its risk is too high"),
		422: muster.FieldError("params.a", "must be a number"),
	} {
		h := &hands{refuse: err}
		base, _ := serve(t, &house{}, withActions(h))
		got := ask(t, "POST", base+pathActions, "mk_run:app.*", `{"action":"app.x"}`)
		if got.code != code || !strings.Contains(got.body, muster.CodeOf(err)) || h.done.Action != "" {
			t.Errorf("%d %s, done %+v", got.code, got.body, h.done)
		}
	}
}

func TestTheEndOfTheWaitIsNotTheEndOfTheWork(t *testing.T) {
	for path, c := range map[string]struct {
		token, body string
		code        int
		says        string
	}{
		pathActions: {"mk_run:app.*", `{"action":"app.x","timeout_ms":50}`, 200, `"success":false,"action":"app.x","node":"a","state":"unknown","error":{"code":"no_answer"`},
		api.PathRun: {"a.node.token", `{"action":"app.x","job":"j"}`, 504, "outcome_unknown"},
	} {
		for _, stopped := range []bool{false, true} {
			h := &hands{block: make(chan struct{}), killed: make(chan struct{})}
			base, s := serve(t, &house{nodes: []muster.Node{{ID: "1", Slug: "a"}}}, withActions(h))
			got := ask(t, "POST", base+path, c.token, c.body, api.HeaderTimeout, "100")
			if got.code != c.code || !strings.Contains(got.body, c.says) {
				t.Errorf("%s: %d %s", path, got.code, got.body)
			}
			if stopped {
				if err := s.Stop(t.Context()); err != nil {
					t.Error(err)
				}
				<-h.killed
				continue
			}
			select {
			case h.block <- struct{}{}: // it was still at work
			case <-h.killed:
				t.Errorf("%s: it was killed with the wait", path)
			}
		}
	}
}

func TestARunGoesToTheRunnerWithItsTime(t *testing.T) {
	all := muster.RunAnswer{Job: "j_1_2", Success: true, Results: map[string]muster.Result{"a": {Success: true, Node: "a"}}}
	for _, c := range []struct {
		name, path, body string
		header           []string
		answer           muster.RunAnswer
		code             int
		says             string
		most             time.Duration
	}{
		{"all", "/v1/run", `{"action":"app.x","on":{"all":true}}`, nil, all, 200, `"job":"j_1_2"`, 30 * time.Second},
		{"by the node protocol", pathActions, `{"action":"app.x","on":{"all":true}}`, nil, all, 200, `"job":"j_1_2"`, 30 * time.Second},
		{"the body's time", "/v1/run", `{"action":"app.x","on":{"all":true},"timeout_ms":60000}`, nil, all, 200, "", time.Minute},
		{"the header's time", "/v1/run", `{"action":"app.x","on":{"all":true}}`, []string{api.HeaderTimeout, "50000"}, all, 200, "", 50 * time.Second},
		{"the smaller of both", "/v1/run", `{"action":"app.x","on":{"all":true},"timeout_ms":60000}`, []string{api.HeaderTimeout, "50000"}, all, 200, "", 50 * time.Second},
		{"a longer header", "/v1/run", `{"action":"app.x","on":{"all":true}}`, []string{api.HeaderTimeout, "3600000"}, all, 200, "", 10 * time.Minute},
		{"a longer body", "/v1/run", `{"action":"app.x","on":{"all":true},"timeout_ms":600001}`, nil, all, 422, `"timeout_ms"`, 0},
		{"two keys", "/v1/run", `{"action":"app.x","on":{"all":true},"key":"k"}`, []string{api.HeaderIdempotency, "l"}, all, 422, `"key"`, 0},
		{"no target", "/v1/run", `{"action":"app.x"}`, nil, all, 422, `"on"`, 0},
		{"a key for this node alone", pathActions, `{"action":"app.x","key":"k"}`, nil, all, 200, `"success":true,"action":"app.x","node":"a"`, 30 * time.Second},
		{"nobody waits", pathActions, `{"action":"app.x","wait":false}`, nil, all, 422, `"wait"`, 0},
	} {
		h := &hands{answer: c.answer}
		base, _ := serve(t, &house{nodes: []muster.Node{{ID: "1", Slug: "a"}}}, withActions(h))
		got := ask(t, "POST", base+c.path, "mk_run:app.*", c.body, c.header...)
		if got.code != c.code || !strings.Contains(got.body, c.says) {
			t.Errorf("%s: %d %s", c.name, got.code, got.body)
		}
		if c.most > 0 && (h.asked.Action != "app.x" || h.left > c.most || h.left < c.most-10*time.Second || time.Duration(h.asked.TimeoutMs)*time.Millisecond > c.most) {
			t.Errorf("%s: asked %+v with %v left", c.name, h.asked, h.left)
		}
	}
}

func TestANodeWithoutActionsSaysSo(t *testing.T) {
	base, _ := serve(t, &house{})
	for _, c := range []struct {
		method, path, token, body string
		code                      int
		says                      string
	}{
		{"GET", "/v1/actions", "mk_read", "", 200, `{"actions":[]}`},
		{"GET", "/v1/actions/app.x", "mk_read", "", 404, "app.x"},
		{"POST", "/v1/run", "mk_admin", `{"action":"app.x","on":{"all":true}}`, 422, `"on"`},
		{"POST", pathActions, "mk_admin", `{"action":"app.x"}`, 400, "unknown_action"},
		{"POST", api.PathRun, "a.node.token", `{"action":"app.x","job":"j"}`, 400, "unknown_action"},
		{"GET", "/v1/jobs/x/output/a", "mk_run:app.*", "", 404, "no node"},
		{"GET", "/v1/jobs/x/output/1", "mk_run:app.*", "", 404, "no job"},
	} {
		if got := ask(t, c.method, base+c.path, c.token, c.body); got.code != c.code || !strings.Contains(got.body, c.says) {
			t.Errorf("%s %s: %d %s", c.method, c.path, got.code, got.body)
		}
	}
}

func TestACallOfANodeIsCheckedForItsCallersRights(t *testing.T) {
	h := &hands{result: muster.Result{Success: true, State: muster.StateNoop}}
	base, _ := serve(t, &house{nodes: []muster.Node{{ID: "1", Slug: "a", Name: "A"}}}, withActions(h))
	if got := ask(t, "POST", base+api.PathRun, "a.node.token", `{"action":"app.x","job":"j"}`); got.code != 200 || !strings.Contains(got.body, `"node":"a","node_name":"A","success":true,"state":"noop"`) {
		t.Errorf("%d %s", got.code, got.body)
	}
	if got := ask(t, "POST", base+api.PathRun, "a.node.token", `{"action":"web.x","job":"j"}`); got.code != 403 {
		t.Errorf("an action beyond the caller's: %d %s", got.code, got.body)
	}
}

func TestTheCatalogIsOfAllNodes(t *testing.T) {
	h := &hands{}
	base, _ := serve(t, &house{}, withActions(h), func(c *httpserver.Config) { c.Catalog = h })
	for path, want := range map[string]int{"/v1/actions": 2, "/v1/actions/app.x": 1} {
		var got api.Actions
		a := ask(t, "GET", base+path, "mk_read", "")
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || len(got.Actions) != want || len(got.Actions[0].Nodes) != 2 {
			t.Errorf("%s: %v %s", path, err, a.body)
		}
	}
}

func TestARunCarriesAsManyDocumentsAsABodyOfThemMay(t *testing.T) {
	h := &hands{result: muster.Result{Success: true, State: muster.StateOK}, answer: muster.RunAnswer{Results: map[string]muster.Result{}}}
	base, s := serve(t, &house{}, withActions(h))
	limits := map[string]int{}
	for _, r := range s.Routes() {
		limits[r.Path] = max(limits[r.Path], r.Body)
	}
	large := `{"action":"app.x","params":{"a":"` + strings.Repeat("x", 2<<20) + `"}` // over the limit of other routes
	for _, c := range []struct{ path, token, rest string }{
		{pathActions, "mk_run:app.*", `}`},
		{"/v1/run", "mk_run:app.*", `,"on":{"all":true}}`},
		{api.PathRun, "a.node.token", `,"job":"j_1_2"}`},
	} {
		if got := ask(t, "POST", base+c.path, c.token, large+c.rest); got.code != 200 {
			t.Errorf("%s: %d %s", c.path, got.code, got.body)
		}
		if got := ask(t, "POST", base+c.path, c.token, strings.Repeat("x", limits[c.path]+1)); got.code != 413 {
			t.Errorf("%s, too large: %d %s", c.path, got.code, got.body)
		}
	}
	if documents := limits["/v1/documents"]; limits["/v1/run"] != documents || limits[pathActions] != documents || limits[api.PathRun] <= documents {
		t.Errorf("what is sent on is longer than what came: %v", limits)
	}
}

func TestStoppingDoesNotWaitLongerThanItMay(t *testing.T) {
	h := &hands{block: make(chan struct{}), killed: make(chan struct{}), stubborn: true}
	base, s := serve(t, &house{}, withActions(h))
	if got := ask(t, "POST", base+pathActions, "mk_run:app.*", `{"action":"app.x","timeout_ms":20}`); got.code != 200 {
		t.Fatalf("%d %s", got.code, got.body)
	}
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Stop(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it was stopped while something ran on: %v", err)
	}
	close(h.block)
}

func TestTheCatalogComesInPages(t *testing.T) {
	h := &hands{}
	base, _ := serve(t, &house{}, withActions(h), func(c *httpserver.Config) { c.Catalog = h })
	client := &api.Client{Addrs: []string{base}, Key: "mk_read"}
	var page api.Actions
	for i, want := range []string{"app.x", "app.y"} {
		got := ask(t, "GET", base+"/v1/actions?limit=1&cursor="+url.QueryEscape(page.Cursor), "mk_read", "")
		page = api.Actions{}
		if err := json.Unmarshal([]byte(got.body), &page); err != nil || len(page.Actions) != 1 || page.Actions[0].Action != want || (page.Cursor == "") != (i == 1) {
			t.Errorf("page %d: %v %s", i, err, got.body)
		}
	}
	if all, err := client.Actions(t.Context()); err != nil || len(all.Actions) != 2 || len(all.Missing) != 1 {
		t.Errorf("%+v %v", all, err)
	}
	if got := ask(t, "GET", base+"/v1/actions?limit=0", "mk_read", ""); got.code != 422 || !strings.Contains(got.body, `"limit"`) {
		t.Errorf("%d %s", got.code, got.body)
	}
}

func TestACallerNamesAnActionAndNothingOfHowItIsDone(t *testing.T) {
	h := &hands{}
	base, _ := serve(t, &house{}, withActions(h))
	for _, field := range []string{"argv", "handler", "command", "url", "env", "run_as", "cwd", "stdin", "definition", "Action"} {
		for _, path := range []string{"/v1/run", pathActions} {
			got := ask(t, "POST", base+path, "mk_run:*", `{"action":"app.x","on":{"all":true},"`+field+`":"/bin/sh"}`)
			if got.code != 422 || !strings.Contains(got.body, `"`+field+`"`) {
				t.Errorf("%s %s: %d %s", path, field, got.code, got.body)
			}
		}
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		for _, path := range []string{"/v1/actions", "/v1/actions/app.x"} {
			if got := ask(t, method, base+path, "mk_admin", `{"action":"app.x"}`); got.code != 405 {
				t.Errorf("%s %s: %d", method, path, got.code)
			}
		}
	}
	if h.asked.Action != "" || h.done.Action != "" {
		t.Errorf("something was run: %+v %+v", h.asked, h.done)
	}
}
