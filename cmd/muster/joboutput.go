package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"muster"
	"muster/httpserver/api"

	"github.com/mattn/go-isatty"
)

type jobOutputCmd struct {
	ID    string   `arg:"" help:"The job."`
	Nodes []string `arg:"" optional:"" name:"slug" help:"Nodes; all of the job if none is named."`
}

// Help shows an example.
func (jobOutputCmd) Help() string {
	return `Each node keeps what ran there; so it can be asked while the node that leads the job is away.

  muster job output ID               of all its nodes, each under its name
  muster job output ID web-1 >log    of one: what it printed, and its errors on stderr`
}

// outputs are what several nodes have, and why others have nothing.
type outputs struct {
	Outputs []muster.Output   `json:"outputs"`
	Missing map[string]string `json:"missing,omitempty"`
}

// Run prints what the nodes have.
func (c *jobOutputCmd) Run(ctx context.Context, out streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	nodes := c.Nodes
	if len(nodes) == 0 {
		j, err := client.Job(ctx, c.ID)
		if err != nil {
			return err
		}
		nodes = append(slices.Sorted(maps.Keys(j.Results)), j.Pending...)
	}
	if len(nodes) == 1 {
		o, err := client.JobOutput(ctx, c.ID, nodes[0])
		if err != nil {
			return err
		}
		return f.outputOf(out, o, []muster.Output{o}, func() error { return printOutput(out.out, out.err, o) })
	}
	all, kind := c.fetch(ctx, client, nodes)
	if err := f.outputOf(out, all, all.Outputs, func() error { return printOutputs(out.out, all.Outputs) }); err != nil {
		return err
	}
	for _, slug := range nodes {
		if why, missing := all.Missing[slug]; missing {
			_, _ = fmt.Fprintf(out.err, "%s: %s\n", slug, why)
		}
	}
	if kind == "" {
		return nil
	}
	return &muster.Error{Kind: kind, Message: fmt.Sprintf("from %d of %d nodes", len(all.Outputs), len(nodes))}
}

// fetch asks nodes for what they have. The kind is of what went wrong; a node
// that has nothing did not.
func (c *jobOutputCmd) fetch(ctx context.Context, client *api.Client, nodes []string) (all outputs, kind muster.Kind) {
	all = outputs{Outputs: []muster.Output{}, Missing: map[string]string{}}
	for _, slug := range nodes {
		o, err := client.JobOutput(ctx, c.ID, slug)
		if err != nil {
			all.Missing[slug] = err.Error()
			if muster.CodeOf(err) != "no_output" {
				kind = muster.Partial
			}
			continue
		}
		all.Outputs = append(all.Outputs, o)
	}
	if len(all.Outputs) == 0 && kind == "" {
		kind = muster.NotFound
	}
	return all, kind
}

// outputOf prints text as it is, or the data that was asked for.
func (f *clientFlags) outputOf(out streams, data any, rows []muster.Output, text func() error) error {
	if f.Output != "table" {
		return list(f, out, data, rows, nil)
	}
	return text()
}

func printOutput(to, errs io.Writer, o muster.Output) error {
	if _, err := io.WriteString(to, harmless(to, o.Stdout)); err != nil {
		return err
	}
	_, err := io.WriteString(errs, harmless(errs, o.Stderr))
	return err
}

// printOutputs prints each node's output under its name.
func printOutputs(to io.Writer, all []muster.Output) error {
	for _, o := range all {
		for _, s := range [][2]string{{"", o.Stdout}, {", stderr", o.Stderr}} {
			if s[1] == "" && s[0] != "" {
				continue
			}
			text := harmless(to, s[1])
			if text != "" && !strings.HasSuffix(text, "\n") {
				text += "\n"
			}
			if _, err := fmt.Fprintf(to, "==> %s%s <==\n%s", o.Node, s[0], text); err != nil {
				return err
			}
		}
	}
	return nil
}

// harmless is a text without what would steer a terminal, if it goes to one.
func harmless(to io.Writer, text string) string {
	file, ok := to.(*os.File)
	if !ok || !isatty.IsTerminal(file.Fd()) {
		return text
	}
	return unsteered(text)
}

func unsteered(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '\ufffd'
		}
		return r
	}, text)
}
