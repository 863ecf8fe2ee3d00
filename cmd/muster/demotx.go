package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"muster"
)

// effect is something that the demo's transaction does on a node.
type effect interface {
	// step returns what is to be run on a node, and undone. The last one fails.
	step(d *demo, node string, last bool) (do, undo muster.TxCall, err error)

	// left reports whether a node still has what its step did.
	left(ctx context.Context, d *demo, node string) (bool, error)
}

// onDisk makes a directory for each node. The last one exists, so its step fails.
type onDisk struct{}

func (onDisk) path(d *demo, node string) string { return filepath.Join(d.dir, "v7-"+node) }

func (e onDisk) step(d *demo, node string, last bool) (do, undo muster.TxCall, err error) {
	path, err := json.Marshal(e.path(d, node))
	if err == nil && last {
		err = os.Mkdir(e.path(d, node), 0o700)
	}
	with := muster.Params{"path": path}
	return muster.TxCall{Run: "dir.make", With: with}, muster.TxCall{Run: "dir.remove", With: with}, err
}

func (e onDisk) left(_ context.Context, d *demo, node string) (bool, error) {
	_, err := os.Stat(e.path(d, node))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// inIndex puts a document into each node's index. The last one has no ID, so it is
// refused.
type inIndex struct{}

func (inIndex) step(_ *demo, _ string, last bool) (do, undo muster.TxCall, err error) {
	add := muster.Params{"documents": json.RawMessage(`[{"id":"release-7","title":"Release 7"}]`)}
	if last {
		add["documents"] = json.RawMessage(`[{"title":"Release 7"}]`)
	}
	return muster.TxCall{Run: "index.add", With: add}, muster.TxCall{Run: "index.delete", With: muster.Params{"ids": json.RawMessage(`["release-7"]`)}}, nil
}

func (inIndex) left(ctx context.Context, d *demo, node string) (bool, error) {
	var document json.RawMessage
	err := d.client(node).Do(ctx, http.MethodGet, "/v1/documents/release-7", nil, &document)
	if muster.KindOf(err) == muster.NotFound {
		return false, nil
	}
	return err == nil, err
}

// transact has all nodes do something as one transaction, of which the last step
// fails. It succeeds only if the others were done, and are undone in reverse, and
// nothing of them is left.
func (d *demo) transact(ctx context.Context, at string, e effect) error {
	var plan struct {
		Name  string     `json:"name"`
		Steps []planStep `json:"steps"`
	}
	plan.Name = "release 7"
	last := len(d.names) - 1
	for i, name := range d.names {
		do, undo, err := e.step(d, name, i == last)
		if err != nil {
			return err
		}
		plan.Steps = append(plan.Steps, planStep{ID: name, On: name, Run: do.Run, With: do.With, Undo: undo})
	}
	raw, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	t, err := d.client(at).BeginTx(ctx, raw)
	if err != nil {
		return err
	}
	d.say("\nRunning a transaction of a step on each node, asked at %s. The one on %s has to fail.", at, d.names[last])
	became := map[muster.TxEventKind][]string{}
	for _, n := range t.History {
		i, event := slices.IndexFunc(t.Steps, func(s muster.StepAnswer) bool { return s.ID == n.Step }), muster.TxEventKind(n.Event)
		switch {
		case i < 0:
			continue
		case event == muster.EventDone:
			d.say("  %-6s  %-8s  %s", n.Event, n.Step, t.Steps[i].Action)
		case event == muster.EventFailed:
			d.say("  %-6s  %-8s  %-10s  %s", n.Event, n.Step, t.Steps[i].Action, reason(t.Steps[i].Error))
		case event == muster.EventUndone:
			d.say("  %-6s  %-8s  %s", n.Event, n.Step, t.Steps[i].Undo)
		}
		became[event] = append(became[event], n.Step)
	}
	done, undone := became[muster.EventDone], became[muster.EventUndone]
	slices.Reverse(undone)
	if t.Status != muster.TxRolledBack || !slices.Equal(done, d.names[:last]) || !slices.Equal(became[muster.EventFailed], d.names[last:]) || !slices.Equal(undone, done) {
		return muster.Errorf(muster.Internal, "transaction %s is %s: done %v, undone %v", t.ID, t.Status, done, undone)
	}
	for _, name := range done {
		left, err := e.left(ctx, d, name)
		if err != nil {
			return err
		}
		if left {
			return muster.Errorf(muster.Internal, "what the transaction did on %s is still there", name)
		}
	}
	d.say("Rolled back after %d ms: nothing is left on %s.", t.EndedAt.Sub(t.CreatedAt).Milliseconds(), strings.Join(done, " and "))
	return nil
}

// planStep is a step of a plan on one node.
type planStep struct {
	ID   string        `json:"id"`
	On   string        `json:"on"`
	Run  string        `json:"run"`
	With muster.Params `json:"with"`
	Undo muster.TxCall `json:"undo"`
}
