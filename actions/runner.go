package actions

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"muster"
)

// Asker has another node execute an action.
type Asker interface {
	// Execute waits for the end of the execution. The rights are the original
	// caller's and go with the call. Errors are *muster.Error where a kind is
	// known: Unavailable and Timeout say that nothing was done, OutcomeUnknown
	// and kinds unknown that it may have been. The end of ctx ends the wait, not
	// the work.
	Execute(ctx context.Context, node muster.Node, by muster.Rights, x muster.Execution) (muster.Result, error)

	// Cancel has a node kill what it executes of a job.
	Cancel(ctx context.Context, node muster.Node, by muster.Rights, action, job string) error

	// Output returns what a job's program printed at a node, as Executor.Output.
	Output(ctx context.Context, node muster.Node, by muster.Rights, a muster.OutputAsk) (muster.Output, error)
}

// Nodes is the registry.
type Nodes interface {
	// Nodes returns a copy of all nodes, deleted ones too, Node that of one by its ID.
	Nodes() []muster.Node
	Node(id string) (muster.Node, bool)
}

// Callers knows who may still call.
type Callers interface {
	// Allowed is nil while a caller's rights hold; they may end while a run goes
	// on: the key is revoked, it expires.
	Allowed(by muster.Rights) error
}

// Catalog describes the actions of all nodes.
type Catalog interface {
	// Versions lists those of one action, each with the slugs of its nodes.
	Versions(action string) []muster.ActionInfo
}

// RunnerConfig is what a Runner needs to know.
type RunnerConfig struct {
	Self        string        // this node's ID
	Callers     Callers       // nil: whoever could start a run may end it
	Jobs        Jobs          // nil: a job is forgotten soon after its end
	Seal        Seal          // of where they are kept
	Outcomes    Outcomes      // nil: what was interrupted stays so
	Catalog     Catalog       // nil: only this node's own actions are known
	MaxParallel int           // calls of one run at once, unless it says how many; 0: 10
	NewID       func() string // of a job; nil: UUIDv7
	Log         *slog.Logger  // nil: no log
}

// Runner has actions run on one, several or all nodes. It is safe for
// concurrent use.
type Runner struct {
	cfg     RunnerConfig
	nodes   Nodes
	local   *Executor
	remote  Asker
	running calls
	jobs    jobs
}

// NewRunner makes a Runner that executes on cfg.Self itself and asks every other
// node through remote.
func NewRunner(cfg RunnerConfig, nodes Nodes, local *Executor, remote Asker) *Runner {
	if cfg.NewID == nil {
		cfg.NewID = func() string { return uuid.Must(uuid.NewV7()).String() }
	}
	if cfg.MaxParallel == 0 {
		cfg.MaxParallel = defaultConcurrency
	}
	if cfg.Jobs == nil {
		cfg.Jobs = unkept{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Runner{cfg: cfg, nodes: nodes, local: local, remote: remote}
}

// Stop ends the runs under way, each with what it has, kills what they execute
// here, refuses new ones and waits until the last call to a node has returned or
// ctx ends.
func (r *Runner) Stop(ctx context.Context) error { return r.running.stop(ctx) }

// Run has an action run on the nodes selected, which are frozen now, as a job,
// and returns it when all have answered, or, still running, when the run's
// timeout or ctx ends the wait: the job goes on then. If the run has the ID of a
// job that is known here, that one is waited for. The run is not changed. Errors:
// Forbidden, Invalid with Fields, NotFound for a node, Conflict for a job of other
// parameters; whatever becomes of an action on a node is in the job.
func (r *Runner) Run(ctx context.Context, by muster.Rights, run muster.Run) (muster.Job, error) {
	timeout := time.Duration(run.TimeoutMs) * time.Millisecond
	if timeout == 0 {
		timeout = defaultTimeoutMs * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if j, known, err := r.known(run.ID, run.Params); known || err != nil {
		if live := r.jobs.find(run.ID); live != nil && err == nil {
			return r.wait(ctx, live), nil
		}
		return j, err
	}
	how, targets, err := r.plan(by, run)
	if err != nil {
		return muster.Job{}, err
	}
	j, err := r.begin(ctx, by, run, plan{how: how, targets: targets})
	if err != nil {
		return muster.Job{}, err
	}
	return r.wait(ctx, j), nil
}

// fan makes a run of a plan.
func (r *Runner) fan(by muster.Rights, run muster.Run, how strategy, targets []target) *fan {
	job := muster.Execution{Action: run.Action, Params: run.Params, Check: run.Check, Job: run.ID}
	if job.Job == "" {
		job.Job = "j_" + r.cfg.Self + "_" + r.cfg.NewID()
	}
	risk, _ := r.local.risk(run.Action)
	teller(r.cfg.Log, risk)("run started", "job", job.Job, "action", run.Action, "caller", by.Principal, "nodes", len(targets))
	return &fan{r: r, by: by, job: job, maxFail: how.maxFail.of(len(targets)), results: make(map[string]muster.Result, len(targets))}
}

// Judge says why a run would be refused, and does nothing: its errors are those of
// Run.
func (r *Runner) Judge(by muster.Rights, run muster.Run) error {
	_, _, err := r.plan(by, run)
	return err
}

// plan judges a run, as far as it is known here, and freezes its targets.
func (r *Runner) plan(by muster.Rights, run muster.Run) (strategy, []target, error) {
	how, err := r.judge(by, run)
	if err != nil {
		return how, nil, err
	}
	targets, err := pick(run.On, r.nodes.Nodes(), by)
	if err == nil {
		err = r.foresee(by, run, targets)
	}
	return how, targets, err
}

// judge judges all of a run but where it is to be done.
func (r *Runner) judge(by muster.Rights, run muster.Run) (strategy, error) {
	bad := faults{}
	bad.check(goodAction(run.Action), "action", "must be the name of an action")
	bad.check(run.TimeoutMs >= 0 && run.TimeoutMs <= maxTimeoutMs, "timeout_ms", "must be from 1 to %d", maxTimeoutMs)
	how := readStrategy(run.How, r.cfg.MaxParallel, bad)
	if err := bad.err(""); err != nil {
		return how, err
	}
	if err := mayRun(by, run.Action); err != nil {
		return how, err
	}
	if risk, known := r.local.risk(run.Action); known {
		return how, mayRisk(by, run.Action, risk)
	}
	return how, nil
}

// answer counts the results.
func answer(job muster.Execution, results map[string]muster.Result) muster.RunAnswer {
	a := muster.RunAnswer{Job: job.Job, Action: job.Action, Results: results}
	for _, r := range results {
		switch {
		case r.Success:
			a.SuccessCount++
		case r.State == muster.StateSkipped:
			a.SkippedCount++
		default:
			a.FailureCount++
		}
	}
	a.NodesExecuted = a.SuccessCount + a.FailureCount
	a.Success = a.SuccessCount == len(results)
	return a
}
