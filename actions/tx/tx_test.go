package tx_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/actions/tx"
	"muster/fsm"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func operator() muster.Rights {
	return muster.Rights{Principal: "operator", Scopes: []string{muster.ScopeAdmin}}
}

func node(slug string) muster.Node {
	return muster.Node{ID: "id-" + slug, Slug: slug, Kind: muster.KindAgent, Status: muster.StatusActive, Capabilities: []muster.Capability{muster.CapActions}}
}

func info(name string, risk muster.Risk) muster.ActionInfo {
	return muster.ActionInfo{
		Action: name, Version: "1.0.0", Digest: "d-" + name, Risk: risk, LimitMs: 10_000,
		Result: json.RawMessage(`{"v":{"type":"int"},"pass":{"type":"object","secret":true}}`),
		Params: json.RawMessage(`{"x":{"type":"string"},"y":{"type":"string","default":"why"},"token":{"type":"string","secret":true}}`),
	}
}

// able is what every node of these tests can.
func able() map[string]tx.Ability {
	deploy := info("app.deploy", muster.RiskLow)
	deploy.Undo = &muster.TxUndo{Action: "app.undo", Params: muster.Params{
		"x": json.RawMessage(`"to ${result.previous} for ${x}"`), "y": json.RawMessage(`"${params.y}"`),
	}}
	actions := []muster.ActionInfo{
		info("app.do", muster.RiskLow), info("app.undo", muster.RiskLow), info("app.look", muster.RiskRead), info("app.break", muster.RiskHigh), deploy,
	}
	can := map[string]tx.Ability{}
	for _, slug := range []string{"a", "b", "c"} {
		can["id-"+slug] = tx.Ability{Journal: "j-" + slug, Actions: actions}
	}
	return can
}

func call(run string, pairs ...string) muster.TxCall {
	c := muster.TxCall{Run: run, With: muster.Params{}}
	for i := 1; i < len(pairs); i += 2 {
		c.With[pairs[i-1]] = json.RawMessage(pairs[i])
	}
	return c
}

func step(id, slug string, more ...func(*tx.Step)) tx.Step {
	undo := call("app.undo")
	s := tx.Step{ID: id, Nodes: []muster.Node{node(slug)}, Run: call("app.do"), Undo: &undo}
	for _, m := range more {
		m(&s)
	}
	return s
}

func needs(ids ...string) func(*tx.Step) {
	return func(s *tx.Step) { s.Needs = &ids }
}

func bare(s *tx.Step) { s.Undo = nil }

func pivot(s *tx.Step) { s.Pivot, s.Undo = true, nil }

func retriable(s *tx.Step) { s.Retriable, s.Undo = true, nil }

func runs(run string, pairs ...string) func(*tx.Step) {
	return func(s *tx.Step) { s.Run = call(run, pairs...) }
}

func resolve(t *testing.T, p tx.Plan) muster.Tx {
	t.Helper()
	p.ID = "t"
	made, err := tx.Resolve(p, able(), operator())
	if err != nil {
		t.Fatal(err)
	}
	begun, err := fsm.BeginTx(made, 1, noon)
	if err != nil {
		t.Fatal(err)
	}
	return begun
}

func TestAPlansFaultsNameTheirFields(t *testing.T) {
	far := node("far")
	far.Kind = muster.KindExternal
	many := make([]muster.Node, 65)
	for i := range many {
		many[i] = node("a")
	}
	cases := map[string]struct {
		plan tx.Plan
		want string // a field
	}{
		"no steps":                 {tx.Plan{}, "steps"},
		"a policy":                 {tx.Plan{Policy: "sideways", Steps: []tx.Step{step("s", "a")}}, "policy"},
		"a deadline":               {tx.Plan{DeadlineMs: -1, Steps: []tx.Step{step("s", "a")}}, "deadline_ms"},
		"a lock":                   {tx.Plan{Locks: []string{"fine", "not fine"}, Steps: []tx.Step{step("s", "a")}}, "locks[1]"},
		"an ID":                    {tx.Plan{Steps: []tx.Step{step("s@x", "a")}}, "steps[0].id"},
		"an ID twice":              {tx.Plan{Steps: []tx.Step{step("s", "a"), step("s", "b")}}, "steps[1].id"},
		"a need":                   {tx.Plan{Steps: []tx.Step{step("s", "a", needs("r"))}}, "steps[0].needs[0]"},
		"a circle":                 {tx.Plan{Steps: []tx.Step{step("s", "a", needs("r")), step("r", "a", needs("s"))}}, "steps[0].needs"},
		"an action":                {tx.Plan{Steps: []tx.Step{step("s", "a", runs("app.none"))}}, "steps[0].run"},
		"no action":                {tx.Plan{Steps: []tx.Step{step("s", "a", runs(""))}}, "steps[0].run"},
		"a parameter":              {tx.Plan{Steps: []tx.Step{step("s", "a", runs("app.do", "z", `1`))}}, "steps[0].with.z"},
		"a secret":                 {tx.Plan{Steps: []tx.Step{step("s", "a", runs("app.do", "token", `"x"`))}}, "steps[0].with.token"},
		"an undo":                  {tx.Plan{Steps: []tx.Step{step("s", "a", func(s *tx.Step) { s.Undo.Run = "app.none" })}}, "steps[0].undo.run"},
		"a precheck that writes":   {tx.Plan{Steps: []tx.Step{step("s", "a", func(s *tx.Step) { c := call("app.do"); s.Precheck = &c })}}, "steps[0].precheck.run"},
		"an external node":         {tx.Plan{Steps: []tx.Step{step("s", "a", func(s *tx.Step) { s.Nodes = []muster.Node{far} })}}, "steps[0].on"},
		"no node":                  {tx.Plan{Steps: []tx.Step{step("s", "a", func(s *tx.Step) { s.Nodes = nil })}}, "steps[0].on"},
		"65 steps":                 {tx.Plan{Steps: []tx.Step{step("s", "a", func(s *tx.Step) { s.Nodes = many })}}, "steps"},
		"a placeholder":            {tx.Plan{Steps: []tx.Step{step("s", "a", runs("app.do", "x", `"${home}"`))}}, "steps[0].with.x"},
		"an open placeholder":      {tx.Plan{Steps: []tx.Step{step("s", "a", runs("app.do", "x", `"${steps.r"`))}}, "steps[0].with.x"},
		"a result of a later step": {tx.Plan{Steps: []tx.Step{step("s", "a", runs("app.do", "x", `"${steps.r.result.v}"`)), step("r", "a")}}, "steps[0].with.x"},
		"a result not waited for":  {tx.Plan{Steps: []tx.Step{step("r", "a"), step("s", "a", needs(), runs("app.do", "x", `"${steps.r.result.v}"`))}}, "steps[1].with.x"},
		"a result of several": {tx.Plan{Steps: []tx.Step{
			step("r", "a", func(s *tx.Step) { s.Nodes = []muster.Node{node("a"), node("b")} }), step("s", "a", runs("app.do", "x", `"${steps.r.result.v}"`)),
		}}, "steps[1].with.x"},
		"a secret of a result":     {tx.Plan{Steps: []tx.Step{step("r", "a"), step("s", "a", runs("app.do", "x", `"${steps.r.result.pass.word}"`))}}, "steps[1].with.x"},
		"a secret for an undo":     {tx.Plan{Steps: []tx.Step{step("r", "a", func(s *tx.Step) { c := call("app.undo", "x", `"${result.pass}"`); s.Undo = &c })}}, "steps[0].undo.with.x"},
		"two pivots":               {tx.Plan{Steps: []tx.Step{step("s", "a", pivot), step("r", "a", pivot)}}, "steps"},
		"no undo before the pivot": {tx.Plan{Steps: []tx.Step{step("s", "a", bare), step("r", "a", pivot)}}, "steps[0].undo"},
		"an end behind the pivot":  {tx.Plan{Steps: []tx.Step{step("s", "a", pivot), step("r", "a")}}, "steps[1].retriable"},
		"beside the pivot":         {tx.Plan{Steps: []tx.Step{step("s", "a", pivot), step("r", "a", needs())}}, "steps[1].needs"},
	}
	for name, c := range cases {
		c.plan.ID = "t"
		_, err := tx.Resolve(c.plan, able(), operator())
		e, ok := err.(*muster.Error) //nolint:errorlint // it is not wrapped
		if !ok || e.Kind != muster.Invalid || e.Fields[c.want] == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhoMayNotRunAStepOrItsUndoBeginsNothing(t *testing.T) {
	plan := tx.Plan{ID: "t", Steps: []tx.Step{step("s", "a")}}
	for name, by := range map[string]muster.Rights{
		"the step": {Principal: "key:k", Scopes: []string{"tx", "run:app.undo"}}, "the undo": {Principal: "key:k", Scopes: []string{"tx", "run:app.do"}},
		"the risk": {Principal: "key:k", Scopes: []string{"run:*"}, MaxRisk: muster.RiskRead}, "the node": {Principal: "key:k", Scopes: []string{"run:*"}, Targets: "env=prod"},
	} {
		if _, err := tx.Resolve(plan, able(), by); muster.KindOf(err) != muster.Forbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
	silent := able()
	delete(silent, "id-a")
	if _, err := tx.Resolve(plan, silent, operator()); muster.KindOf(err) != muster.Unavailable || !strings.Contains(err.Error(), "a") {
		t.Errorf("a silent node: %v", err)
	}
}

func TestStepsOfSeveralNodesBecomeOnesOfOneNodeEach(t *testing.T) {
	both := func(s *tx.Step) { s.Nodes = []muster.Node{node("a"), node("b")} }
	made := resolve(t, tx.Plan{Steps: []tx.Step{step("last", "c", needs("web")), step("web", "a", both, needs())}})
	got := make([]string, 0, len(made.Steps))
	for _, s := range made.Steps {
		got = append(got, fmt.Sprint(s.ID, s.Needs, s.NodeID, s.Journal))
	}
	want := []string{"web@a[]id-aj-a", "web@b[]id-bj-b", "last[web@a web@b]id-cj-c"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestTheUndoOfADefinitionGetsTheParametersOfItsStep(t *testing.T) {
	made := resolve(t, tx.Plan{Steps: []tx.Step{step("s", "a", bare, runs("app.deploy", "x", `"v2"`))}})
	undo := made.Steps[0].Undo
	if undo.Action != "app.undo" || string(undo.With["x"]) != `"to ${result.previous} for v2"` || string(undo.With["y"]) != `"why"` {
		t.Errorf("%s %s", undo.Action, undo.With)
	}
}

// world plays a master that writes everything down, and nodes that answer.
type world struct {
	t     *testing.T
	tx    muster.Tx
	now   time.Time
	rules tx.Rules
	calls []string // made, in their order
	log   []string // entries
}

func (w *world) write(answers ...tx.Answer) {
	w.t.Helper()
	events := tx.Decide(w.tx, answers, w.now, w.rules)
	if len(events) == 0 {
		return
	}
	next, err := fsm.AdvanceTx(w.tx, w.tx.Epoch, events, w.tx.Index+1, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	var line []string
	for _, e := range events {
		line = append(line, strings.TrimSpace(fmt.Sprint(e.Event, " ", e.Step)))
	}
	w.tx = next
	w.log = append(w.log, strings.Join(line, ", "))
}

// run answers all calls until the transaction needs no driver any more.
func (w *world) run(answer func(tx.Order) muster.Result) {
	w.t.Helper()
	w.write()
	for range 500 {
		orders, wake := tx.Calls(w.tx, w.now)
		switch {
		case !w.tx.Status.Driven():
			return
		case len(orders) > 0:
			o := orders[0]
			w.calls = append(w.calls, fmt.Sprintf("%s %s %d", o.Op, o.Step, o.Generation))
			w.write(tx.Answer{Step: o.Step, Op: o.Op, Generation: o.Generation, First: true, Result: answer(o)})
		case !wake.IsZero():
			w.now = wake
			w.write()
		default:
			w.t.Fatalf("stuck: %+v", w.tx)
		}
	}
	w.t.Fatalf("it does not end: %v", w.log)
}

func ok(tx.Order) muster.Result {
	return muster.Result{State: muster.StateOK, Success: true, Result: json.RawMessage(`{"v":1,"text":"one"}`)}
}

func state(s muster.State, code string) muster.Result {
	return muster.Result{State: s, Error: &muster.ActionError{Code: code, Message: code}}
}

// except answers ok but where a call of a step's operation is named.
func except(op string, r muster.Result, ids ...string) func(tx.Order) muster.Result {
	return func(o tx.Order) muster.Result {
		if o.Op == op && slices.Contains(ids, o.Step) {
			return r
		}
		return ok(o)
	}
}

func three(t *testing.T) *world {
	t.Helper()
	return &world{t: t, now: noon, rules: tx.Rules{Parallel: 10}, tx: resolve(t, tx.Plan{Steps: []tx.Step{step("one", "a"), step("two", "b"), step("three", "c")}})}
}

func TestThreeStepsTakeFourEntriesAfterTheFirst(t *testing.T) {
	w := three(t)
	w.run(ok)
	want := []string{"start one", "done one, start two", "done two, start three", "done three"}
	if w.tx.Status != muster.TxSucceeded || !reflect.DeepEqual(w.log, want) {
		t.Errorf("%s: %q", w.tx.Status, w.log)
	}
}

func TestAFailedStepHasTheOthersUndoneTheLastFirst(t *testing.T) {
	for place, failing := range []string{"one", "two", "three"} {
		w := three(t)
		w.run(except(muster.OpDo, state(muster.StateFailed, "exit"), failing))
		want := []string{"do one 1", "do two 1", "do three 1"}[:place+1]
		for _, id := range []string{"three", "two", "one"}[3-place:] {
			want = append(want, "undo "+id+" 2")
		}
		if w.tx.Status != muster.TxRolledBack || !reflect.DeepEqual(w.calls, want) {
			t.Errorf("%s failed: %s, %v", failing, w.tx.Status, w.calls)
		}
	}
}

func TestAStepThatTimedOutIsUndoneToo(t *testing.T) {
	for _, s := range []muster.State{muster.StateTimeout, muster.StateInterrupted, muster.StateCancelled} {
		w := three(t)
		w.run(except(muster.OpDo, state(s, "x"), "two"))
		if want := []string{"do one 1", "do two 1", "undo two 2", "undo one 2"}; w.tx.Status != muster.TxRolledBack || !reflect.DeepEqual(w.calls, want) {
			t.Errorf("%s: %s, %v", s, w.tx.Status, w.calls)
		}
	}
}

func TestAnActionThatRanAndBrokeItsPromiseIsUndone(t *testing.T) {
	for _, code := range []string{"signal", "bad_result", "result_too_large", "panic"} {
		w := three(t)
		w.run(except(muster.OpDo, state(muster.StateFailed, code), "one"))
		if want := []string{"do one 1", "undo one 2"}; w.tx.Status != muster.TxRolledBack || !reflect.DeepEqual(w.calls, want) {
			t.Errorf("%s: %s, %v", code, w.tx.Status, w.calls)
		}
	}
}

func TestWithoutAnAnswerTheSameCallIsMadeAgainUntilItsTimeIsUp(t *testing.T) {
	w := three(t)
	w.run(except(muster.OpDo, state(muster.StateUnknown, "no_answer"), "one"))
	undo := slices.Index(w.calls, "undo one 2")
	if w.tx.Status != muster.TxRolledBack || undo < 3 || slices.ContainsFunc(w.calls[:undo], func(c string) bool { return c != "do one 1" }) {
		t.Errorf("%s, %v", w.tx.Status, w.calls)
	}
	if waited := w.tx.Steps[0].Since.Sub(noon); waited < 40*time.Second || waited > 50*time.Second {
		t.Errorf("given up after %v", waited)
	}
}

func TestANodeThatCannotBeReachedIsTriedAgainUnlessAnEarlierCallMayHaveGotThere(t *testing.T) {
	w := three(t)
	w.run(except(muster.OpDo, state(muster.StateUnreachable, "no_connection"), "two"))
	if want := []string{"do one 1", "do two 1", "do two 2", "do two 3", "undo one 2"}; w.tx.Status != muster.TxRolledBack || !reflect.DeepEqual(w.calls, want) {
		t.Errorf("%s, %v", w.tx.Status, w.calls)
	}
	w = three(t)
	w.write()
	w.write(tx.Answer{Step: "one", Op: muster.OpDo, Generation: 1, Result: state(muster.StateUnreachable, "no_connection")})
	if s := w.tx.Steps[0]; s.Generation != 1 || s.Status != muster.StepStarting {
		t.Errorf("%+v", s)
	}
}

func TestAFailedUndoIsTriedAgainAndThenTheTransactionIsParked(t *testing.T) {
	w := three(t)
	w.run(func(o tx.Order) muster.Result {
		if o.Op == muster.OpDo && o.Step == "three" || o.Op == muster.OpUndo && o.Step == "two" {
			return state(muster.StateFailed, "exit")
		}
		return ok(o)
	})
	tries := 0
	for _, c := range w.calls {
		if strings.HasPrefix(c, "undo two") {
			tries++
		}
	}
	a := w.tx.Answer()
	if a.Status != muster.TxParked || tries != 10 || len(a.Sheet) != 2 || a.Sheet[1].Step != "two" || a.Sheet[1].Why.Code != "exit" || slices.Contains(w.calls, "undo one 2") {
		t.Errorf("%s after %d tries: %+v", a.Status, tries, a.Sheet)
	}
	if waited := w.now.Sub(noon); waited < 3*time.Minute || waited > 6*time.Minute {
		t.Errorf("parked after %v", waited)
	}
}

func TestANodeThatWillNeverKnowIsNotAskedAgain(t *testing.T) {
	unsure := state(muster.StateUnknown, "http_500")
	unsure.Settled = true
	w := three(t)
	w.run(except(muster.OpDo, unsure, "two"))
	if want := []string{"do one 1", "do two 1", "undo two 2", "undo one 2"}; w.tx.Status != muster.TxRolledBack || !reflect.DeepEqual(w.calls, want) {
		t.Errorf("%s, %v", w.tx.Status, w.calls)
	}
	for idempotent, want := range map[bool]int{false: 1, true: 10} {
		w := three(t)
		for i := range w.tx.Steps {
			w.tx.Steps[i].Undo.Idempotent = idempotent
		}
		w.run(func(o tx.Order) muster.Result {
			switch {
			case o.Op == muster.OpUndo:
				return unsure
			case o.Step == "two":
				return state(muster.StateFailed, "exit")
			}
			return ok(o)
		})
		undone := slices.DeleteFunc(w.calls, func(c string) bool { return !strings.HasPrefix(c, "undo one") })
		if w.tx.Status != muster.TxParked || len(slices.Compact(undone)) != want {
			t.Errorf("idempotent %v: %s, %v", idempotent, w.tx.Status, undone)
		}
	}
}

func TestANodeThatLostItsJournalParksAtOnceAndIsAskedOnce(t *testing.T) {
	for _, code := range []string{muster.CodeJournalLost, muster.CodeNotRemembered} {
		w := three(t)
		w.run(func(o tx.Order) muster.Result {
			switch {
			case o.Op == muster.OpDo && o.Step == "two":
				return state(muster.StateFailed, "exit")
			case o.Op == muster.OpUndo:
				return state(muster.StateFailed, code)
			default:
				return ok(o)
			}
		})
		if want := []string{"do one 1", "do two 1", "undo one 2"}; w.tx.Status != muster.TxParked || !reflect.DeepEqual(w.calls, want) {
			t.Errorf("%s: %s, %v", code, w.tx.Status, w.calls)
		}
	}
}

func TestWhatANodeMayHaveForgottenIsNotUndoneOnASuspicion(t *testing.T) {
	w := three(t)
	w.write()
	w.now = noon.Add(muster.TxMemory + time.Minute)
	w.run(ok)
	if s := w.tx.Steps[0]; w.tx.Status != muster.TxParked || s.Error.Code != muster.CodeNotRemembered || len(w.calls) > 0 {
		t.Errorf("%s, %+v, %v", w.tx.Status, s, w.calls)
	}
}

func TestANodeForgetsWhatNobodyMayAskItForAgain(t *testing.T) {
	for _, policy := range []string{muster.PolicyForward, muster.PolicyBackward} {
		w := &world{t: t, now: noon, tx: resolve(t, tx.Plan{Policy: policy, Steps: []tx.Step{step("one", "a", runs("app.do"))}})}
		w.write()
		if policy == muster.PolicyBackward {
			w.now = w.tx.Deadline
			w.write() // it is to be undone
		}
		w.now = w.now.Add(muster.TxMemory + time.Minute)
		if orders, _ := tx.Calls(w.tx, w.now); len(orders) > 0 {
			t.Errorf("%s: %+v", policy, orders)
		}
		w.run(ok)
		if s := w.tx.Steps[0]; w.tx.Status != muster.TxParked || len(w.calls) > 0 || s.Error.Code != muster.CodeNotRemembered || len(w.tx.Answer().Sheet) != 1 {
			t.Errorf("%s: %s, %+v, %v", policy, w.tx.Status, s, w.calls)
		}
	}
}

func TestAStepThatLostItsJournalInTheMiddleMayHaveBeenDone(t *testing.T) {
	for first, want := range map[bool]muster.StepStatus{true: muster.StepFailed, false: muster.StepUnknown} {
		w := three(t)
		w.write()
		events := tx.Decide(w.tx, []tx.Answer{{Step: "one", Op: muster.OpDo, Generation: 1, First: first, Result: state(muster.StateFailed, muster.CodeJournalLost)}}, w.now, w.rules)
		if len(events) == 0 || muster.StepStatus(events[0].Event) != want {
			t.Errorf("first %v: %+v", first, events)
		}
	}
}

func TestAStepThatOnceCameToNobodyKnowsWhatIsUndoneHoweverItEnds(t *testing.T) {
	often := func(s *muster.TxStep) {
		s.Run.Idempotent, s.Run.Retry = true, &muster.TxRetry{Attempts: 3}
	}
	for name, c := range map[string]struct {
		plan tx.Plan
		last string
		want muster.TxStatus
	}{
		"a step":    {tx.Plan{Steps: []tx.Step{step("one", "a")}}, "undo one 3", muster.TxRolledBack},
		"the pivot": {tx.Plan{Steps: []tx.Step{step("one", "a", pivot)}}, "do one 2", muster.TxParked},
	} {
		w := &world{t: t, now: noon, tx: resolve(t, c.plan)}
		often(&w.tx.Steps[0])
		w.run(func(o tx.Order) muster.Result {
			switch {
			case o.Op == muster.OpUndo:
				return ok(o)
			case o.Generation == 1:
				return state(muster.StateTimeout, "timeout")
			default:
				return state(muster.StateFailed, "exit")
			}
		})
		if w.tx.Status != c.want || w.calls[len(w.calls)-1] != c.last {
			t.Errorf("%s: %s, %v", name, w.tx.Status, w.calls)
		}
	}
}

func TestTheDeadlineTurnsTheDirectionAndOvertakesWhatRuns(t *testing.T) {
	w := three(t)
	w.write()
	w.now = w.tx.Deadline
	w.run(ok)
	if want := []string{"undo one 2"}; w.tx.Status != muster.TxRolledBack || w.tx.Error.Code != "deadline" || !reflect.DeepEqual(w.calls, want) {
		t.Errorf("%s, %v", w.tx.Status, w.calls)
	}
}

func TestBehindThePivotStepsAreTriedUntilTheDeadlineAndNeverUndone(t *testing.T) {
	plan := tx.Plan{Steps: []tx.Step{step("one", "a"), step("switch", "b", pivot), step("three", "c", retriable)}}
	w := &world{t: t, now: noon, tx: resolve(t, plan)}
	w.run(except(muster.OpDo, state(muster.StateFailed, "exit"), "three"))
	if w.tx.Status != muster.TxParked || len(w.calls) < 8 || slices.ContainsFunc(w.calls, func(c string) bool { return strings.HasPrefix(c, "undo") }) {
		t.Errorf("%s, %v", w.tx.Status, w.calls)
	}
	w = &world{t: t, now: noon, tx: resolve(t, plan)}
	w.run(except(muster.OpDo, state(muster.StateFailed, "exit"), "switch"))
	if w.tx.Status != muster.TxRolledBack {
		t.Errorf("the pivot failed: %s, %v", w.tx.Status, w.calls)
	}
	w = &world{t: t, now: noon, tx: resolve(t, plan)}
	w.run(except(muster.OpDo, state(muster.StateInterrupted, "x"), "switch"))
	if w.tx.Status != muster.TxParked || w.tx.Answer().Sheet[0].Step != "switch" {
		t.Errorf("nobody knows of the pivot: %s, %v", w.tx.Status, w.calls)
	}
}

func TestAForwardTransactionTriesAgainAndUndoesNothing(t *testing.T) {
	w := &world{t: t, now: noon, tx: resolve(t, tx.Plan{Policy: muster.PolicyForward, Steps: []tx.Step{step("one", "a"), step("two", "b")}})}
	fails := 0
	w.run(func(o tx.Order) muster.Result {
		if o.Step == "two" && fails < 5 {
			fails++
			return state(muster.StateFailed, "exit")
		}
		return ok(o)
	})
	if w.tx.Status != muster.TxSucceeded || w.calls[len(w.calls)-1] != "do two 6" {
		t.Errorf("%s, %v", w.tx.Status, w.calls)
	}
	w = &world{t: t, now: noon, tx: resolve(t, tx.Plan{Policy: muster.PolicyForward, Steps: []tx.Step{step("one", "a")}})}
	w.run(except(muster.OpDo, state(muster.StateInterrupted, "x"), "one"))
	if want := []string{"do one 1"}; w.tx.Status != muster.TxParked || !reflect.DeepEqual(w.calls, want) {
		t.Errorf("what may have been done was done again: %s, %v", w.tx.Status, w.calls)
	}
}

func TestPrechecksComeBeforeAnything(t *testing.T) {
	check := func(s *tx.Step) { c := call("app.look"); s.Precheck = &c }
	plan := tx.Plan{Steps: []tx.Step{step("one", "a"), step("two", "b", check)}}
	w := &world{t: t, now: noon, tx: resolve(t, plan)}
	w.run(ok)
	if want := []string{"check two 0", "do one 1", "do two 1"}; w.tx.Status != muster.TxSucceeded || !reflect.DeepEqual(w.calls, want) {
		t.Errorf("%s, %v", w.tx.Status, w.calls)
	}
	w = &world{t: t, now: noon, tx: resolve(t, plan)}
	w.run(except(tx.OpCheck, state(muster.StateFailed, "exit"), "two"))
	if want := []string{"check two 0"}; w.tx.Status != muster.TxRolledBack || w.tx.Error.Code != "precheck" || !reflect.DeepEqual(w.calls, want) {
		t.Errorf("%s, %v", w.tx.Status, w.calls)
	}
}

// operate has an operator say something.
func (w *world) operate(o fsm.TxOperate) {
	w.t.Helper()
	next, err := fsm.OperateTx(w.tx, o, "operator", w.tx.Index+1, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.tx, w.calls = next, nil
}

func TestWhatIsParkedBeforeItsPrechecksPassedMakesThemAgainAtAWord(t *testing.T) {
	check := func(s *tx.Step) { c := call("app.look"); s.Precheck = &c }
	plan := tx.Plan{Policy: muster.PolicyForward, Steps: []tx.Step{step("one", "a", check), step("two", "b", check)}}
	w := &world{t: t, now: noon, tx: resolve(t, plan)}
	broken := except(tx.OpCheck, state(muster.StateFailed, "exit"), "two")
	w.run(broken)
	if w.tx.Status != muster.TxParked || !w.tx.Steps[0].Checked {
		t.Fatalf("%s, %v", w.tx.Status, w.calls)
	}
	w.operate(fsm.TxOperate{Command: muster.TxTryNow})
	w.run(broken)
	if want := []string{"check one 0", "check two 0"}; w.tx.Status != muster.TxParked || !reflect.DeepEqual(w.calls, want) {
		t.Errorf("steps began before their prechecks passed: %s, %v", w.tx.Status, w.calls)
	}
	w.operate(fsm.TxOperate{Command: muster.TxTryNow})
	w.run(ok)
	if want := []string{"check one 0", "check two 0", "do one 1", "do two 1"}; w.tx.Status != muster.TxSucceeded || w.tx.Error != nil || !reflect.DeepEqual(w.calls, want) {
		t.Errorf("%s (%v), %v", w.tx.Status, w.tx.Error, w.calls)
	}
}

func TestAfterAParkedUndoItIsSaidWhyTheTransactionWentBack(t *testing.T) {
	w := three(t)
	w.run(func(o tx.Order) muster.Result {
		if o.Step == "three" && o.Op == muster.OpDo || o.Step == "one" && o.Op == muster.OpUndo {
			return state(muster.StateFailed, "exit")
		}
		return ok(o)
	})
	if w.tx.Status != muster.TxParked || w.tx.Error.Code != "undo_failed" {
		t.Fatalf("%s, %v", w.tx.Status, w.tx.Error)
	}
	w.operate(fsm.TxOperate{Command: muster.TxTryNow})
	w.run(ok)
	if w.tx.Status != muster.TxRolledBack || w.tx.Error == nil || w.tx.Error.Code != "step_failed" {
		t.Errorf("%s, because %+v", w.tx.Status, w.tx.Error)
	}
}

func TestBehindThePivotANodeThatFallsSilentIsAskedUntilTheDeadline(t *testing.T) {
	plan := tx.Plan{Steps: []tx.Step{step("switch", "b", pivot), step("last", "c", retriable)}}
	w := &world{t: t, now: noon, tx: resolve(t, plan)}
	w.run(func(o tx.Order) muster.Result {
		switch sinceBegin := w.now.Sub(noon); {
		case o.Step == "last" && sinceBegin < 4*time.Minute:
			return state(muster.StateFailed, "exit")
		case o.Step == "last" && sinceBegin < 8*time.Minute:
			return state(muster.StateUnknown, "no_answer")
		}
		return ok(o)
	})
	if w.tx.Status != muster.TxSucceeded {
		t.Errorf("%s (%v) after %v, %v", w.tx.Status, w.tx.Error, w.now.Sub(noon), w.calls)
	}
}

func TestANodeThatLeftTheRegistryIsNotAskedUntilTheDeadline(t *testing.T) {
	for code, r := range map[string]muster.Result{"unknown": state(muster.StateUnknown, "no_answer"), "failed": state(muster.StateUnreachable, "node_gone")} {
		w := &world{t: t, now: noon, tx: resolve(t, tx.Plan{Policy: muster.PolicyForward, Steps: []tx.Step{step("one", "a")}})}
		w.rules.Gone = func(node string) bool { return node == "id-a" }
		w.run(func(tx.Order) muster.Result { return r })
		if w.tx.Status != muster.TxParked || string(w.tx.Steps[0].Status) != code || len(w.calls) != 1 {
			t.Errorf("%s: %s, %s, %v", code, w.tx.Status, w.tx.Steps[0].Status, w.calls)
		}
	}
}

func TestASilenceIsWaitedOutForEachCallAnew(t *testing.T) {
	many := func(s *tx.Step) { s.Run.Run = "app.patient" }
	patient := info("app.patient", muster.RiskLow)
	patient.Retry = &muster.TxRetry{Attempts: 10, FirstMs: 60_000, On: []string{"unavailable"}}
	can := able()
	can["id-a"] = tx.Ability{Journal: "j-a", Actions: append(can["id-a"].Actions, patient)}
	made, err := tx.Resolve(tx.Plan{ID: "t", Steps: []tx.Step{step("one", "a", many)}}, can, operator())
	if err != nil {
		t.Fatal(err)
	}
	begun, err := fsm.BeginTx(made, 1, noon)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, now: noon, tx: begun}
	asked := 0
	w.run(func(o tx.Order) muster.Result {
		asked++
		switch asked {
		case 1, 2:
			return state(muster.StateUnreachable, "no_connection")
		case 3:
			return state(muster.StateUnknown, "no_answer")
		}
		return ok(o)
	})
	if want := []string{"do one 1", "do one 2", "do one 3", "do one 3"}; w.tx.Status != muster.TxSucceeded || !reflect.DeepEqual(w.calls, want) {
		t.Errorf("%s, %v", w.tx.Status, w.calls)
	}
}

func TestWhoseKeyEndsHasNothingTriedAnew(t *testing.T) {
	for name, r := range map[string]muster.Result{
		"failed": state(muster.StateFailed, "exit"), "not reached": state(muster.StateUnreachable, "no_connection"),
	} {
		w := &world{t: t, now: noon, tx: resolve(t, tx.Plan{Policy: muster.PolicyForward, Steps: []tx.Step{step("one", "a")}})}
		w.write()
		w.rules.Denied = &muster.ActionError{Code: "unauthorized", Message: "revoked"}
		w.run(func(tx.Order) muster.Result { return r })
		if want := []string{"do one 1"}; w.tx.Status != muster.TxParked || !reflect.DeepEqual(w.calls, want) {
			t.Errorf("%s: %s, %v", name, w.tx.Status, w.calls)
		}
	}
}

func TestAStepWhoseNodeKnowsALaterCallMayHaveBeenDone(t *testing.T) {
	w := three(t)
	w.run(except(muster.OpDo, state(muster.StateFailed, muster.CodeSuperseded), "two"))
	if want := []string{"do one 1", "do two 1", "undo two 2", "undo one 2"}; !reflect.DeepEqual(w.calls, want) {
		t.Errorf("%s, %v", w.tx.Status, w.calls)
	}
}

func TestTriesThatFollowEachOtherAtOnceAreHeldApart(t *testing.T) {
	hasty := info("app.hasty", muster.RiskLow)
	hasty.Retry = &muster.TxRetry{Attempts: 2, FirstMs: 1, MaxMs: 1}
	can := able()
	can["id-a"] = tx.Ability{Journal: "j-a", Actions: append(can["id-a"].Actions, hasty)}
	made, err := tx.Resolve(tx.Plan{ID: "t", DeadlineMs: 1000, Policy: muster.PolicyForward, Steps: []tx.Step{step("one", "a", runs("app.hasty"))}}, can, operator())
	if err != nil {
		t.Fatal(err)
	}
	begun, err := fsm.BeginTx(made, 1, noon)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, now: noon, tx: begun}
	w.run(except(muster.OpDo, state(muster.StateFailed, "exit"), "one"))
	if w.tx.Status != muster.TxParked || len(w.calls) > 30 {
		t.Errorf("%s after %d calls in a second", w.tx.Status, len(w.calls))
	}
}

func TestResultsOfEarlierStepsAreFilledIn(t *testing.T) {
	w := &world{t: t, now: noon, tx: resolve(t, tx.Plan{Steps: []tx.Step{
		step("one", "a"), step("two", "b", runs("app.do", "x", `["${steps.one.result.v}","is ${steps.one.result.text}, \u0024{steps.one.result.v}"]`)),
	}})}
	var given string
	w.run(func(o tx.Order) muster.Result {
		if o.Step == "two" {
			given = string(o.Execution.Params["x"])
		}
		return ok(o)
	})
	if given != `[1,"is one, 1"]` {
		t.Errorf("given %s", given)
	}
	w = &world{t: t, now: noon, tx: resolve(t, tx.Plan{Steps: []tx.Step{step("one", "a"), step("two", "b", runs("app.do", "x", `"${steps.one.result.gone}"`))}})}
	w.run(ok)
	if want := []string{"do one 1", "undo one 2"}; w.tx.Status != muster.TxRolledBack || !reflect.DeepEqual(w.calls, want) || w.tx.Steps[1].Error.Code != "no_result" {
		t.Errorf("%s, %v", w.tx.Status, w.calls)
	}
}

func TestAnUndoTakesResultsAlongAndItsNodeFillsInAllAtOnce(t *testing.T) {
	undo := call("app.undo", "x", `"${result.v} for ${steps.one.result.odd}"`)
	w := &world{t: t, now: noon, tx: resolve(t, tx.Plan{Steps: []tx.Step{
		step("one", "a"), step("two", "b", func(s *tx.Step) { s.Undo = &undo }), step("three", "c"),
	}})}
	var got muster.Execution
	w.run(func(o tx.Order) muster.Result {
		switch {
		case o.Step == "three":
			return state(muster.StateFailed, "exit")
		case o.Step == "two" && o.Op == muster.OpUndo:
			got = o.Execution
		}
		return muster.Result{State: muster.StateOK, Success: true, Result: json.RawMessage(`{"v":1,"odd":"${home}"}`)}
	})
	if string(got.Params["x"]) != string(undo.With["x"]) || string(got.Tx.Given["steps.one.result.odd"]) != `"${home}"` || len(got.Tx.Given) != 1 {
		t.Errorf("%s, given %s", got.Params, got.Tx.Given)
	}
}

func TestStepsThatNeedNothingRunSideBySideUpToTheLimit(t *testing.T) {
	plan := tx.Plan{Steps: []tx.Step{step("one", "a", needs()), step("two", "b", needs()), step("three", "c", needs())}}
	for parallel, want := range map[int]int{1: 1, 2: 2, 10: 3} {
		w := &world{t: t, now: noon, tx: resolve(t, plan), rules: tx.Rules{Parallel: parallel}}
		w.write()
		if orders, _ := tx.Calls(w.tx, w.now); len(orders) != want {
			t.Errorf("%d at once: %d calls", parallel, len(orders))
		}
	}
}

func TestALongResultIsNotKept(t *testing.T) {
	w := three(t)
	w.run(func(tx.Order) muster.Result {
		return muster.Result{State: muster.StateOK, Success: true, Result: json.RawMessage(`"` + strings.Repeat("x", muster.MaxTxResult) + `"`)}
	})
	if s := w.tx.Steps[0]; w.tx.Status != muster.TxSucceeded || s.Result != nil || s.Error.Code != "result_cut" {
		t.Errorf("%s, %+v", w.tx.Status, s)
	}
}

func TestOneAtATimeTheLastIsUndoneFirst(t *testing.T) {
	w := &world{t: t, now: noon, rules: tx.Rules{Parallel: 1}, tx: resolve(t, tx.Plan{Steps: []tx.Step{
		step("one", "a", needs()), step("two", "b", needs()), step("three", "c", needs()),
	}})}
	w.run(except(muster.OpDo, state(muster.StateFailed, "exit"), "three"))
	if want := "do one 1 do two 1 do three 1 undo two 2 undo one 2"; strings.Join(w.calls, " ") != want {
		t.Errorf("%v", w.calls)
	}
}

func TestAStepForWhichThereIsNoPlaceIsTriedAgainForAWhile(t *testing.T) {
	full := 4
	w := three(t)
	w.run(func(o tx.Order) muster.Result {
		if full--; o.Step == "one" && full >= 0 {
			return state(muster.StateFailed, muster.CodeQueueFull)
		}
		return ok(o)
	})
	want := []string{"do one 1", "do one 2", "do one 3", "do one 4", "do one 5", "do two 1", "do three 1"}
	if w.tx.Status != muster.TxSucceeded || !reflect.DeepEqual(w.calls, want) {
		t.Errorf("%s, %v", w.tx.Status, w.calls)
	}
	w = three(t)
	w.run(except(muster.OpDo, state(muster.StateFailed, muster.CodeQueueFull), "two"))
	waited := w.tx.Steps[1].EndedAt.Sub(w.tx.Steps[1].StartedAt)
	if a := w.tx.Answer(); a.Status != muster.TxRolledBack || !slices.Equal(a.RolledBack, []string{"one"}) || waited < 30*time.Second || waited > 40*time.Second {
		t.Errorf("%s after %v: %+v", a.Status, waited, a)
	}
}

func TestWhyItTurnedBackOutlivesThatItWasParked(t *testing.T) {
	w := three(t)
	broken := true
	again := func(o tx.Order) muster.Result {
		switch {
		case o.Op == muster.OpDo && o.Step == "two":
			return muster.Result{State: muster.StateFailed, Error: &muster.ActionError{Code: "exit", Message: "it ended", Output: "no\nroom"}}
		case o.Op == muster.OpUndo && broken:
			return state(muster.StateFailed, "exit")
		}
		return ok(o)
	}
	w.run(again)
	if a := w.tx.Answer(); a.Status != muster.TxParked || a.Error.Message != "not undone: one" || a.Cause == nil || a.Cause.Message != "step two failed: it ended: no room" {
		t.Errorf("%+v, %+v", a.Error, a.Cause)
	}
	broken = false
	next, err := fsm.OperateTx(w.tx, fsm.TxOperate{Command: muster.TxTryNow}, "operator", w.tx.Index+1, w.now)
	if err != nil {
		t.Fatal(err)
	}
	if w.tx = next; next.Error.Message != "step two failed: it ended: no room" {
		t.Errorf("it goes on because of %+v", next.Error)
	}
	w.run(again)
	a := w.tx.Answer()
	if a.Status != muster.TxRolledBack || a.Error.Message != "step two failed: it ended: no room" || a.Cause != nil || a.Steps[0].Error != nil {
		t.Errorf("%s: %+v, %+v, %+v", a.Status, a.Error, a.Cause, a.Steps[0].Error)
	}
}
