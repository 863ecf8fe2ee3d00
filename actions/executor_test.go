package actions_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"muster"
	"muster/actions"
)

// documents is an index that remembers what it was told.
type documents struct {
	mu      sync.Mutex
	added   string   // guarded by mu
	deleted []string // guarded by mu
	err     error
	panics  bool
}

func (d *documents) Add(_ context.Context, ndjson []byte) (muster.Indexed, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.panics {
		panic("no index")
	}
	d.added += string(ndjson)
	out := muster.Indexed{Errors: []muster.LineError{}}
	for i, line := range strings.Split(strings.TrimSpace(string(ndjson)), "\n") {
		if !strings.Contains(line, `"id"`) {
			out.Failed++
			out.Errors = append(out.Errors, muster.LineError{Line: i + 1, Message: "id is missing"})
			continue
		}
		out.Indexed++
	}
	return out, d.err
}

func (d *documents) Delete(_ context.Context, collection string, ids []string) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, id := range ids {
		if id != "unknown" {
			d.deleted = append(d.deleted, collection+"/"+id)
			n++
		}
	}
	return n, d.err
}

func (d *documents) Stats(context.Context) (muster.IndexStats, error) {
	return muster.IndexStats{Generation: 7, Docs: 3}, d.err
}

func run(t *testing.T, e *actions.Executor, action, params string) muster.Result {
	t.Helper()
	return e.Execute(t.Context(), operator(), muster.Execution{Action: action, Params: given(t, params), Job: "j_1"})
}

func TestBuiltinActionsDoWhatTheySay(t *testing.T) {
	docs := &documents{}
	e := executor(t, actions.ExecutorConfig{Docs: docs})
	for _, c := range []struct {
		action, params string
		state          muster.State
		result         string
	}{
		{"node.ping", `{}`, muster.StateOK, `{"node_id":"n-self","pong":true,"version":"` + muster.Version + `"}`},
		{"node.echo", `{"text":"<a> é"}`, muster.StateOK, `{"text":"<a> é"}`},
		{"node.sleep", `{"for":"1ms"}`, muster.StateOK, `{"slept":"1ms"}`},
		{"index.refresh", `{}`, muster.StateNoop, `{"docs":3,"generation":7}`},
		{"index.delete", `{"ids":["a","unknown"]}`, muster.StateOK, `{"deleted":1}`},
		{"index.delete", `{"ids":["b"],"collection":"news"}`, muster.StateOK, `{"deleted":1}`},
		{"index.delete", `{"ids":["unknown"]}`, muster.StateNoop, `{"deleted":0}`},
		{"index.add", `{"documents":[{"id":"1","metadata":{"n":9007199254740993}}]}`, muster.StateOK, `{"indexed":1,"updated":0,"failed":0,"errors":[],"generation":0}`},
		{"index.update", `{"documents":[{"id":"2"},{"no":1}]}`, muster.StateFailed, `{"indexed":1,"updated":0,"failed":1,"errors":[{"line":2,"message":"id is missing"}],"generation":0}`},
	} {
		r := run(t, e, c.action, c.params)
		var same string
		if json.Unmarshal(r.Result, new(any)) == nil {
			same = string(r.Result)
		}
		same = strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(same)
		if r.State != c.state || r.Success != (c.state != muster.StateFailed) || same != c.result {
			t.Errorf("%s %s: %s %s %+v", c.action, c.params, r.State, r.Result, r.Error)
		}
	}
	if docs.added != "{\"id\":\"1\",\"metadata\":{\"n\":9007199254740993}}\n{\"id\":\"2\"}\n{\"no\":1}\n" {
		t.Errorf("the index was given %q", docs.added)
	}
	if !slices.Equal(docs.deleted, []string{"default/a", "news/b"}) {
		t.Error(docs.deleted)
	}
}

func TestNodeWithoutIndexOffersNoneOfItsActions(t *testing.T) {
	offers := func(e *actions.Executor) []string {
		names := make([]string, 0, 7)
		for _, info := range e.Infos() {
			names = append(names, info.Action+" "+string(info.Risk))
		}
		return names
	}
	bare := executor(t, actions.ExecutorConfig{})
	with, without := offers(executor(t, actions.ExecutorConfig{Docs: &documents{}})), offers(bare)
	node := []string{"node.echo read", "node.ping read", "node.sleep read"}
	index := []string{"index.add low", "index.delete medium", "index.refresh low", "index.update low"}
	if !slices.Equal(without, node) || !slices.Equal(with, slices.Concat(index, node)) {
		t.Fatal(with, without)
	}
	if r := run(t, bare, "index.refresh", `{}`); r.State != muster.StateInvalid || r.Error.Code != "unknown_action" {
		t.Fatalf("%+v", r)
	}
}

// answers counts what a cache holds.
type answers int

func (a *answers) FlushCache() int {
	n := int(*a)
	*a = 0
	return n
}

func TestTheCacheOfAnswersIsEmptiedWhereThereIsOne(t *testing.T) {
	e := executor(t, actions.ExecutorConfig{Cache: new(answers(3))})
	for _, want := range []struct {
		state  muster.State
		result string
	}{{muster.StateOK, `{"deleted":3}`}, {muster.StateNoop, `{"deleted":0}`}} {
		if r := run(t, e, "cache.flush", `{}`); r.State != want.state || string(r.Result) != want.result {
			t.Errorf("%+v", r)
		}
	}
	if r := run(t, executor(t, actions.ExecutorConfig{}), "cache.flush", `{}`); r.State != muster.StateInvalid || r.Error.Code != "unknown_action" {
		t.Errorf("%+v", r)
	}
}

func TestErrorsOfTheIndexBecomeStates(t *testing.T) {
	for kind, want := range map[muster.Kind]muster.State{
		muster.OutcomeUnknown: muster.StateUnknown, muster.Invalid: muster.StateInvalid, muster.Unavailable: muster.StateFailed,
		muster.Forbidden: muster.StateDenied, muster.Internal: muster.StateFailed,
	} {
		e := executor(t, actions.ExecutorConfig{Docs: &documents{err: muster.Errorf(kind, "so it is")}})
		if r := run(t, e, "index.refresh", `{}`); r.State != want || r.Error.Code != string(kind) || r.Success {
			t.Errorf("%s: %+v", kind, r)
		}
	}
}

func TestRightsAreCheckedWhereTheWorkIsDone(t *testing.T) {
	e := executor(t, actions.ExecutorConfig{Docs: &documents{}})
	key := func(risk muster.Risk, scopes ...string) muster.Rights {
		return muster.Rights{Principal: "key:1", Scopes: scopes, MaxRisk: risk}
	}
	for _, c := range []struct {
		by     muster.Rights
		action string
		code   string
	}{
		{key("", "run:index.*"), "index.delete", ""},
		{key(muster.RiskMedium, "run:*"), "index.delete", ""},
		{key(muster.RiskLow, "run:*"), "index.delete", "risk"},
		{key("harmless", "run:*"), "node.ping", "risk"},
		{key("", "run:index.add", "search"), "index.delete", "forbidden"},
		{key("", "node"), "index.delete", "forbidden"},
		{muster.Rights{}, "node.ping", "forbidden"},
		{muster.Rights{}, "no.such", "forbidden"}, // strangers do not learn what is there
	} {
		params := muster.Params{}
		if c.action == "index.delete" {
			params = given(t, `{"ids":["a"]}`)
		}
		r := e.Execute(t.Context(), c.by, muster.Execution{Action: c.action, Params: params})
		switch {
		case c.code == "" && !r.Success, c.code != "" && (r.State != muster.StateDenied || r.Error.Code != c.code):
			t.Errorf("%+v %s: %s %+v", c.by, c.action, r.State, r.Error)
		}
	}
}

func TestUnknownActionAndBadParametersAreErrorsOfTheirKind(t *testing.T) {
	e := executor(t, actions.ExecutorConfig{})
	err := e.Admit(operator(), muster.Execution{Action: "app.none"})
	if muster.KindOf(err) != muster.Malformed || muster.CodeOf(err) != "unknown_action" {
		t.Error(err)
	}
	if err := e.Admit(operator(), muster.Execution{Action: "node.echo"}); muster.KindOf(err) != muster.Invalid {
		t.Error(err)
	}
	r := run(t, e, "node.echo", `{"txt":"x"}`)
	if r.State != muster.StateInvalid || r.Error.Message != "text: must be given; txt: is no parameter of node.echo" {
		t.Errorf("%+v", r.Error)
	}
}

func TestDryRunThatIsNotDeclaredIsNeverOK(t *testing.T) {
	e := executor(t, actions.ExecutorConfig{})
	r := e.Execute(t.Context(), operator(), muster.Execution{Action: "node.ping", Check: true})
	if r.Success || r.State != muster.StateInvalid || r.Error.Code != "unsupported" {
		t.Fatalf("%+v", r)
	}
}

func TestPanicOfAnActionIsItsFailure(t *testing.T) {
	e := executor(t, actions.ExecutorConfig{Docs: &documents{panics: true}})
	if r := run(t, e, "index.add", `{"documents":[{"id":"1"}]}`); r.State != muster.StateFailed || r.Error.Code != "panic" {
		t.Fatalf("%+v", r)
	}
}

// TestQueueIsBounded fills node.sleep: 4 run, 16 wait, the 21st is refused.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := actions.NewExecutor(actions.ExecutorConfig{})
		if err != nil {
			t.Fatal(err)
		}
		results := make(chan muster.Result, 20)
		began := time.Now()
		for range 20 {
			go func() { results <- run(t, e, "node.sleep", `{"for":"1m"}`) }()
		}
		synctest.Wait()
		if r := run(t, e, "node.sleep", `{"for":"0s"}`); r.State != muster.StateFailed || r.Error.Code != "queue_full" {
			t.Fatalf("%+v", r)
		}
		for range 20 {
			if r := <-results; r.State != muster.StateOK {
				t.Fatalf("%+v", r)
			}
		}
		if took := time.Since(began); took != 5*time.Minute {
			t.Fatalf("20 of 1 minute, 4 at once, took %v", took)
		}
	})
}

func TestEndOfTheCallersContextEndsTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := actions.NewExecutor(actions.ExecutorConfig{})
		if err != nil {
			t.Fatal(err)
		}
		x := muster.Execution{Action: "node.sleep", Params: given(t, `{"for":"30m"}`)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if r := e.Execute(ctx, operator(), x); r.State != muster.StateTimeout || r.Error.Code != "deadline" || r.DurationMs != 60000 {
			t.Errorf("%+v %+v", r, r.Error)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		if r := e.Execute(ctx, operator(), x); r.State != muster.StateCancelled || r.Error.Code != "cancelled" {
			t.Errorf("%+v %+v", r, r.Error)
		}
	})
}

func TestExecutionStartsInTimeOrNotAtAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := actions.NewExecutor(actions.ExecutorConfig{})
		if err != nil {
			t.Fatal(err)
		}
		x := muster.Execution{Action: "node.sleep", Params: given(t, `{"for":"1m"}`), StartWithinMs: 1000}
		results := make(chan muster.Result, 6)
		for range 6 { // four run at once
			go func() { results <- e.Execute(t.Context(), operator(), x) }()
		}
		for i := range 6 {
			r := <-results
			late := r.State == muster.StateCancelled && r.Error.Code == "not_started" && r.DurationMs == 1000
			if i < 2 && !late || i >= 2 && r.State != muster.StateOK {
				t.Errorf("%d: %+v %+v", i, r, r.Error)
			}
		}
	})
}

func TestStopInterruptsWhatRunsAndRefusesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := actions.NewExecutor(actions.ExecutorConfig{})
		if err != nil {
			t.Fatal(err)
		}
		results := make(chan muster.Result, 6)
		for range 6 {
			go func() { results <- run(t, e, "node.sleep", `{"for":"10m"}`) }()
		}
		synctest.Wait()
		if err := errors.Join(e.Stop(t.Context()), e.Stop(t.Context())); err != nil {
			t.Fatal(err)
		}
		states := map[muster.State]int{}
		for range 6 {
			r := <-results
			states[r.State]++
			if r.Error.Code != "interrupted" {
				t.Errorf("%+v", r.Error)
			}
		}
		if states[muster.StateInterrupted] != 4 || states[muster.StateCancelled] != 2 {
			t.Error(states)
		}
		if r := run(t, e, "node.ping", `{}`); r.State != muster.StateCancelled || r.Error.Code != "interrupted" {
			t.Errorf("%+v", r)
		}
	})
}

func TestActionIsDefinedOnce(t *testing.T) {
	deploy := define(t, "app.deploy", "handler: {kind: exec, argv: [/bin/true]}\n")
	for _, twice := range [][]actions.Definition{
		{deploy, deploy},
		{define(t, "node.ping", "handler: {kind: exec, argv: [/bin/true]}\n")},
		{define(t, "index.add", "handler: {kind: exec, argv: [/bin/true]}\n")},
	} {
		if _, err := actions.NewExecutor(actions.ExecutorConfig{Definitions: twice}); muster.KindOf(err) != muster.Invalid {
			t.Errorf("%s: %v", twice[0].Action, err)
		}
	}
}

func TestReloadIsAllOrNothing(t *testing.T) {
	deploy := define(t, "app.deploy", "handler: {kind: exec, argv: [/bin/true]}\n")
	restart := define(t, "app.restart", "handler: {kind: exec, argv: [/bin/true]}\n")
	e := executor(t, actions.ExecutorConfig{}, deploy)
	has := func(name string) bool {
		return slices.ContainsFunc(e.Infos(), func(i muster.ActionInfo) bool { return i.Action == name })
	}
	if err := e.Reload([]actions.Definition{restart, restart}); err == nil || !has("app.deploy") || has("app.restart") {
		t.Fatal("a bad set took the place of a good one", err)
	}
	if err := e.Reload([]actions.Definition{restart}); err != nil || has("app.deploy") || !has("app.restart") {
		t.Fatal(err)
	}
}

func TestCatalogJoinsWhatIsTheSameAndShowsWhatIsNot(t *testing.T) {
	one := define(t, "app.deploy", "handler: {kind: exec, argv: [/bin/true]}\n").Info()
	two := define(t, "app.deploy", "handler: {kind: exec, argv: [/bin/false]}\n").Info()
	other := define(t, "app.audit", "handler: {kind: exec, argv: [/bin/true]}\n").Info()
	rows := actions.Merge(map[string][]muster.ActionInfo{"c": {one, other}, "a": {one}, "b": {two}, "d": {}})
	nodes := map[string][]string{}
	for _, row := range rows {
		nodes[row.Digest] = row.Nodes
	}
	if len(rows) != 3 || rows[0].Action != "app.audit" || !slices.Equal(nodes[one.Digest], []string{"a", "c"}) || !slices.Equal(nodes[two.Digest], []string{"b"}) {
		t.Fatalf("%+v", rows)
	}
	if rows[1].Digest > rows[2].Digest || len(one.Nodes) != 0 {
		t.Fatalf("%+v", rows)
	}
}

// revoked is whether the caller's key is.
type revoked struct{ atomic.Bool }

func (r *revoked) Allowed(muster.Rights) error {
	if r.Load() {
		return muster.Errorf(muster.Unauthorized, "Invalid API key")
	}
	return nil
}

func TestWhatWaitsOrIsTriedAgainDoesNotStartOnceTheCallersKeyIsRevoked(t *testing.T) {
	var key revoked
	tries := filepath.Join(t.TempDir(), "tries")
	d := define(t, "app.busy", "limits: {concurrency: 1}\nretry: {attempts: 100, first: 1ms, max: 1ms}\n"+
		"handler: {kind: exec, argv: [/bin/sh, -c, 'echo x >>"+tries+"; exit 75']}\n")
	e := executor(t, actions.ExecutorConfig{Callers: &key}, d)
	first := make(chan muster.Result, 1)
	go func() { first <- run(t, e, "app.busy", `{}`) }()
	for raw := []byte(nil); len(raw) == 0; raw, _ = os.ReadFile(tries) {
		runtime.Gosched()
	}
	second := make(chan muster.Result, 1)
	go func() { second <- e.Execute(t.Context(), operator(), muster.Execution{Action: "app.busy", Job: "j_2"}) }()
	key.Store(true)
	if r := <-first; r.State != muster.StateFailed || r.Error.Code != "exit" {
		t.Errorf("what was tried: %s %+v", r.State, r.Error)
	}
	if r := <-second; r.State != muster.StateDenied || r.Error.Code != "unauthorized" {
		t.Errorf("what waited: %s %+v", r.State, r.Error)
	}
	if raw, err := os.ReadFile(tries); err != nil || len(raw) > 100 {
		t.Errorf("%d bytes of tries, %v", len(raw), err)
	}
}

func TestAReloadLetsNoMoreInThanTheLimit(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pid")
	d := define(t, "app.one", "limits: {concurrency: 1, queue: 0}\nhandler: {kind: exec, argv: [/bin/sh, -c, 'echo $$ >"+pids+"; exec sleep 600']}\n")
	e := executor(t, actions.ExecutorConfig{}, d)
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan muster.Result, 1)
	go func() { first <- e.Execute(ctx, operator(), muster.Execution{Action: "app.one", Job: "j_1"}) }()
	pidIn(t, pids)
	if err := e.Reload([]actions.Definition{d}); err != nil {
		t.Fatal(err)
	}
	over, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	if r := e.Execute(over, operator(), muster.Execution{Action: "app.one", Job: "j_2"}); r.Error == nil || r.Error.Code != "queue_full" {
		t.Errorf("beside what runs: %s %+v", r.State, r.Error)
	}
	cancel()
	<-first
}
