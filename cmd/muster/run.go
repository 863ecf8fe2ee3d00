package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster"
)

type runCmd struct {
	Action string   `arg:"" help:"Name of the action; muster action list shows them."`
	Param  []string `short:"p" help:"A parameter K=V; repeatable." sep:"none" placeholder:"K=V"`

	On         []string `help:"Run on these nodes." group:"Where (one is needed):" placeholder:"SLUG"`
	All        bool     `help:"Run on all nodes." group:"Where (one is needed):"`
	Where      string   `help:"Run where the metadata matches: k=v, k!=v, k in (a,b), joined by &&." group:"Where (one is needed):"`
	Capability string   `help:"Run on nodes with this capability." group:"Where (one is needed):"`
	Type       string   `help:"Run on nodes of this type, master or child." group:"Where (one is needed):"`
	Sample     *int     `help:"Run on so many of them, drawn at random." group:"Where (one is needed):"`
	Percent    *float64 `help:"Run on so many percent of them, drawn at random." group:"Where (one is needed):"`
	Seed       *int64   `help:"Makes the draw repeatable." group:"Where (one is needed):"`
	Exclude    []string `help:"Leave out these nodes." group:"Where (one is needed):"`

	Serial      bool     `help:"One node at a time." group:"How:" xor:"mode"`
	Rolling     []string `help:"In batches of these sizes, counts or percentages; the last one holds for the rest." group:"How:" xor:"mode" placeholder:"1,25%,100%"`
	Pause       string   `help:"Wait so long between batches." group:"How:" placeholder:"10s"`
	MaxFail     string   `help:"Stop when so many nodes failed, a count or a percentage." group:"How:" placeholder:"N|%"`
	OnFail      string   `help:"stop (the default) or continue." group:"How:"`
	Concurrency int      `help:"Nodes at a time." group:"How:"`
	Detach      bool     `help:"Do not wait: print the job, which muster job show tells about." group:"How:"`
	Check       bool     `help:"Only try it: what would be done." group:"How:"`

	IdempotencyKey string `help:"The same key and run begin one job only, whoever sends it how often." group:"How:" placeholder:"KEY"`
}

const (
	answerGrace = 5 * time.Second  // how much longer than a run's own limit its answer is waited for
	maxWait     = 10 * time.Minute // for a run, as the nodes have it
)

// Run runs an action and prints what became of it on each node.
func (c *runCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	on := c.selector()
	if on.Nodes == nil && !on.All && on.Where == "" && on.Capability == "" && on.Type == "" && on.Sample == nil && on.Percent == nil {
		return &muster.Error{Kind: muster.Invalid, Message: "say where to run it", Hint: "--on SLUG, --all, --where k=v, --capability WORD, --type TYPE, --sample N or --percent P"}
	}
	if f.Timeout > maxWait {
		return &muster.Error{Kind: muster.Invalid, Message: fmt.Sprintf("--timeout: a run is waited for at most %v", maxWait)}
	}
	client, err := f.client()
	if err != nil {
		return err
	}
	order := muster.Run{Action: c.Action, On: on, Check: c.Check, Key: c.IdempotencyKey, TimeoutMs: int(f.Timeout.Milliseconds())}
	if order.How, err = c.strategy(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout+answerGrace)
	defer cancel()
	if order.Params, err = c.params(ctx, io, client); err != nil {
		return err
	}
	if c.Detach {
		order.TimeoutMs = 0
		return begin(ctx, io, f, client, order)
	}
	a, err := client.Run(ctx, order)
	if err != nil {
		return err
	}
	if a.Status == muster.JobRunning {
		return c.goesOn(io, f, a)
	}
	results := slices.SortedFunc(maps.Values(a.Results), func(x, y muster.Result) int { return cmp.Compare(x.Node, y.Node) })
	if err := list(f, io, a, results, func(w *grid) {
		line(w, "NODE", "STATE", "MS", "RESULT")
		for _, r := range results {
			line(w, r.Node, r.State, r.DurationMs, plain(said(r)))
		}
	}); err != nil {
		return err
	}
	return verdict(a.RunAnswer)
}

// goesOn shows a job that outlasted the wait.
func (c *runCmd) goesOn(io streams, f *clientFlags, j muster.Job) error {
	if err := showJob(io, f, j); err != nil {
		return err
	}
	return &muster.Error{
		Kind: muster.OutcomeUnknown, Message: fmt.Sprintf("%s goes on, on %s", j.Job, strings.Join(j.Pending, ", ")),
		Hint: "muster job watch " + j.Job + " follows it, muster job cancel ends it",
	}
}

func (c *runCmd) selector() muster.Selector {
	on := muster.Selector{
		All: c.All, Where: c.Where, Capability: muster.Capability(c.Capability), Type: muster.NodeType(c.Type),
		Sample: c.Sample, Percent: c.Percent, Seed: c.Seed, Exclude: c.Exclude,
	}
	if len(c.On) > 0 {
		on.Nodes = &c.On
	}
	return on
}

func (c *runCmd) strategy() (how muster.Strategy, err error) {
	how = muster.Strategy{Concurrency: c.Concurrency, Pause: c.Pause, OnFail: c.OnFail}
	switch {
	case c.Serial:
		how.Mode = "serial"
	case len(c.Rolling) > 0:
		how.Mode = "rolling"
		for _, size := range c.Rolling {
			raw, err := countOrPercent("rolling", size)
			if err != nil {
				return how, err
			}
			how.Batches = append(how.Batches, raw)
		}
	}
	if c.MaxFail != "" {
		how.MaxFail, err = countOrPercent("max-fail", c.MaxFail)
	}
	return how, err
}

// countOrPercent makes JSON of 3 or 25%.
func countOrPercent(flag, text string) (json.RawMessage, error) {
	if strings.HasSuffix(text, "%") {
		return json.Marshal(text)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, &muster.Error{Kind: muster.Invalid, Message: "--" + flag + ": " + text + " is not a count or a percentage like 25%"}
	}
	return json.Marshal(n)
}

// said is what a node answered, or why it did not.
func said(r muster.Result) string {
	if r.Error == nil {
		return string(r.Result)
	}
	text := r.Error.Message
	if r.Error.Output != "" {
		text += ": " + r.Error.Output
	}
	return text
}

// verdict is nil only if every node succeeded.
func verdict(a muster.RunAnswer) error {
	if a.Success {
		return nil
	}
	kind := muster.Partial
	if a.SuccessCount == 0 {
		kind = worst(a)
	}
	return &muster.Error{Kind: kind, Message: fmt.Sprintf("%s: %d of %d nodes succeeded, %d failed, %d skipped",
		a.Action, a.SuccessCount, len(a.Results), a.FailureCount, a.SkippedCount)}
}

// worst is the kind of a run that succeeded nowhere: that of all its results, if
// they agree, and Partial if nobody was asked.
func worst(a muster.RunAnswer) muster.Kind {
	if a.SkippedCount == len(a.Results) {
		return muster.Partial
	}
	kinds := map[muster.Kind]bool{}
	for _, r := range a.Results {
		switch r.State {
		case muster.StateDenied:
			kinds[muster.Forbidden] = true
		case muster.StateUnreachable, muster.StateUnknown:
			kinds[muster.OutcomeUnknown] = true
		case muster.StateInvalid:
			kinds[muster.Invalid] = true
		case muster.StateSkipped:
		default:
			kinds[muster.Internal] = true
		}
	}
	for kind := range kinds {
		if len(kinds) == 1 {
			return kind
		}
	}
	return muster.Internal
}

type actionCmd struct {
	List actionListCmd `cmd:"" help:"List the actions of all nodes."`
	Show actionShowCmd `cmd:"" help:"Show one action and its parameters."`
	Lint actionLintCmd `cmd:"" help:"Check action definitions as an agent would, without one."`
}

type actionListCmd struct{}

// Run lists the catalog.
func (actionListCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	catalog, err := client.Actions(ctx)
	if err != nil {
		return err
	}
	if err := list(f, io, catalog, catalog.Actions, func(w *grid) {
		line(w, "ACTION", "VERSION", "RISK", "TITLE", "NODES")
		for _, a := range catalog.Actions {
			line(w, a.Action, a.Version, a.Risk, plain(a.Title), strings.Join(a.Nodes, ","))
		}
	}); err != nil {
		return err
	}
	if len(catalog.Missing) > 0 {
		return &muster.Error{Kind: muster.Partial, Message: "partial: not from " + strings.Join(catalog.Missing, ", ")}
	}
	return nil
}

type actionShowCmd struct {
	Name string `arg:"" help:"The action's name."`
}

// Run shows one action, each of its versions.
func (c *actionShowCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	catalog, err := client.Action(ctx, c.Name)
	if err != nil {
		return err
	}
	return list(f, io, catalog, catalog.Actions, func(w *grid) {
		for i, a := range catalog.Actions {
			if i > 0 {
				line(w)
			}
			showAction(w, a)
		}
	})
}

func showAction(w *grid, a muster.ActionInfo) {
	line(w, "Action", a.Action)
	line(w, "Version", plain(a.Version))
	line(w, "Title", plain(a.Title))
	line(w, "Risk", a.Risk)
	line(w, "Digest", a.Digest)
	line(w, "Nodes", strings.Join(a.Nodes, ", "))
	line(w, "Parameters", string(a.Params))
	line(w, "Result", string(a.Result))
}
