package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"muster"
	"muster/httpserver/api"
)

type jobCmd struct {
	List   jobListCmd   `cmd:"" help:"List the jobs of a node, the newest first."`
	Show   jobShowCmd   `cmd:"" help:"Show how a job is on each node."`
	Cancel jobCancelCmd `cmd:"" help:"End a job, with what it started on all nodes."`
	Watch  jobWatchCmd  `cmd:"" help:"Wait until a job has ended, and show it."`
}

// begin starts a run and prints its job.
func begin(ctx context.Context, io streams, f *clientFlags, client *api.Client, order muster.Run) error {
	j, err := client.Begin(ctx, order)
	if err != nil {
		return err
	}
	return f.show(io, j, func(w *grid) { line(w, j.Job) })
}

// follow begins a run that has a key, or finds the job that the key stands for
// already, and waits for its end.
func follow(ctx context.Context, io streams, f *clientFlags, client *api.Client, order muster.Run) error {
	order.TimeoutMs = 0
	j, err := client.Begin(ctx, order)
	if err != nil {
		return err
	}
	return (&jobWatchCmd{ID: j.Job}).Run(ctx, io, f)
}

type jobListCmd struct {
	Node string `help:"The node that leads them; the one asked if not given." placeholder:"SLUG"`
}

// Run lists jobs.
func (c *jobListCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	all, err := client.Jobs(ctx, c.Node)
	if err != nil {
		return err
	}
	return list(f, io, all, all.Jobs, func(w *grid) {
		line(w, "JOB", "ACTION", "STATUS", "OK", "FAILED", "SKIPPED", "PENDING", "STARTED")
		for _, j := range all.Jobs {
			line(w, j.Job, j.Action, j.Status, j.SuccessCount, j.FailureCount, j.SkippedCount, len(j.Pending), j.StartedAt.Format(time.RFC3339))
		}
	})
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

type jobWatchCmd struct {
	ID string `arg:"" help:"The job."`
}

// Run waits for the end of a job, as long as --timeout says.
func (c *jobWatchCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	for {
		j, err := client.Job(ctx, c.ID)
		if err != nil {
			return err
		}
		if j.Status != muster.JobRunning {
			return showJob(io, f, j)
		}
		if !look(ctx) {
			return &muster.Error{Kind: muster.Timeout, Message: fmt.Sprintf("%s still runs on %s", j.Job, strings.Join(j.Pending, ", "))}
		}
	}
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
