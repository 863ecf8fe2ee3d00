package httpserver

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster"
	"muster/httpserver/api"

	"github.com/google/uuid"
)

// maxRunDeadline is how long a run is waited for at most.
const maxRunDeadline = 10 * time.Minute

// maxExecution is the largest body of an execution: a run's, and what the node
// that leads it adds.
const maxExecution = maxDocuments + 64<<10

func (s *Server) actionTable() []Route {
	return []Route{
		{Method: "GET", Path: "/v1/actions", Scope: muster.ScopeRead, Query: []string{"limit", "cursor"}, Handle: s.listActions},
		{Method: "GET", Path: "/v1/actions/{name}", Scope: scopeShow, Handle: s.showAction},
		{Method: "POST", Path: "/api/ai-engine/actions", Scope: scopeRun, Body: maxDocuments, Waits: true, Handle: s.runAction},
		{Method: "POST", Path: "/v1/run", Scope: scopeRun, Body: maxDocuments, Waits: true, Handle: s.run},
		{Method: "GET", Path: api.PathActions, Scope: muster.ScopeNode, Query: []string{"names"}, Handle: s.ownActions},
		{Method: "POST", Path: api.PathRun, Scope: muster.ScopeNode, Body: maxExecution, Waits: true, Handle: s.execute},
	}
}

// infos is this node's own actions.
func (s *Server) infos() []muster.ActionInfo {
	if s.cfg.Actions == nil {
		return []muster.ActionInfo{}
	}
	infos := s.cfg.Actions.Infos()
	for i := range infos {
		infos[i].Nodes = []string{s.slug()}
	}
	return infos
}

// ownActions lists this node's actions for another one: those that the caller
// behind it may see.
func (s *Server) ownActions(_ context.Context, r *Request) (any, error) {
	if !runsSome(r.Rights) {
		if err := need(r.Rights, muster.ScopeRead); err != nil {
			return nil, err
		}
	}
	infos := s.infos()
	if list := r.Query.Get("names"); list != "" {
		infos = named(infos, strings.Split(list, ","))
	}
	return api.Actions{
		Actions: slices.DeleteFunc(infos, func(a muster.ActionInfo) bool { return !mayShow(r.Rights, a.Action) }), Journal: s.cfg.JournalID,
	}, nil
}

// named are those that have one of the names, and those by which they are undone.
func named(infos []muster.ActionInfo, names []string) []muster.ActionInfo {
	for _, a := range infos {
		if a.Undo != nil && slices.Contains(names, a.Action) {
			names = append(names, a.Undo.Action)
		}
	}
	return slices.DeleteFunc(infos, func(a muster.ActionInfo) bool { return !slices.Contains(names, a.Action) })
}

func (s *Server) catalog(ctx context.Context) api.Actions {
	all, missing := s.infos(), []string(nil)
	if s.cfg.Catalog != nil {
		all, missing = s.cfg.Catalog.Catalog(ctx)
	}
	return api.Actions{Actions: append([]muster.ActionInfo{}, all...), Missing: missing}
}

func (s *Server) listActions(ctx context.Context, r *Request) (_ any, err error) {
	c := s.catalog(ctx)
	c.Actions, c.Cursor, err = page(r.Query, c.Actions, func(a muster.ActionInfo) string { return a.Action + " " + a.Version + " " + a.Digest })
	return c, err
}

// showAction lists the versions of one action.
func (s *Server) showAction(ctx context.Context, r *Request) (any, error) {
	name, c := r.Params["name"], s.catalog(ctx)
	c.Actions = slices.DeleteFunc(c.Actions, func(a muster.ActionInfo) bool { return a.Action != name })
	if len(c.Actions) > 0 {
		return c, nil
	}
	err := muster.Errorf(muster.NotFound, "no action %q", name).WithHint("muster action list shows those there are")
	if len(c.Missing) > 0 {
		err = err.WithHint("it may be on a node that did not answer: " + strings.Join(c.Missing, ", "))
	}
	return nil, err
}

// asked is a run as it is sent; On is nil when it is not said.
type asked struct {
	muster.Run
	On *muster.Selector `json:"on"`
}

// decodeRun reads a run that the caller may ask for.
func decodeRun(r *Request) (a asked, err error) {
	if err := api.Decode(r.Body, &a); err != nil {
		return a, err
	}
	if a.Action == "" {
		return a, muster.FieldError("action", "must be said")
	}
	if most := int(maxRunDeadline.Milliseconds()); a.TimeoutMs < 0 || a.TimeoutMs > most {
		return a, muster.FieldError("timeout_ms", "must be from 1 to "+strconv.Itoa(most))
	}
	if err := checkKey("key", a.Key); err != nil {
		return a, err
	}
	if r.Key != "" && a.Key != "" && r.Key != a.Key {
		return a, muster.FieldError("key", "differs from the header "+api.HeaderIdempotency)
	}
	if a.Key == "" {
		a.Key = r.Key
	}
	return a, need(r.Rights, "run:"+a.Action)
}

// patience is how long a run is waited for: what the header says, which ctx has
// already, or what the body says; the smaller wins. The header is no field of
// the run's: what it says beyond the most is cut.
func patience(ctx context.Context, r *Request, ms int) time.Duration {
	limit := r.usual
	if ms > 0 {
		limit = time.Duration(ms) * time.Millisecond
	} else if r.timed {
		limit = maxRunDeadline
	}
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end))
	}
	return limit
}

// run runs an action on the nodes it names.
func (s *Server) run(ctx context.Context, r *Request) (any, error) {
	a, err := decodeRun(r)
	if err != nil {
		return nil, err
	}
	if a.On == nil {
		return nil, muster.FieldError("on", "must be said").WithHint(`all nodes are {"all": true}`)
	}
	if s.cfg.Runner == nil {
		return nil, muster.FieldError("on", "this node runs actions on itself only")
	}
	a.Run.On = *a.On
	j, err := s.led(ctx, r, a.Run)
	switch {
	case err != nil:
		return nil, err
	case j.Status == muster.JobRunning || a.Wait != nil && !*a.Wait:
		return status{http.StatusAccepted, j}, nil
	default:
		return j.RunAnswer, nil
	}
}

// led has a run done as a job, and waits for it as long as the caller does.
func (s *Server) led(ctx context.Context, r *Request, run muster.Run) (muster.Job, error) {
	limit := patience(ctx, r, run.TimeoutMs)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	run.TimeoutMs = max(1, int(limit.Milliseconds()))
	return s.lead(ctx, r.Rights, run)
}

// runAction runs an action on this node, or on those it names.
func (s *Server) runAction(ctx context.Context, r *Request) (any, error) {
	a, err := decodeRun(r)
	if err != nil {
		return nil, err
	}
	if a.On != nil {
		return s.run(ctx, r)
	}
	if err := a.alone(s.cfg.Runner); err != nil {
		return nil, err
	}
	if err := s.reached(r.Rights); err != nil {
		return nil, err
	}
	if s.cfg.Actions == nil {
		return nil, muster.Errorf(muster.Malformed, "this node has no actions").WithCode(codeUnknownAction)
	}
	e := muster.Execution{Action: a.Action, Params: a.Params, Check: a.Check, Job: s.newJob()}
	if err := s.cfg.Actions.Admit(r.Rights, e); err != nil {
		return nil, err
	}
	if a.Key != "" {
		return s.runOnce(ctx, r, a.Run)
	}
	limit := patience(ctx, r, a.TimeoutMs)
	e.StartWithinMs = max(1, limit.Milliseconds())
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	res, ended, err := s.perform(ctx, r.Rights, e)
	if err == nil && !ended {
		res.State, res.DurationMs = muster.StateUnknown, limit.Milliseconds()
		res.Error = &muster.ActionError{Code: "no_answer", Message: "no answer yet when the wait ended; it may still be running"}
	}
	return ran(e.Action, res), err
}

// runOnce runs an action on this node as a job: its key may be used again, here or
// elsewhere.
func (s *Server) runOnce(ctx context.Context, r *Request, run muster.Run) (any, error) {
	run.On = muster.Selector{Nodes: &[]string{s.cfg.ID}}
	j, err := s.led(ctx, r, run)
	if err != nil {
		return nil, err
	}
	for _, res := range j.Results {
		return ran(run.Action, res), nil
	}
	return status{http.StatusAccepted, j}, nil
}

// alone refuses what a run on the node that is asked cannot have.
func (a asked) alone(runner Runner) error {
	bad, how := complaints{}, a.How
	bad.when(how.Mode != "" || how.Concurrency != 0 || how.Batches != nil || how.Pause != "" || how.MaxFail != nil || how.OnFail != "",
		"how", "is for runs with on")
	bad.when(a.Key != "" && runner == nil, "key", "this node cannot remember it")
	bad.when(a.Wait != nil && !*a.Wait, "wait", "false is for runs with on")
	return bad.err("the run has invalid fields")
}

func (s *Server) newJob() string { return "j_" + s.cfg.ID + "_" + uuid.Must(uuid.NewV7()).String() }

const codeUnknownAction = "unknown_action"

func ran(action string, res muster.Result) api.Ran {
	return api.Ran{
		Success: res.Success, Action: action, Node: res.Node, State: res.State,
		Result: res.Result, Error: res.Error, Leaked: res.Leaked, DurationMs: res.DurationMs,
	}
}

// perform executes an action here. The end of ctx ends the wait, not the work:
// then ended is false.
func (s *Server) perform(ctx context.Context, by muster.Rights, e muster.Execution) (res muster.Result, ended bool, err error) {
	done := make(chan muster.Result, 1)
	if !s.errands.run(ctx, func(ctx context.Context) { done <- s.cfg.Actions.Execute(ctx, by, e) }) {
		return res, false, muster.Errorf(muster.Unavailable, "this node is going down")
	}
	select {
	case res = <-done:
		ended = true
	case <-ctx.Done():
	}
	self := s.self()
	res.Node, res.NodeName = self.Slug, self.Name
	return res, ended, nil
}

// execute runs an action here for another node, which selected this one. Who
// leads the run has waited long enough when ctx ends, and knows no outcome.
func (s *Server) execute(ctx context.Context, r *Request) (any, error) {
	var e muster.Execution
	if err := api.Decode(r.Body, &e); err != nil {
		return nil, err
	}
	if err := errors.Join(need(r.Rights, "run:"+e.Action), s.reached(r.Rights)); err != nil {
		return nil, err
	}
	if s.cfg.Actions == nil {
		return nil, muster.Errorf(muster.Malformed, "this node has no actions").WithCode(codeUnknownAction)
	}
	res, ended, err := s.perform(ctx, r.Rights, e)
	if err == nil && !ended {
		err = muster.Errorf(muster.OutcomeUnknown, "the action goes on after the wait for it ended")
	}
	return res, err
}
