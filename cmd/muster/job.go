package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"muster"
	"muster/httpserver/api"

	"github.com/google/uuid"
)

type jobCmd struct {
	List   jobListCmd   `cmd:"" help:"List jobs, the newest first."`
	Show   jobShowCmd   `cmd:"" help:"Show how a job is on each node."`
	Watch  jobWatchCmd  `cmd:"" help:"Follow a job until it has ended, and show it."`
	Output jobOutputCmd `cmd:"" help:"Print what a job's program printed."`
	Cancel jobCancelCmd `cmd:"" help:"End a job, with what it started on all nodes."`
	Retry  jobRetryCmd  `cmd:"" help:"Run a job again on the nodes where it did not succeed."`
}

// Help shows how jobs are used.
func (jobCmd) Help() string {
	return `Every run is a job: its ID stands in its answer, and any node knows by it whom to ask.

  muster run app.deploy -p tag=v3 --where role=web --detach   begins one, and prints its ID
  muster job watch ID                                         follows it
  muster job output ID web-1                                  what it printed on one node
  muster job retry ID --failed                                again, where it failed
  muster job cancel ID                                        ends it everywhere`
}

// begin starts a run and prints its job.
func begin(ctx context.Context, io streams, f *clientFlags, client *api.Client, order muster.Run) error {
	j, err := client.Begin(ctx, order)
	if err != nil {
		return err
	}
	return f.show(io, j, func(w *grid) { line(w, j.Job) })
}

type jobListCmd struct {
	Node   string `help:"Only those that this node leads." placeholder:"SLUG"`
	Local  bool   `help:"Only those that the node asked leads."`
	Status string `help:"running, succeeded, partial, failed, cancelled or interrupted." enum:",running,succeeded,partial,failed,cancelled,interrupted" default:""`
	Action string `help:"Only those of this action." placeholder:"NAME"`
}

// Help shows an example.
func (jobListCmd) Help() string { return "  muster job list --status failed --action app.deploy" }

// Run lists jobs.
func (c *jobListCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	all, err := client.Jobs(ctx, api.JobFilter{Node: c.Node, Everyone: c.Node == "" && !c.Local, Status: c.Status, Action: c.Action})
	if err != nil {
		return err
	}
	if err := list(f, io, all, all.Jobs, func(w *grid) {
		line(w, "JOB", "ACTION", "STATUS", "OK", "FAILED", "SKIPPED", "PENDING", "STARTED")
		for _, j := range all.Jobs {
			line(w, j.Job, j.Action, j.Status, j.SuccessCount, j.FailureCount, j.SkippedCount, len(j.Pending), clock(j.StartedAt))
		}
	}); err != nil {
		return err
	}
	if len(all.Missing) > 0 {
		return &muster.Error{Kind: muster.Partial, Message: "partial: not from " + strings.Join(all.Missing, ", ")}
	}
	return nil
}

type jobShowCmd struct {
	ID string `arg:"" help:"The job."`
}

// Run shows one job. A job that did not succeed ends with the code of its run.
func (c *jobShowCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	j, err := client.Job(ctx, c.ID)
	if err != nil {
		return err
	}
	return showJob(io, f, j)
}

func showJob(io streams, f *clientFlags, j muster.Job) error {
	results := slices.SortedFunc(maps.Values(j.Results), func(x, y muster.Result) int { return cmp.Compare(x.Node, y.Node) })
	if err := list(f, io, j, results, func(w *grid) {
		line(w, "Job", j.Job)
		line(w, "Action", j.Action)
		line(w, "Status", j.Status)
		if j.RetryOf != "" {
			line(w, "Retry of", j.RetryOf)
		}
		if len(j.Pending) > 0 {
			line(w, "Pending", strings.Join(j.Pending, ", "))
		}
		for _, r := range results {
			line(w, r.Node, r.State, fmt.Sprintf("%d ms", r.DurationMs), plain(said(r)))
		}
	}); err != nil || j.Status == muster.JobRunning {
		return err
	}
	return verdict(j.RunAnswer)
}

type jobCancelCmd struct {
	ID string `arg:"" help:"The job."`
}

// Run ends a job and shows it as it is then.
func (c *jobCancelCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	j, err := client.CancelJob(ctx, c.ID)
	if err != nil {
		return err
	}
	return f.show(io, j, func(w *grid) { line(w, j.Job, j.Status, strings.Join(j.Pending, ", ")) })
}

type jobRetryCmd struct {
	ID          string   `arg:"" help:"The job; it must have ended."`
	Failed      bool     `help:"Where it did not succeed; this is the default." xor:"which"`
	Unreachable bool     `help:"Only where the node could not be reached." xor:"which"`
	Skipped     bool     `help:"Only where it was not started." xor:"which"`
	Param       []string `short:"p" help:"A parameter K=V, as before; needed if the job does not keep them. Repeatable." sep:"none" placeholder:"K=V"`
}

// Help shows an example.
func (jobRetryCmd) Help() string {
	return `The nodes are those that the job had, whatever its selector would choose now.

  muster job retry ID --failed
  muster job retry ID -p token=…   parameters that may be secret are not kept, and must be said again`
}

// Run begins the retry and prints its job.
func (c *jobRetryCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	again := muster.Retry{Only: "failed"}
	switch {
	case c.Unreachable:
		again.Only = "unreachable"
	case c.Skipped:
		again.Only = "skipped"
	}
	if len(c.Param) > 0 {
		old, err := client.Job(ctx, c.ID)
		if err != nil {
			return err
		}
		if again.Params, err = (&runCmd{Action: old.Action, Param: c.Param}).params(ctx, io, client); err != nil {
			return err
		}
	}
	j, err := client.RetryJob(ctx, c.ID, again, uuid.NewString())
	if err != nil {
		return err
	}
	return f.show(io, j, func(w *grid) { line(w, j.Job) })
}
