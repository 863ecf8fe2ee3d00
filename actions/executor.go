package actions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"muster"
)

// ExecutorConfig is what an Executor needs to know.
type ExecutorConfig struct {
	ID          string       // of this node
	Definitions []Definition // from LoadDir; more than the builtin ones
	Own         []Definition // of the program, made by Own; a reload does not touch them
	Docs        Documents    // this node's index; nil: it has none
	Cache       Cache        // of answers; nil: it has none
	Journal     Journal      // nil: nothing is written down
	Steps       Steps        // the same journal; nil: no part in transactions
	Callers     Callers      // nil: whoever could ask for an execution may end it
	Spool       *Spool       // nil: what programs print is not kept
	Log         *slog.Logger // nil: no log
}

// Executor runs actions on this node. It is safe for concurrent use.
type Executor struct {
	cfg     ExecutorConfig
	running calls
	cells   cells
	watched watched

	mu    sync.Mutex
	set   map[string]*action       // by name; guarded by mu
	infos []muster.ActionInfo      // of them, by name; guarded by mu, never changed
	locks map[string]chan struct{} // by name; guarded by mu
}

// action is a definition and who waits for it.
type action struct {
	Definition
	gate *gate
}

type reason string

func (r reason) Error() string { return string(r) }

// Why an execution ended before it was done.
const (
	errStopping  = reason("the node is stopping")
	errTimeout   = reason("it was killed at its limit")
	errCancelled = reason("it was cancelled")
	errTooLate   = reason("nobody waits for it any more")
)

// NewExecutor makes an Executor of the builtin actions and those defined. An
// action that is there twice is an Invalid error.
func NewExecutor(cfg ExecutorConfig) (*Executor, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Executor{cfg: cfg, locks: map[string]chan struct{}{}}
	return e, e.Reload(cfg.Definitions)
}

// EndLeft ends what programs of an agent that was killed have left running here,
// where they had control groups, and removes their directories.
func (e *Executor) EndLeft() {
	e.cells.prepare()
	sweepScratch()
}

// Reload puts other definitions in the place of those from files, all or, with
// an error, none. What is running goes on as it began.
func (e *Executor) Reload(defs []Definition) error {
	set := map[string]*action{}
	for _, d := range builtins(e.cfg.Docs, e.cfg.Cache) {
		set[d.Action] = &action{Definition: d, gate: newGate(d.Limits)}
	}
	var errs []error
	for _, d := range slices.Concat(e.cfg.Own, defs) {
		if other, twice := set[d.Action]; twice || isBuiltin(d.Action) {
			where := "built in"
			if twice {
				where = other.source
			}
			errs = append(errs, fmt.Errorf("%s: %s is defined twice: %s, too", d.source, d.Action, where))
			continue
		}
		set[d.Action] = &action{Definition: d, gate: newGate(d.Limits)}
	}
	if err := errors.Join(errs...); err != nil {
		return &muster.Error{Kind: muster.Invalid, Message: err.Error(), Err: err}
	}
	infos := make([]muster.ActionInfo, 0, len(set))
	for _, a := range set {
		infos = append(infos, a.Info())
	}
	slices.SortFunc(infos, func(a, b muster.ActionInfo) int { return cmp.Compare(a.Action, b.Action) })
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, a := range set { // its limits hold for what runs and what comes together
		if old := e.set[name]; old != nil && old.gate.as(a.gate) {
			a.gate = old.gate
		}
	}
	e.set, e.infos = set, infos
	return nil
}

// isBuiltin reports whether a name belongs to the program, even where this node
// does not offer the action.
func isBuiltin(name string) bool {
	return oneOf(name, "node.ping", "node.echo", "node.sleep", "index.add", "index.update", "index.refresh", "index.delete", "cache.flush")
}

// Infos describes this node's actions, by name. Nodes is left to Merge.
func (e *Executor) Infos() []muster.ActionInfo {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.infos)
}

// definition returns an action; ok is false if this node does not have it.
func (e *Executor) definition(name string) (d Definition, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a, ok := e.set[name]; ok {
		return a.Definition, true
	}
	return d, false
}

// Info describes one of this node's actions; ok is false if it is not there.
func (e *Executor) Info(name string) (info muster.ActionInfo, ok bool) {
	d, ok := e.definition(name)
	if ok {
		info = d.Info()
	}
	return info, ok
}

// SecretParams names the parameters of an action that are secret; ok is false if
// this node does not have it.
func (e *Executor) SecretParams(action string) (names []string, ok bool) {
	d, ok := e.definition(action)
	for name, p := range d.Params {
		if p.Secret {
			names = append(names, name)
		}
	}
	return names, ok
}

// risk returns the risk of an action; ok is false if this node does not have it.
func (e *Executor) risk(name string) (risk muster.Risk, ok bool) {
	d, ok := e.definition(name)
	return d.Risk, ok
}

// Admit judges an execution and does nothing: Forbidden, Malformed with code
// unknown_action, or Invalid with Fields by parameter. Only those who may run an
// action learn whether it is there.
func (e *Executor) Admit(by muster.Rights, x muster.Execution) error {
	_, _, err := e.admit(by, x)
	return err
}

func (e *Executor) admit(by muster.Rights, x muster.Execution) (*action, call, error) {
	if err := mayRun(by, x.Action); err != nil {
		return nil, call{}, err
	}
	e.mu.Lock()
	a := e.set[x.Action]
	e.mu.Unlock()
	if a == nil {
		return nil, call{}, muster.Errorf(muster.Malformed, "no action %q here", x.Action).WithCode("unknown_action")
	}
	if err := mayRisk(by, x.Action, a.Risk); err != nil {
		return nil, call{}, err
	}
	if e.written(a) && x.Job == "" {
		return nil, call{}, muster.FieldError("job", "must be said")
	}
	if x.Check && a.Check == nil {
		return nil, call{}, muster.FieldError("check", x.Action+" declares no dry run").WithCode("unsupported")
	}
	params, err := a.admit(x.Params)
	if err != nil {
		return nil, call{}, err
	}
	c := call{def: &a.Definition, params: params, job: x.Job, node: e.cfg.ID, check: x.Check, hide: secretsOf(&a.Definition, params), within: within(x), cells: &e.cells, log: e.cfg.Log, by: by}
	if h := a.handler(x.Check); h != nil {
		c.argv, err = h.fill(params)
	}
	return a, c, err
}

// within is how long an execution may wait for its turn, 0 for any time.
func within(x muster.Execution) time.Duration {
	return time.Duration(min(max(0, x.StartWithinMs), maxTimeout.Milliseconds())) * time.Millisecond
}

// handler is the program to run; nil for a builtin action.
func (d *Definition) handler(check bool) *Handler {
	switch {
	case check:
		return d.Check
	case d.builtin != nil:
		return nil
	default:
		return &d.Handler
	}
}

func mayRun(by muster.Rights, name string) error {
	if !by.May("run:" + name) {
		return muster.Errorf(muster.Forbidden, "this needs the scope run:%s", name)
	}
	return nil
}

// mayRisk holds an action's risk against the caller's limit. A limit that is no
// risk allows nothing.
func mayRisk(by muster.Rights, name string, risk muster.Risk) error {
	if by.MaxRisk != "" && risk.Level() > by.MaxRisk.Level() {
		return muster.Errorf(muster.Forbidden, "%s has risk %s, the caller may go up to %s", name, risk, by.MaxRisk).WithCode("risk")
	}
	return nil
}

// Execute runs an action and waits for its end, its limits or that of ctx,
// which kills it. The rights are checked first, whoever checked them before.
// With a journal, what is of a risk above read is in it before it starts, or does
// not start (failed, code journal); the same job again gets the same result, and a
// job that was another request is failed, code conflict.
// Secret parameters are in no part of the result. Node and NodeName are left
// empty.
func (e *Executor) Execute(ctx context.Context, by muster.Rights, x muster.Execution) muster.Result {
	began := time.Now()
	ctx, end, err := e.running.begin(ctx, callName(x.Action, x.Job))
	if err != nil {
		return resultOf(notStarted(err), nil, began)
	}
	defer end()
	if x.Tx != nil {
		return e.step(ctx, by, x, began)
	}
	a, c, err := e.admit(by, x)
	if err != nil {
		if muster.KindOf(err) == muster.Forbidden {
			e.cfg.Log.Warn("action denied", "action", x.Action, "caller", by.Principal, "job", x.Job)
		}
		return resultOf(refused(err), nil, began) // names parameters, but never their values
	}
	return e.once(ctx, a, c, entry(by, a, x), began)
}

// perform does an action, and tries it again where its definition has it so. An
// end of ctx between two tries leaves it cancelled, or interrupted. What an earlier
// try may have done stands when the last one did nothing.
func (e *Executor) perform(ctx context.Context, a *action, c call) outcome {
	leaked := 0
	var doubt *outcome // of the latest try that may have done something
	for tries := 1; ; tries++ {
		o := e.attempt(ctx, a, c)
		leaked += o.leaked
		o.leaked = leaked
		if c.tx != nil || !a.mayAgain(tries, o) { // a transaction counts its tries itself
			return o.orElse(doubt)
		}
		if !o.nothing() {
			doubt = &o
		}
		wait := a.Retry.pause(tries)
		e.cfg.Log.Info("action is tried again", "action", a.Action, "job", c.job, "tries", tries, "state", string(o.state), "in", wait)
		if !rest(ctx, wait) {
			return o.endedBy(context.Cause(ctx))
		}
		if e.ended(c) != nil { // what the last try came to stands
			return o.orElse(doubt)
		}
	}
}

// ended says why a caller may have nothing more started: the rights have ended
// since. A step of a transaction, and its undo, are the transaction's to judge.
func (e *Executor) ended(c call) error {
	if e.cfg.Callers == nil || c.tx != nil {
		return nil
	}
	return e.cfg.Callers.Allowed(c.by)
}

// orElse is this outcome, or that of an earlier try if this one did nothing.
func (o outcome) orElse(doubt *outcome) outcome {
	if doubt == nil || !o.nothing() {
		return o
	}
	leaked := o.leaked
	o = *doubt
	o.leaked = leaked
	return o
}

// attempt runs the handler within its limit.
func (e *Executor) attempt(ctx context.Context, a *action, c call) outcome {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(a.Limits.Timeout), errTimeout)
	defer cancel()
	teller(e.cfg.Log, a.Risk)("action started", "action", a.Action, "job", c.job, "check", c.check)
	o := e.safely(ctx, c)
	if ctx.Err() != nil && o.state == muster.StateTimeout {
		o = o.endedBy(context.Cause(ctx))
	}
	hide, shown := c.hide.withResult(c.def, o.result)
	if o.result = shown; len(hide) > len(c.hide) {
		o = o.hidden(hide)
	}
	if o.fault != nil && c.def.confides() {
		o.fault.Output = "" // nobody knows the secrets of a result that is not there
	}
	if len(o.result) > int(a.Limits.Output) {
		leaked := o.leaked
		o = failed("result_too_large", "its result is longer than %d bytes", a.Limits.Output)
		o.leaked = leaked
	}
	teller(e.cfg.Log, a.Risk)("action ended", "action", a.Action, "job", c.job, "state", string(o.state))
	return o
}

// teller tells of an action's beginning and end: of one that only reads at debug,
// the request log has a row of it.
func teller(log *slog.Logger, risk muster.Risk) func(msg string, args ...any) {
	if risk == muster.RiskRead {
		return log.Debug
	}
	return log.Info
}

// turn waits for a slot and the locks, until it is too late to start.
func (e *Executor) turn(ctx context.Context, a *action, c call) (leave func(), err error) {
	if c.within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.within, errTooLate)
		defer cancel()
	}
	out, err := a.gate.enter(ctx)
	if err != nil {
		return nil, err
	}
	unlock, err := e.lock(ctx, a.Locks)
	if err != nil {
		out()
		return nil, err
	}
	leave = func() { unlock(); out() }
	if e.running.stopping() { // its turn came because another was ended
		leave()
		return nil, errStopping
	}
	if ctx.Err() != nil { // its turn came together with the end
		leave()
		return nil, context.Cause(ctx)
	}
	if err := e.ended(c); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// safely runs the handler and survives it.
func (e *Executor) safely(ctx context.Context, c call) (o outcome) {
	defer func() {
		if p := recover(); p != nil {
			e.cfg.Log.Error("action panicked", "action", c.def.Action, "job", c.job, "panic", c.hide.text(fmt.Sprint(p)), "stack", string(debug.Stack()))
			o = failed("panic", "the action broke down")
		}
	}()
	if h := c.def.handler(c.check); h != nil {
		return h.do(ctx, c)
	}
	return c.def.builtin(ctx, c)
}

// notStarted says why an execution did not get its turn.
func notStarted(err error) outcome {
	if muster.CodeOf(err) == muster.CodeQueueFull {
		return refused(err)
	}
	if _, judged := errors.AsType[*muster.Error](err); judged { // the caller's rights ended
		return outcome{state: muster.StateDenied, fault: &muster.ActionError{Code: muster.CodeOf(err), Message: "it was not started: " + err.Error()}}
	}
	o := outcome{}.endedBy(err)
	o.fault.Message = "it was not started: " + o.fault.Message
	o.state = muster.StateCancelled // whatever ended the wait: nothing was done
	return o
}

// endedBy says what ended an execution.
func (o outcome) endedBy(cause error) outcome {
	if o.fault == nil {
		o.fault = &muster.ActionError{}
	}
	o.result = nil
	switch {
	case errors.Is(cause, errTimeout):
		o.state, o.fault.Code = muster.StateTimeout, "timeout"
	case errors.Is(cause, errStopping):
		o.state, o.fault.Code = muster.StateInterrupted, "interrupted"
	case errors.Is(cause, errTooLate):
		o.state, o.fault.Code = muster.StateCancelled, "not_started"
	case errors.Is(cause, context.DeadlineExceeded):
		o.state, o.fault.Code = muster.StateTimeout, "deadline"
	default:
		o.state, o.fault.Code = muster.StateCancelled, "cancelled"
	}
	o.fault.Message = cause.Error()
	return o
}

// resultOf is the outcome as others see it.
func resultOf(o outcome, hide redactor, began time.Time) muster.Result {
	r := muster.Result{
		State: o.state, Success: succeeded(o.state), Result: hide.json(o.result), Leaked: o.leaked, DurationMs: time.Since(began).Milliseconds(),
	}
	if o.fault != nil {
		fault := *o.fault
		fault.Leaked = o.leaked
		fault.Message, fault.Output = hide.text(fault.Message), hide.text(fault.Output)
		r.Error = &fault
	}
	return r
}

func succeeded(s muster.State) bool { return s == muster.StateOK || s == muster.StateNoop }

// Cancel kills what this node executes of a job, with all its processes, and keeps
// what is on its way from starting. It is for those who may run the action.
func (e *Executor) Cancel(by muster.Rights, action, job string) error {
	if err := mayRun(by, action); err != nil {
		return err
	}
	e.running.cancel(callName(action, job))
	return nil
}

// callName names the executions of a job. Without one, a call has no name.
func callName(action, job string) string {
	if job == "" {
		return ""
	}
	return action + " " + job
}

// Stop kills what runs, refuses what comes and waits until the last execution
// has ended, or ctx. A second Stop only waits.
func (e *Executor) Stop(ctx context.Context) error { return e.running.stop(ctx) }
