package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"muster"
	"muster/httpserver/api"

	"github.com/google/uuid"
)

type nodeSyncCmd struct {
	File  string `arg:"" help:"YAML or JSON: a list of nodes, {nodes: […]}, or nodes by slug; - is standard input."`
	Apply bool   `help:"Do it."`
	Prune bool   `help:"Set external nodes inactive that are not in the file."`
}

// Run makes the external nodes equal to a file, or says what it would do.
func (c *nodeSyncCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	rows, err := c.read()
	if err != nil {
		return err
	}
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	ask := api.SyncRequest{Nodes: rows, Prune: c.Prune}
	plan, err := client.SyncNodes(ctx, ask, uuid.NewString())
	if err != nil {
		return err
	}
	if ask.Apply = c.Apply; c.Apply && len(plan.Invalid) == 0 {
		if plan, err = client.SyncNodes(ctx, ask, uuid.NewString()); err != nil {
			return err
		}
	}
	if err := f.show(io, plan, func(w *grid) { tablePlan(w, plan) }); err != nil {
		return err
	}
	if n := len(plan.Invalid); n > 0 {
		return &muster.Error{Kind: muster.Invalid, Message: fmt.Sprintf("%d of %d rows are invalid: nothing was written", n, len(rows))}
	}
	noteDryRun(io, plan.Applied)
	return nil
}

func (c *nodeSyncCmd) read() (rows []json.RawMessage, err error) {
	var raw []byte
	if c.File == "-" {
		raw, err = io.ReadAll(os.Stdin)
	} else {
		raw, err = os.ReadFile(c.File)
	}
	if err != nil {
		return nil, fmt.Errorf("read nodes: %w", err)
	}
	if rows, err = readNodes(raw); err != nil {
		return nil, &muster.Error{Kind: muster.Invalid, Message: c.File + ": " + err.Error(), Err: err}
	}
	return rows, nil
}

func tablePlan(w *grid, plan muster.SyncPlan) {
	line(w, "ACTION", "NODE", "WHAT")
	for _, n := range plan.Create {
		line(w, "create", n.Slug, plain(n.Name))
	}
	for _, n := range plan.Update {
		what := make([]string, 0, len(n.Changes))
		for _, field := range slices.Sorted(maps.Keys(n.Changes)) {
			what = append(what, fmt.Sprintf("%s: %s -> %s", field, n.Changes[field].From, n.Changes[field].To))
		}
		if n.Pruned {
			what = append(what, "not in the file")
		}
		line(w, "update", n.Slug, flat(strings.Join(what, ", ")))
	}
	for _, n := range plan.Unchanged {
		line(w, "unchanged", n.Slug, plain(n.Name))
	}
	for _, f := range plan.Invalid {
		line(w, "invalid", fmt.Sprintf("row %d %s", f.Row, f.Slug), flat(f.Reason+": "+f.Suggestion))
	}
}
