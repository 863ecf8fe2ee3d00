package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"muster"
	"muster/httpserver/api"

	"github.com/google/uuid"
)

func capabilities(words []string) []muster.Capability {
	out := make([]muster.Capability, len(words))
	for i, word := range words {
		out[i] = muster.Capability(word)
	}
	return out
}

// pairs reads metadata from KEY=VALUE; values are texts.
func pairs(meta []string) (muster.Metadata, error) {
	out := muster.Metadata{}
	for _, pair := range meta {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, &muster.Error{Kind: muster.Invalid, Message: "--meta: " + pair + " is not KEY=VALUE"}
		}
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("--meta %s: %w", key, err)
		}
		out[key] = raw
	}
	return out, nil
}

type nodeListCmd struct {
	Status     string `help:"active, inactive, maintenance or error."`
	Type       string `help:"master or child."`
	Capability string `help:"Nodes that can do this."`
	Healthy    bool   `help:"Healthy nodes." xor:"health"`
	Unhealthy  bool   `help:"Nodes that are not healthy." xor:"health"`
	Query      string `short:"q" help:"Part of the name or slug."`
	Deleted    bool   `help:"Removed nodes, which can be restored."`
	Watch      bool   `help:"Show the list again whenever it has changed, until Ctrl-C."`
}

// Run lists the registry.
func (c *nodeListCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	page, err := c.fetch(ctx, f, client)
	if err != nil {
		return err
	}
	if err := c.show(io, f, page); err != nil || !c.Watch {
		return err
	}
	return c.watch(ctx, io, f, client, page)
}

func (c *nodeListCmd) fetch(ctx context.Context, f *clientFlags, client *api.Client) (api.Nodes, error) {
	where := []string{"status", c.Status, "type", c.Type, "capability", c.Capability, "q", c.Query}
	for name, word := range map[string]bool{"true": c.Healthy, "false": c.Unhealthy} {
		if word {
			where = append(where, "healthy", name)
		}
	}
	if c.Deleted {
		where = append(where, "deleted", "true")
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	return client.Nodes(ctx, where...)
}

func (c *nodeListCmd) show(io streams, f *clientFlags, page api.Nodes) error {
	return list(f, io, page, page.Nodes, func(w *grid) {
		line(w, "NODE", "NAME", "TYPE", "KIND", "STATUS", "HEALTHY", "URL")
		for _, n := range page.Nodes {
			line(w, n.Slug, plain(n.Name), n.Type, n.Kind, n.Status, n.Healthy, n.URL)
		}
	})
}

const watchEvery = time.Second

// watch looks again and again. A node that does not answer is said once.
func (c *nodeListCmd) watch(ctx context.Context, io streams, f *clientFlags, client *api.Client, last api.Nodes) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	lost := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		page, err := c.fetch(ctx, f, client)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && err.Error() != lost:
			lost = err.Error()
			_, _ = fmt.Fprintln(io.err, "error:", err)
		case err == nil && !slices.EqualFunc(page.Nodes, last.Nodes, sameRow):
			lost, last = "", page
			if err := c.show(io, f, page); err != nil {
				return err
			}
		}
	}
}

// sameRow compares what a list shows of a node.
func sameRow(a, b muster.Node) bool {
	return a.ID == b.ID && a.Index == b.Index && a.Type == b.Type && a.Status == b.Status && a.Healthy == b.Healthy
}

type nodeUpdateCmd struct {
	Slug         string   `arg:"" help:"The node's slug."`
	Status       *string  `help:"active, inactive or maintenance."`
	Name         *string  `help:"Its new name; the slug stays."`
	NewSlug      *string  `help:"Its new slug."`
	URL          *string  `help:"The application's base URL."`
	Capabilities []string `help:"All that it can do from now on."`
	Meta         []string `help:"A key=value pair of metadata to set; repeatable." sep:"none"`
	UnsetMeta    []string `help:"A key of metadata to remove; repeatable." sep:"none"`
	AppVersion   *string  `help:"The application's version."`
	Description  *string  `help:"For people."`
	Weight       *int     `help:"From 1 to 1000."`
	ReplicaOf    *string  `help:"The slug of the node whose data it holds, too."`
	Credential   *string  `help:"What muster sends as bearer from now on when it calls the application."`
	IfMatch      uint64   `help:"The record's index as you know it; refused if it has moved." placeholder:"INDEX"`
}

// Run changes a node.
func (c *nodeUpdateCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	change := api.NodePatch{Credential: c.Credential, NodeChange: muster.NodeChange{
		Name: c.Name, Slug: c.NewSlug, URL: c.URL, Version: c.AppVersion, Description: c.Description, Weight: c.Weight, ReplicaOf: c.ReplicaOf,
	}}
	if c.Status != nil {
		status := muster.Status(*c.Status)
		change.Status = &status
	}
	if c.Capabilities != nil {
		words := capabilities(c.Capabilities)
		change.Capabilities = &words
	}
	if len(c.Meta)+len(c.UnsetMeta) > 0 {
		if change.Metadata, err = pairs(c.Meta); err != nil {
			return err
		}
	}
	for _, key := range c.UnsetMeta {
		change.Metadata[key] = json.RawMessage("null")
	}
	if raw, err := json.Marshal(change); err == nil && string(raw) == "{}" {
		return &muster.Error{Kind: muster.Invalid, Message: "nothing to change", Hint: "say what, like --status maintenance"}
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	n, err := client.UpdateNode(ctx, c.Slug, c.IfMatch, change)
	if err != nil {
		return err
	}
	return showNode(io, f, n)
}

func showNode(io streams, f *clientFlags, n muster.Node) error {
	return f.show(io, n, func(w *grid) {
		line(w, "NODE", "NAME", "KIND", "STATUS", "URL", "INDEX")
		line(w, n.Slug, plain(n.Name), n.Kind, n.Status, n.URL, n.Index)
	})
}

type nodeRemoveCmd struct {
	Slug    string `arg:"" help:"The node's slug."`
	IfMatch uint64 `help:"The record's index as you know it; refused if it has moved." placeholder:"INDEX"`
}

// Run soft-deletes a node.
func (c *nodeRemoveCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	n, err := client.DeleteNode(ctx, c.Slug, c.IfMatch)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(io.err, "Removed. To undo it: muster node restore", n.Slug)
	return showNode(io, f, n)
}

type nodeRestoreCmd struct {
	Slug string `arg:"" help:"The removed node's slug, or its ID."`
}

// Run undoes a removal.
func (c *nodeRestoreCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	n, err := client.RestoreNode(ctx, c.Slug)
	if err != nil {
		return err
	}
	return showNode(io, f, n)
}

type nodeCleanupCmd struct {
	Days     int      `help:"Without a sign of life, or deleted, for so many days." default:"14"`
	Statuses []string `help:"Only nodes of these statuses." default:"error,inactive"`
	Apply    bool     `help:"Do it."`
}

// Run removes external nodes that nobody needs, or says which.
func (c *nodeCleanupCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ask := api.CleanupRequest{Days: c.Days, Apply: c.Apply, Statuses: make([]muster.Status, len(c.Statuses))}
	for i, status := range c.Statuses {
		ask.Statuses[i] = muster.Status(status)
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	plan, err := client.CleanupNodes(ctx, ask, uuid.NewString())
	if err != nil {
		return err
	}
	noteDryRun(io, plan.Applied)
	return f.show(io, plan, func(w *grid) {
		line(w, "ACTION", "NODE", "STATUS", "LAST SIGN")
		for _, n := range plan.Delete {
			line(w, "delete", n.Slug, n.Status, n.LastSign)
		}
		for _, n := range plan.Purge {
			line(w, "purge", n.Slug, "deleted", n.LastSign)
		}
	})
}

func noteDryRun(io streams, applied bool) {
	if !applied {
		_, _ = fmt.Fprintln(io.err, "A dry run: nothing was written. Add --apply to do it.")
	}
}

type nodeStatsCmd struct{}

// Run counts the nodes.
func (c *nodeStatsCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	s, err := client.Stats(ctx)
	if err != nil {
		return err
	}
	return f.show(io, s, func(w *grid) {
		line(w, "Total", s.Total)
		line(w, "Active", s.Active)
		line(w, "Inactive", s.Inactive)
		line(w, "Maintenance", s.Maintenance)
		line(w, "Error", s.Error)
		line(w, "Healthy", s.Healthy)
		if s.AvgResponseTime != nil {
			line(w, "Response time", fmt.Sprintf("%.1f ms", *s.AvgResponseTime))
		}
		counts(w, "Type", s.ByType)
		counts(w, "Capability", s.ByCapability)
	})
}

func counts[K ~string](w *grid, what string, by map[K]int) {
	words := make([]string, 0, len(by))
	for word := range by {
		words = append(words, string(word))
	}
	slices.Sort(words)
	for _, word := range words {
		line(w, what+" "+word, by[K(word)])
	}
}
