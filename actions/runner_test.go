package actions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"muster"
	"muster/actions"
)

// fleet is a registry and all its nodes' executors.
type fleet struct {
	nodes     []muster.Node
	executors map[string]*actions.Executor // by ID
	errs      map[string]error             // of calls, by slug
	answers   map[string]muster.Result     // instead of an executor's, by slug
	mute      map[string]bool              // do the work and do not answer, by slug

	mu      sync.Mutex
	calls   []string // slugs in order; guarded by mu
	now     int      // calls under way; guarded by mu
	peak    int      // guarded by mu
	dated   bool     // a call had a deadline; guarded by mu
	onlyFor muster.Rights
}

func (f *fleet) Nodes() []muster.Node { return slices.Clone(f.nodes) }

// Node is one of them.
func (f *fleet) Node(id string) (muster.Node, bool) { return registry(f.nodes).Node(id) }

func (f *fleet) Execute(ctx context.Context, node muster.Node, by muster.Rights, x muster.Execution) (muster.Result, error) {
	f.mu.Lock()
	f.calls = append(f.calls, node.Slug)
	f.now++
	f.peak = max(f.peak, f.now)
	f.onlyFor = by
	_, dated := ctx.Deadline()
	f.dated = f.dated || dated
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.now--
		f.mu.Unlock()
	}()
	if err := f.errs[node.Slug]; err != nil {
		return muster.Result{}, err
	}
	if r, ok := f.answers[node.Slug]; ok {
		return r, nil
	}
	if f.mute[node.Slug] {
		<-ctx.Done()
		return muster.Result{}, muster.Errorf(muster.OutcomeUnknown, "no answer: %w", context.Cause(ctx))
	}
	result := make(chan muster.Result, 1)
	go func() { result <- f.executors[node.ID].Execute(context.WithoutCancel(ctx), by, x) }()
	select {
	case r := <-result:
		return r, nil
	case <-ctx.Done(): // the node does not see that
		return muster.Result{}, muster.Errorf(muster.OutcomeUnknown, "no answer: %w", context.Cause(ctx))
	}
}

func (f *fleet) Cancel(_ context.Context, node muster.Node, by muster.Rights, action, job string) error {
	return f.executors[node.ID].Cancel(by, action, job)
}

// newFleet makes n nodes with slugs a, b, c …; a is the one asked.
func newFleet(t *testing.T, n int) *fleet {
	t.Helper()
	f := &fleet{
		executors: map[string]*actions.Executor{}, errs: map[string]error{}, answers: map[string]muster.Result{}, mute: map[string]bool{},
	}
	for i := range n {
		slug := string(rune('a' + i))
		node := muster.Node{
			ID: "id-" + slug, Slug: slug, Name: "Node " + strings.ToUpper(slug), Kind: muster.KindAgent, Type: muster.TypeChild,
			Status: muster.StatusActive, Capabilities: []muster.Capability{muster.CapActions},
			Metadata: muster.Metadata{"rank": json.RawMessage(fmt.Sprint(i)), "env": json.RawMessage(`"prod"`)},
		}
		e, err := actions.NewExecutor(actions.ExecutorConfig{ID: node.ID})
		if err != nil {
			t.Fatal(err)
		}
		f.nodes, f.executors[node.ID] = append(f.nodes, node), e
	}
	f.nodes[0].Type = muster.TypeMaster
	return f
}

func (f *fleet) runner() *actions.Runner {
	return actions.NewRunner(actions.RunnerConfig{Self: "id-a", NewID: func() string { return "0" }}, f, f.executors["id-a"], f)
}

func (f *fleet) stop(t *testing.T) {
	t.Helper()
	for _, e := range f.executors {
		if err := e.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func (f *fleet) called() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func names(slugs ...string) muster.Selector { return muster.Selector{Nodes: &slugs} }

func ping(on muster.Selector) muster.Run { return muster.Run{Action: "node.ping", On: on} }

// told returns slug and state of each result.
func told(a muster.Job) string {
	out := make([]string, 0, len(a.Results))
	for _, slug := range a.Pending {
		out = append(out, slug+":pending")
	}
	for slug, r := range a.Results {
		word := slug + ":" + string(r.State)
		if r.Error != nil {
			word += "/" + r.Error.Code
		}
		out = append(out, word)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestRunIsAnsweredByEveryNode(t *testing.T) {
	f := newFleet(t, 3)
	a, err := f.runner().Run(t.Context(), operator(), ping(muster.Selector{All: true}))
	if err != nil || !a.Success || a.NodesExecuted != 3 || a.SuccessCount != 3 || a.FailureCount+a.SkippedCount != 0 {
		t.Fatalf("%+v %v", a, err)
	}
	if a.Job != "j_id-a_0" || a.Action != "node.ping" || a.Results["b"].Node != "b" || a.Results["b"].NodeName != "Node B" {
		t.Errorf("%+v", a)
	}
	if !strings.Contains(string(a.Results["c"].Result), `"id-c"`) || f.onlyFor.Principal != "operator" {
		t.Errorf("%s", a.Results["c"].Result)
	}
}

func TestJobsHaveIDsOfTheirOwn(t *testing.T) {
	f := newFleet(t, 1)
	r := actions.NewRunner(actions.RunnerConfig{Self: "id-a"}, f, f.executors["id-a"], f)
	one, err1 := r.Run(t.Context(), operator(), ping(names("a")))
	two, err2 := r.Run(t.Context(), operator(), ping(names("a")))
	if err := errors.Join(err1, err2); err != nil || one.Job == two.Job || len(one.Job) != len("j_id-a_")+36 {
		t.Fatal(one.Job, two.Job, err)
	}
}

func TestSelectorsChooseTheirNodes(t *testing.T) {
	f := newFleet(t, 6)
	f.nodes[2].Capabilities = append(f.nodes[2].Capabilities, "gpu")
	f.nodes[3].Capabilities = append(f.nodes[3].Capabilities, "gpu")
	f.nodes[5].DeletedAt = new(time.Time)
	all, seed := muster.Selector{All: true}, int64(7)
	with := func(s muster.Selector, change func(*muster.Selector)) muster.Selector {
		change(&s)
		return s
	}
	for _, c := range []struct {
		on   muster.Selector
		want string
	}{
		{all, "a b c d e"},
		{names("b", "id-d", "id-b"), "b d"},
		{muster.Selector{Where: "rank in (1, 3) && env=prod"}, "b d"},
		{muster.Selector{Where: "rank!=1 && zone!=x"}, "a c d e"},
		{muster.Selector{Capability: "gpu"}, "c d"},
		{muster.Selector{Type: muster.TypeMaster}, "a"},
		{muster.Selector{Type: muster.TypeChild, Capability: "gpu", Where: "rank=3"}, "d"},
		{with(all, func(s *muster.Selector) { s.Exclude = []string{"a", "id-b"} }), "c d e"},
		{with(names("a", "b"), func(s *muster.Selector) { s.Exclude = []string{"a"} }), "b"},
		{muster.Selector{Sample: new(9)}, "a b c d e"},
		{muster.Selector{Percent: new(100.0)}, "a b c d e"},
		{muster.Selector{Percent: new(0.1), Capability: "gpu", Exclude: []string{"c"}}, "d"},
		{muster.Selector{Sample: new(2), Seed: &seed}, "?2"},
		{muster.Selector{Percent: new(50.0), Seed: &seed}, "?3"}, // 2.5 of 5
	} {
		r := f.runner()
		a, err := r.Run(t.Context(), operator(), ping(c.on))
		got := chosen(a)
		if c.want[0] == '?' {
			again, _ := r.Run(t.Context(), operator(), ping(c.on))
			if err != nil || fmt.Sprint("?", len(strings.Fields(got))) != c.want || chosen(again) != got {
				t.Errorf("%+v: %s, then %s, %v", c.on, got, chosen(again), err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%+v: %s, want %s, %v", c.on, got, c.want, err)
		}
	}
}

func chosen(a muster.Job) string {
	slugs := slices.Sorted(maps.Keys(a.Results))
	return strings.Join(slugs, " ")
}

func TestSampleDependsOnTheSeedAndPrefersNodesThatCanRun(t *testing.T) {
	f := newFleet(t, 12)
	samples := map[string]bool{}
	for seed := range int64(20) {
		a, err := f.runner().Run(t.Context(), operator(), ping(muster.Selector{Sample: new(3), Seed: &seed}))
		if err != nil {
			t.Fatal(err)
		}
		samples[chosen(a)] = true
	}
	if len(samples) < 10 {
		t.Errorf("20 seeds made %d samples", len(samples))
	}
	for i := range 9 {
		f.nodes[i].Status = muster.StatusMaintenance
	}
	a, err := f.runner().Run(t.Context(), operator(), ping(muster.Selector{Sample: new(4)}))
	if err != nil || a.SuccessCount != 3 || a.SkippedCount != 1 || a.Success {
		t.Errorf("%s %v", told(a), err)
	}
}

func TestWrongRunsAreRefusedNamingTheField(t *testing.T) {
	f := newFleet(t, 2)
	on, seed := muster.Selector{All: true}, int64(1)
	for _, c := range []struct {
		run   muster.Run
		field string
	}{
		{ping(muster.Selector{}), "on"},
		{ping(muster.Selector{Exclude: []string{"a"}}), "on"},
		{ping(muster.Selector{Where: "env=test"}), "on"},
		{ping(muster.Selector{All: true, Exclude: []string{"a", "b"}}), "on"},
		{ping(names()), "on.nodes"},
		{ping(muster.Selector{Nodes: &[]string{"a"}, All: true}), "on.nodes"},
		{ping(muster.Selector{Nodes: &[]string{"a"}, Where: "a=b"}), "on.nodes"},
		{ping(muster.Selector{All: true, Capability: "x"}), "on.all"},
		{ping(muster.Selector{Where: "env"}), "on.where"},
		{ping(muster.Selector{Sample: new(-1)}), "on.sample"},
		{ping(muster.Selector{Sample: new(0)}), "on.sample"},
		{ping(muster.Selector{All: true, Sample: new(0)}), "on.sample"},
		{ping(muster.Selector{All: true, Percent: new(0.0)}), "on.percent"},
		{ping(muster.Selector{Sample: new(1), Percent: new(1.0)}), "on.sample"},
		{ping(muster.Selector{Percent: new(101.0)}), "on.percent"},
		{ping(muster.Selector{All: true, Seed: &seed}), "on.seed"},
		{ping(muster.Selector{Type: "boss"}), "on.type"},
		{muster.Run{On: on}, "action"},
		{muster.Run{Action: "*", On: on}, "action"},
		{muster.Run{Action: "node.ping", On: on, TimeoutMs: -1}, "timeout_ms"},
		{muster.Run{Action: "node.ping", On: on, TimeoutMs: 600_001}, "timeout_ms"},
		{muster.Run{Action: "node.ping", On: on, How: muster.Strategy{Mode: "rolling"}}, "how.batches"},
		{muster.Run{Action: "node.ping", On: on, How: muster.Strategy{Mode: "random"}}, "how.mode"},
		{muster.Run{Action: "node.ping", On: on, How: muster.Strategy{Batches: []json.RawMessage{json.RawMessage("1")}}}, "how.batches"},
		{muster.Run{Action: "node.ping", On: on, How: muster.Strategy{Mode: "rolling", Batches: []json.RawMessage{json.RawMessage("1"), json.RawMessage("0")}}}, "how.batches.1"},
		{muster.Run{Action: "node.ping", On: on, How: muster.Strategy{Mode: "rolling", Batches: make([]json.RawMessage, 101)}}, "how.batches"},
		{muster.Run{Action: "node.ping", On: on, How: muster.Strategy{Mode: "rolling", Batches: []json.RawMessage{json.RawMessage("1")}, Pause: "soon"}}, "how.pause"},
		{muster.Run{Action: "node.ping", On: on, How: muster.Strategy{Pause: "1s"}}, "how.pause"},
		{muster.Run{Action: "node.ping", On: on, How: muster.Strategy{Concurrency: -1}}, "how.concurrency"},
		{muster.Run{Action: "node.ping", On: on, How: muster.Strategy{Mode: "serial", Concurrency: 2}}, "how.concurrency"},
		{muster.Run{Action: "node.ping", On: on, How: muster.Strategy{OnFail: "panic"}}, "how.on_fail"},
		{muster.Run{Action: "node.ping", On: on, How: muster.Strategy{MaxFail: json.RawMessage("0")}}, "how.max_fail"},
		{muster.Run{Action: "node.ping", On: on, How: muster.Strategy{MaxFail: json.RawMessage(`"0%"`)}}, "how.max_fail"},
		{muster.Run{Action: "node.ping", On: on, How: muster.Strategy{MaxFail: json.RawMessage(`"101%"`)}}, "how.max_fail"},
		{muster.Run{Action: "node.ping", On: on, How: muster.Strategy{MaxFail: json.RawMessage(`"NaN%"`)}}, "how.max_fail"},
		{muster.Run{Action: "node.ping", On: on, How: muster.Strategy{MaxFail: json.RawMessage(`1.5`)}}, "how.max_fail"},
	} {
		_, err := f.runner().Run(t.Context(), operator(), c.run)
		fault, ok := errors.AsType[*muster.Error](err)
		if !ok || fault.Kind != muster.Invalid || len(fault.Fields[c.field]) == 0 {
			t.Errorf("%s of %+v: %v", c.field, c.run, err)
		}
	}
	for _, on := range []muster.Selector{names("a", "zed"), {All: true, Exclude: []string{"zed"}}} {
		if _, err := f.runner().Run(t.Context(), operator(), ping(on)); muster.KindOf(err) != muster.NotFound || !strings.Contains(err.Error(), "zed") {
			t.Error(err)
		}
	}
	if len(f.called()) > 0 {
		t.Error("somebody was asked all the same")
	}
}

func TestCallerWithoutTheRightIsRefusedBeforeAnybodyIsAsked(t *testing.T) {
	f := newFleet(t, 2)
	e, err := actions.NewExecutor(actions.ExecutorConfig{ID: "id-a", Docs: &documents{}})
	if err != nil {
		t.Fatal(err)
	}
	f.executors["id-a"] = e
	for _, c := range []struct {
		by     muster.Rights
		action string
	}{
		{muster.Rights{Principal: "key:1", Scopes: []string{"run:app.*", "search"}}, "node.ping"},
		{muster.Rights{Principal: "key:1", Scopes: []string{"run:*"}, MaxRisk: muster.RiskLow}, "index.delete"},
	} {
		if _, err := f.runner().Run(t.Context(), c.by, muster.Run{Action: c.action, On: muster.Selector{All: true}}); muster.KindOf(err) != muster.Forbidden {
			t.Error(err)
		}
	}
	if len(f.called()) > 0 {
		t.Error("somebody was asked all the same")
	}
}

func TestNodesThatAreNotAskedAreListedWithTheReason(t *testing.T) {
	f := newFleet(t, 6)
	f.nodes[1].Status = muster.StatusMaintenance
	f.nodes[2].Observed = muster.ObservedLeft
	f.nodes[3].Capabilities = []muster.Capability{muster.CapSearch}
	f.errs["e"] = muster.Errorf(muster.Unavailable, "failed 5 times").WithCode("circuit_open")
	f.nodes[5].Observed = muster.ObservedDown
	f.errs["f"] = muster.Errorf(muster.Unavailable, "connection refused").WithCode("no_connection")
	a, err := f.runner().Run(t.Context(), operator(), ping(muster.Selector{All: true}))
	want := "a:ok b:skipped/maintenance c:skipped/inactive d:skipped/no_capability e:skipped/circuit_open f:unreachable/no_connection"
	if err != nil || told(a) != want || a.Success || a.SkippedCount != 4 || a.NodesExecuted != 2 || a.FailureCount != 1 {
		t.Fatalf("%+v %v", a, err)
	}
}

func TestACallerWithABoundedRiskDoesNotReachAnApplicationsUnknownAction(t *testing.T) {
	f := newFleet(t, 2)
	f.nodes[1].Kind = muster.KindExternal
	f.answers["b"] = muster.Result{State: muster.StateOK}
	on := muster.Selector{Nodes: &[]string{"b"}}
	bounded := muster.Rights{Principal: "key:1", Scopes: []string{"run:*"}, MaxRisk: muster.RiskLow}
	for _, c := range []struct {
		by           muster.Rights
		action, want string
	}{
		{bounded, "app.wipe", "b:denied/risk_unknown"},
		{bounded, "node.ping", "b:ok"},
		{operator(), "app.wipe", "b:ok"},
	} {
		a, err := f.runner().Run(t.Context(), c.by, muster.Run{Action: c.action, On: on})
		if err != nil || told(a) != c.want {
			t.Errorf("%s by %s: %s %v", c.action, c.by.Principal, told(a), err)
		}
	}
}

func TestErrorsOfCallsBecomeStates(t *testing.T) {
	f := newFleet(t, 12)
	maps.Copy(f.errs, map[string]error{
		"b": muster.Errorf(muster.Unavailable, "refused"), "c": muster.Errorf(muster.OutcomeUnknown, "no answer"),
		"d": muster.Errorf(muster.Forbidden, "no"), "e": muster.Errorf(muster.Malformed, "what").WithCode("unknown_action"),
		"f": errors.New("whatever"), "g": muster.Errorf(muster.Limited, "busy"), "h": muster.Errorf(muster.Timeout, "not sent"),
		"l": muster.Errorf(muster.Unauthorized, "signed call: unknown signer"), // it is just coming up
	})
	f.answers["i"] = muster.Result{State: "fine", Success: true}
	f.answers["j"] = muster.Result{State: muster.StateFailed, Success: true}
	f.answers["k"] = muster.Result{State: muster.StateNoop, Node: "somebody else"}
	run := ping(muster.Selector{All: true})
	run.How.OnFail = "continue"
	a, err := f.runner().Run(t.Context(), operator(), run)
	want := "a:ok b:unreachable/unavailable c:unknown/outcome_unknown d:denied/forbidden e:invalid/unknown_action f:unknown/no_answer " +
		"g:failed/limited h:unreachable/timeout i:unknown/bad_answer j:failed k:noop l:unreachable/unauthorized"
	if err != nil || told(a) != want || a.SuccessCount != 2 || a.FailureCount != 10 || a.Results["k"].Node != "k" {
		t.Fatalf("%s\n%v", told(a), err)
	}
}

func TestSerialKeepsTheOrderGivenAndStopsAtTheFirstFailure(t *testing.T) {
	f := newFleet(t, 6)
	f.errs["c"] = muster.Errorf(muster.Unavailable, "refused")
	run := ping(names("e", "b", "c", "d", "f"))
	run.How.Mode = "serial"
	a, err := f.runner().Run(t.Context(), operator(), run)
	if err != nil || told(a) != "b:ok c:unreachable/unavailable d:skipped/max_fail e:ok f:skipped/max_fail" || a.Success {
		t.Fatalf("%s %v", told(a), err)
	}
	if got := f.called(); !slices.Equal(got, []string{"e", "b", "c"}) || f.peak != 1 {
		t.Error(got, f.peak)
	}
}

func TestMaxFailCountsOverTheWholeRun(t *testing.T) {
	for _, c := range []struct {
		how   muster.Strategy
		asked int
	}{
		{muster.Strategy{}, 1},
		{muster.Strategy{OnFail: "stop"}, 1},
		{muster.Strategy{OnFail: "stop", MaxFail: json.RawMessage("3")}, 3},
		{muster.Strategy{OnFail: "continue", MaxFail: json.RawMessage(`"2"`)}, 2},
		{muster.Strategy{MaxFail: json.RawMessage(`"25%"`)}, 3}, // of 9: 2.25
		{muster.Strategy{MaxFail: json.RawMessage(`"1%"`)}, 1},
		{muster.Strategy{OnFail: "continue"}, 9},
	} {
		for _, mode := range []string{"serial", "parallel"} {
			f := newFleet(t, 10)
			for _, n := range f.nodes {
				f.errs[n.Slug] = muster.Errorf(muster.Unavailable, "refused")
			}
			run := ping(muster.Selector{All: true, Exclude: []string{"a"}})
			run.How = c.how
			run.How.Mode, run.How.Concurrency = mode, 1
			a, err := f.runner().Run(t.Context(), operator(), run)
			if err != nil || len(f.called()) != c.asked || a.FailureCount != c.asked || a.SkippedCount != 9-c.asked {
				t.Errorf("%s %+v: %s %v", mode, c.how, told(a), err)
			}
		}
	}
}

func TestParallelKeepsItsBoundAndTheWholeIsAsFastAsItAllows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 21)
		run := muster.Run{Action: "node.sleep", Params: given(t, `{"for":"1s"}`), On: muster.Selector{All: true, Exclude: []string{"a"}}}
		began := time.Now()
		a, err := f.runner().Run(t.Context(), operator(), run)
		if err != nil || !a.Success || f.peak != 10 || time.Since(began) != 2*time.Second {
			t.Fatalf("%s %v, at most %d at once, %v", told(a), err, f.peak, time.Since(began))
		}
		if f.dated {
			t.Error("the end of the wait travelled with a call and would end the work")
		}
	})
}

func TestRollingGoesBatchByBatchWithPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 12)
		run := muster.Run{
			Action: "node.sleep", Params: given(t, `{"for":"1s"}`), On: muster.Selector{All: true, Exclude: []string{"a"}}, TimeoutMs: 60_000,
			How: muster.Strategy{Mode: "rolling", Batches: []json.RawMessage{json.RawMessage("1"), json.RawMessage(`"25%"`)}, Pause: "10s"},
		}
		began := time.Now()
		a, err := f.runner().Run(t.Context(), operator(), run)
		// 11 nodes: 1, 3, 3, 3 and 1, with four pauses.
		if err != nil || !a.Success || f.peak != 3 || time.Since(began) != 45*time.Second {
			t.Fatalf("%s %v, at most %d at once, %v", told(a), err, f.peak, time.Since(began))
		}
		f.errs["d"] = muster.Errorf(muster.Unavailable, "refused")
		began = time.Now()
		a, err = f.runner().Run(t.Context(), operator(), run)
		if err != nil || a.SuccessCount != 3 || a.FailureCount != 1 || a.SkippedCount != 7 || time.Since(began) != 12*time.Second {
			t.Fatalf("%s %v %v: a failed batch was followed by another", told(a), err, time.Since(began))
		}
		r := f.runner()
		run.TimeoutMs = 5000
		a, err = r.Run(t.Context(), operator(), run)
		id := a.Job
		if err != nil || a.SuccessCount != 1 || len(a.Pending) != 10 {
			t.Fatalf("%s %v", told(a), err)
		}
		if err := r.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a, err = r.Job(id); err != nil || a.SuccessCount != 1 || a.SkippedCount != 10 || a.Results["l"].Error.Code != "not_started" {
			t.Fatalf("%s %v", told(a), err)
		}
	})
}

func TestWaitEndsWithWhatIsThereAndTheJobGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 5)
		f.mute["c"] = true
		cfg := actions.RunnerConfig{Self: "id-a"}
		r := actions.NewRunner(cfg, f, f.executors["id-a"], f)
		run := muster.Run{
			Action: "node.sleep", Params: given(t, `{"for":"20s"}`), On: muster.Selector{All: true}, How: muster.Strategy{Concurrency: 3}, TimeoutMs: 30_000,
		}
		began := time.Now()
		a, err := r.Run(t.Context(), operator(), run)
		// a and b answered at 20 s; c never will; d and e began then.
		if err != nil || told(a) != "a:ok b:ok c:pending d:pending e:pending" || a.Status != muster.JobRunning || a.Success || time.Since(began) != 30*time.Second {
			t.Fatalf("%s %+v %v", told(a), a, err)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // virtual
		if a, err = r.Job(a.Job); err != nil || told(a) != "a:ok b:ok c:pending d:ok e:ok" {
			t.Fatalf("%s %v", told(a), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		run.How, run.TimeoutMs = muster.Strategy{Mode: "serial"}, 60_000
		other, err := r.Run(ctx, operator(), run) // the caller goes away
		if err != nil || told(other) != "a:pending b:pending c:pending d:pending e:pending" {
			t.Fatalf("%s %v", told(other), err)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // virtual
		if err := r.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a, err = r.Job(a.Job); err != nil || a.Status != muster.JobInterrupted || told(a) != "a:ok b:ok c:unknown/no_answer d:ok e:ok" {
			t.Errorf("%s %+v %v", told(a), a, err)
		}
		if other, err = r.Job(other.Job); err != nil || told(other) != "a:ok b:ok c:unknown/no_answer d:skipped/not_started e:skipped/not_started" {
			t.Errorf("%s %v", told(other), err)
		}
		if _, err := r.Run(t.Context(), operator(), run); muster.KindOf(err) != muster.Unavailable {
			t.Error(err)
		}
		f.stop(t)
	})
}

func TestStopEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3)
		f.mute["b"] = true
		r := f.runner()
		run := ping(names("b", "c"))
		run.How.Mode = "serial"
		time.AfterFunc(time.Second, func() { _ = r.Stop(t.Context()) })
		a, err := r.Run(t.Context(), operator(), run)
		if err != nil || !strings.HasPrefix(told(a), "b:unknown/no_answer c:skipped/") || !strings.Contains(a.Results["b"].Error.Message, "stopped") {
			t.Errorf("%s %v", told(a), err)
		}
	})
}

// caller may call until a time.
type caller struct{ until time.Time }

func (c caller) Allowed(muster.Rights) error {
	if time.Now().After(c.until) {
		return muster.Errorf(muster.Unauthorized, "the key was revoked")
	}
	return nil
}

func TestRunOfACallerWhoLosesTheRightStartsNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3)
		cfg := actions.RunnerConfig{Self: "id-a", Callers: caller{time.Now().Add(time.Second)}}
		run := ping(names("a", "b", "c"))
		run.How = muster.Strategy{Mode: "rolling", Batches: []json.RawMessage{json.RawMessage("1")}, Pause: "3s"}
		a, err := actions.NewRunner(cfg, f, f.executors["id-a"], f).Run(t.Context(), operator(), run)
		if err != nil || told(a) != "a:ok b:skipped/unauthorized c:skipped/unauthorized" || len(f.called()) > 0 || a.Success {
			t.Fatalf("%s %v", told(a), err)
		}
	})
}

func TestARunAsksNoMoreNodesAtOnceThanItSaysAndItsNodeMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for concurrency, want := range map[int]int{0: 3, 5: 3, 2: 2, 1: 1} {
			f := newFleet(t, 9)
			cfg := actions.RunnerConfig{Self: "id-a", MaxParallel: 3}
			run := muster.Run{Action: "node.sleep", Params: given(t, `{"for":"1s"}`), On: muster.Selector{All: true, Exclude: []string{"a"}}}
			run.How.Concurrency = concurrency
			a, err := actions.NewRunner(cfg, f, f.executors["id-a"], f).Run(t.Context(), operator(), run)
			if err != nil || !a.Success || f.peak != want {
				t.Errorf("%d: %s %v, %d at once", concurrency, told(a), err, f.peak)
			}
		}
	})
}

func TestStoppingNodeKnowsWhatBecameOfItsOwnWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2)
		f.mute["b"] = true
		r := f.runner()
		run := muster.Run{Action: "node.sleep", Params: given(t, `{"for":"10m"}`), On: names("a", "b")}
		time.AfterFunc(time.Second, func() { _ = r.Stop(t.Context()) })
		a, err := r.Run(t.Context(), operator(), run)
		if err != nil || told(a) != "a:interrupted/interrupted b:unknown/no_answer" {
			t.Errorf("%s %v", told(a), err)
		}
	})
}

func BenchmarkRunOnAHundredNodes(b *testing.B) {
	nodes := make(registry, 100)
	for i := range nodes {
		nodes[i] = muster.Node{
			ID: fmt.Sprint("id-", i), Slug: fmt.Sprint("n-", i), Kind: muster.KindAgent, Status: muster.StatusActive,
			Capabilities: []muster.Capability{muster.CapActions}, Metadata: muster.Metadata{"env": json.RawMessage(`"prod"`)},
		}
	}
	e, err := actions.NewExecutor(actions.ExecutorConfig{})
	if err != nil {
		b.Fatal(err)
	}
	release := make(chan struct{})
	close(release)
	r := actions.NewRunner(actions.RunnerConfig{Self: "nobody"}, nodes, e, deafAsker{release})
	for b.Loop() {
		if a, err := r.Run(b.Context(), operator(), ping(muster.Selector{Where: "env=prod"})); err != nil || !a.Success {
			b.Fatal(a, err)
		}
	}
}

type registry []muster.Node

func (r registry) Nodes() []muster.Node { return slices.Clone(r) }

// Node is one of them.
func (r registry) Node(id string) (muster.Node, bool) {
	i := slices.IndexFunc(r, func(n muster.Node) bool { return n.ID == id })
	if i < 0 {
		return muster.Node{}, false
	}
	return r[i], true
}

func TestStopGivesUpWithItsContext(t *testing.T) {
	release := make(chan struct{})
	deaf := deafAsker{release}
	f := newFleet(t, 2)
	r := actions.NewRunner(actions.RunnerConfig{Self: "id-a"}, f, f.executors["id-a"], deaf)
	run := ping(names("b"))
	run.TimeoutMs = 1
	if a, err := r.Run(t.Context(), operator(), run); err != nil || told(a) != "b:pending" {
		t.Fatalf("%s %v", told(a), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(release)
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func (f *fleet) Output(ctx context.Context, node muster.Node, by muster.Rights, a muster.OutputAsk) (muster.Output, error) {
	return f.executors[node.ID].Output(ctx, by, a)
}

// deafAsker ignores its context.
type deafAsker struct{ release chan struct{} }

func (d deafAsker) Output(context.Context, muster.Node, muster.Rights, muster.OutputAsk) (muster.Output, error) {
	return muster.Output{}, nil
}

func (d deafAsker) Cancel(context.Context, muster.Node, muster.Rights, string, string) error {
	return nil
}

func (d deafAsker) Execute(context.Context, muster.Node, muster.Rights, muster.Execution) (muster.Result, error) {
	<-d.release
	return muster.Result{State: muster.StateOK}, nil
}
