package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"muster"
	"muster/httpserver/api"
)

type keyCmd struct {
	Create keyCreateCmd `cmd:"" help:"Make a key; it is printed once."`
	List   keyListCmd   `cmd:"" help:"List the keys, without their secrets."`
	Rotate keyRotateCmd `cmd:"" help:"Give a key, or a node's own, a new secret; it is printed once."`
	Revoke keyRevokeCmd `cmd:"" help:"End a key for good."`
}

type keyCreateCmd struct {
	Name    string   `help:"What the key is for." required:""`
	Scope   []string `help:"read, search, index, run:<glob>, tx, registry or admin; repeatable." required:""`
	MaxRisk string   `help:"The riskiest action it may run."`
	Targets *string  `help:"The nodes it reaches, by their metadata: env=prod && zone in (a,b)." placeholder:"CONDITION"`
	Filter  []string `help:"What every document that it finds is like; repeatable." sep:"none" placeholder:"FIELD=VALUE"`
	Expires *string  `help:"How long it lives, like 720h."`
}

// spec is the key asked for, as it is sent: what is empty is sent, too, and
// refused there.
func (c *keyCreateCmd) spec() (map[string]any, error) {
	spec := map[string]any{"name": c.Name, "scopes": c.Scope}
	if c.MaxRisk != "" {
		spec["max_risk"] = c.MaxRisk
	}
	if c.Targets != nil {
		spec["targets"] = *c.Targets
	}
	if c.Expires != nil {
		spec["expires_in"] = *c.Expires
	}
	filter := map[string][]string{}
	for _, pair := range c.Filter {
		field, value, ok := strings.Cut(pair, "=")
		if !ok || field == "" {
			return nil, &muster.Error{Kind: muster.Invalid, Message: "--filter: " + pair + " is not FIELD=VALUE"}
		}
		filter[field] = append(filter[field], value)
	}
	if len(filter) > 0 {
		spec["filter"] = filter
	}
	return spec, nil
}

// Run makes a key.
func (c *keyCreateCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	spec, err := c.spec()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	var k api.NewKey
	if err := client.Do(ctx, http.MethodPost, "/v1/keys", spec, &k); err != nil {
		return err
	}
	return showKey(f, io, k)
}

func showKey(f *clientFlags, io streams, k api.NewKey) error {
	key := once(io, k.Plain, k.Hint)
	return f.show(io, k, func(w *grid) {
		line(w, "ID", k.ID)
		line(w, "Name", k.Name)
		line(w, "Scopes", strings.Join(k.Scopes, " "))
		line(w, "Key", key)
	})
}

type keyRotateCmd struct {
	ID      string `arg:"" optional:"" help:"The key's ID."`
	Node    string `help:"The slug of a node, instead of the ID of its key." placeholder:"SLUG"`
	Overlap string `help:"How long the old secret stays good, like 1h. Without it, it ends at once."`
}

// Run gives a key a new secret and prints it, this once.
func (c *keyRotateCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	if (c.ID == "") == (c.Node == "") {
		return &muster.Error{Kind: muster.Invalid, Message: "name a key by its ID, or a node by --node"}
	}
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	rotate, of := client.RotateKey, c.ID
	if c.Node != "" {
		rotate, of = client.RotateNodeKey, c.Node
	}
	k, err := rotate(ctx, of, muster.Rotation{Overlap: c.Overlap})
	if err != nil {
		return err
	}
	return showKey(f, io, k)
}

type keyListCmd struct{}

// Run lists the keys.
func (c *keyListCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	keys, err := client.Keys(ctx)
	if err != nil {
		return err
	}
	return list(f, io, keys, keys.Keys, func(w *grid) {
		line(w, "ID", "NAME", "SCOPES", "CREATED", "EXPIRES", "LAST USED HERE")
		for _, k := range keys.Keys {
			line(w, k.ID, k.Name, strings.Join(k.Scopes, " "), clock(k.CreatedAt), moment(k.ExpiresAt), moment(k.LastUsedAt))
		}
	})
}

// moment is a time in a table, or a dash.
func moment(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return clock(*t)
}

type keyRevokeCmd struct {
	ID string `arg:"" help:"The key's ID."`
}

// Run ends a key.
func (c *keyRevokeCmd) Run(ctx context.Context, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	return client.RevokeKey(ctx, c.ID)
}
