package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	stdio "io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"muster"
	"muster/httpserver/api"

	"github.com/goccy/go-yaml"
)

type txCmd struct {
	Plan   txPlanCmd   `cmd:"" help:"Say what a transaction would do, and what would not be undone."`
	Apply  txApplyCmd  `cmd:"" help:"Begin a transaction and wait for its end."`
	List   txListCmd   `cmd:"" help:"List transactions, the newest first."`
	Show   txShowCmd   `cmd:"" help:"Show a transaction; of a parked one, what is to be done by hand."`
	Watch  txWatchCmd  `cmd:"" help:"Follow a transaction to its end, unless nothing is heard of it for --timeout."`
	Cancel txCancelCmd `cmd:"" help:"Undo what a transaction did."`
	Retry  txRetryCmd  `cmd:"" help:"Try at once what failed or waits; have a parked one go on."`
	Skip   txSkipCmd   `cmd:"" help:"Count a step as done, or as undone, because somebody saw to it."`
	Close  txCloseCmd  `cmd:"" help:"Give a parked transaction up, and its locks."`
}

// txFile is the file of a plan.
type txFile struct {
	File string `arg:"" help:"The plan, YAML or JSON; - is standard input."`
}

// read returns a plan as JSON, in the order in which it is written.
func (f txFile) read() (json.RawMessage, error) {
	raw, err := os.ReadFile(f.File)
	if f.File == "-" {
		raw, err = stdio.ReadAll(os.Stdin)
	}
	if err != nil {
		return nil, muster.Errorf(muster.Invalid, "read the plan: %w", err)
	}
	if trimmed := bytes.TrimSpace(raw); bytes.HasPrefix(trimmed, []byte("{")) && json.Valid(trimmed) {
		return trimmed, nil
	}
	out, err := yaml.YAMLToJSON(raw)
	if err != nil {
		return nil, &muster.Error{Kind: muster.Invalid, Message: f.File + ": " + yaml.FormatError(err, false, true)}
	}
	if out = bytes.TrimSpace(out); !json.Valid(out) || !bytes.HasPrefix(out, []byte("{")) {
		return nil, &muster.Error{Kind: muster.Invalid, Message: f.File + ": is no plan", Hint: "it begins with name, policy or steps"}
	}
	return out, nil
}

type txPlanCmd struct{ txFile }

// Run judges a plan.
func (c *txPlanCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	plan, err := c.read()
	if err != nil {
		return err
	}
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	p, err := client.PlanTx(ctx, plan)
	if err != nil {
		return err
	}
	if err := list(f, io, p, p.Steps, func(w *grid) {
		line(w, "STEP", "NODE", "ACTION", "UNDO", "NEEDS", "DRY RUN")
		for _, s := range p.Steps {
			line(w, s.ID, s.Node, s.Action, cmp.Or(s.Undo, "-"), cmp.Or(strings.Join(s.Needs, ","), "-"), rehearsed(s))
		}
		line(w)
		line(w, "Policy", p.Policy)
		line(w, "Locks", cmp.Or(strings.Join(p.Locks, ", "), "-"))
		line(w, "Undone in this order", cmp.Or(strings.Join(p.UndoOrder, ", "), "-"))
		line(w, "Never undone", cmp.Or(strings.Join(p.NotUndone, ", "), "-"))
	}); err != nil {
		return err
	}
	if i := slices.IndexFunc(p.Steps, func(s muster.StepAnswer) bool { return s.Error != nil }); i >= 0 {
		return &muster.Error{Kind: muster.Conflict, Message: fmt.Sprintf("the dry run of step %s failed: %s", p.Steps[i].ID, reason(p.Steps[i].Error))}
	}
	return nil
}

// rehearsed is what came of a step's dry run; none is done where the action
// declares none, or needs results of other steps.
func rehearsed(s muster.StepAnswer) string {
	switch {
	case s.Error != nil:
		return why(s.Error)
	case s.Checked:
		return "ok"
	default:
		return "-"
	}
}

type txApplyCmd struct {
	txFile

	Detach bool `help:"Do not wait: print the transaction, which muster tx watch follows."`
}

// Run begins a transaction.
func (c *txApplyCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	plan, err := c.read()
	if err != nil {
		return err
	}
	client, err := f.client()
	if err != nil {
		return err
	}
	if plan, err = unwaited(plan); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	t, err := client.BeginTx(ctx, plan)
	if err != nil {
		return err
	}
	if c.Detach {
		return f.show(io, t, func(w *grid) { line(w, t.ID) })
	}
	return watchTx(ctx, io, f, client, t.ID)
}

// unwaited is a plan that is answered at once: the command follows it itself.
func unwaited(plan json.RawMessage) (json.RawMessage, error) {
	names, values, err := api.Members(plan)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteByte('{')
	for i, name := range names {
		if name == "wait" || name == "timeout_ms" {
			continue
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			return nil, fmt.Errorf("write the plan: %w", err)
		}
		out.Write(quoted)
		out.WriteByte(':')
		out.Write(values[i])
		out.WriteByte(',')
	}
	out.WriteString(`"wait":false}`)
	return out.Bytes(), nil
}

type txListCmd struct {
	Status string `help:"Only those of this status: pending, running, compensating, succeeded, rolled_back, parked or closed."`
}

// Run lists transactions.
func (c *txListCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	all, err := client.Txs(ctx, c.Status)
	if err != nil {
		return err
	}
	return list(f, io, all, all.Transactions, func(w *grid) {
		line(w, "TRANSACTION", "NAME", "STATUS", "STEPS", "BEGAN", "WHY")
		for _, t := range all.Transactions {
			done := 0
			for _, s := range t.Steps {
				if s.Status == muster.StepDone {
					done++
				}
			}
			line(w, t.ID, cmp.Or(plain(t.Name), "-"), t.Status, fmt.Sprintf("%d/%d", done, len(t.Steps)), clock(t.CreatedAt), why(t.Error))
		}
	})
}

// why is the reason of an error in one line of a table, with what the program
// printed.
func why(e *muster.ActionError) string { return short(reason(e), whyWidth) }

// whyWidth is the longest reason in a table, in characters.
const whyWidth = 100

// reason is why without an end.
func reason(e *muster.ActionError) string {
	if e == nil {
		return "-"
	}
	return flat(said(muster.Result{Error: e}))
}

// txID names a transaction.
type txID struct {
	ID string `arg:"" help:"The transaction; muster tx list shows them."`
}

type txShowCmd struct{ txID }

// Run shows one transaction. One that did not succeed ends with its own code.
func (c *txShowCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	t, err := client.Tx(ctx, c.ID, 0)
	if err != nil {
		return err
	}
	return showTx(io, f, t)
}

type txWatchCmd struct{ txID }

// Run follows a transaction, unless nothing is heard of it for --timeout.
func (c *txWatchCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	return watchTx(ctx, io, f, client, c.ID)
}

// watchTx prints what happens to standard error until nothing more does, and then
// the transaction. A node that cannot answer is asked again for --timeout.
func watchTx(ctx context.Context, io streams, f *clientFlags, client *api.Client, id string) error {
	told := 0
	for heard := time.Now(); ; {
		t, err := txNow(ctx, f, client, id)
		switch muster.KindOf(err) {
		case muster.Unavailable, muster.NoMaster, muster.OutcomeUnknown, muster.Timeout:
			if time.Since(heard) < f.Timeout && look(ctx) {
				continue
			}
		default:
			heard = time.Now()
		}
		if err != nil {
			return err
		}
		for _, n := range t.History[max(0, min(len(t.History), told-t.Forgotten)):] {
			_, _ = fmt.Fprintln(io.err, strings.TrimRight(fmt.Sprintf("%s  %-12s %s  %s", clock(n.At), n.Event, n.Step, short(flat(n.Message), whyWidth)), " "))
		}
		told = t.Forgotten + len(t.History)
		if !t.Status.Driven() {
			return showTx(io, f, t)
		}
		if !look(ctx) {
			return &muster.Error{
				Kind: muster.Timeout, Message: fmt.Sprintf("%s is still %s; it goes on", id, t.Status), Hint: "muster tx watch " + id,
			}
		}
	}
}

func txNow(ctx context.Context, f *clientFlags, client *api.Client, id string) (muster.TxAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	return client.Tx(ctx, id, 0)
}

// showTx prints a transaction and returns what it ended with.
func showTx(io streams, f *clientFlags, t muster.TxAnswer) error {
	if err := list(f, io, t, t.Steps, func(w *grid) {
		line(w, "Transaction", t.ID)
		if t.Name != "" {
			line(w, "Name", plain(t.Name))
		}
		line(w, "Status", t.Status)
		if t.Error != nil {
			line(w, "Why", why(t.Error))
		}
		if t.Cause != nil {
			line(w, "Turned back", why(t.Cause))
		}
		if len(t.Locks) > 0 {
			line(w, "Locks", strings.Join(t.Locks, ", "))
		}
		if len(t.NotCompensated) > 0 {
			line(w, "Not undone", strings.Join(t.NotCompensated, ", "))
		}
		line(w)
		line(w, "STEP", "NODE", "ACTION", "STATUS", "CALLS", "RESULT")
		for _, s := range t.Steps {
			said := plain(string(s.Result))
			if s.Error != nil {
				said = why(s.Error)
			}
			line(w, s.ID, s.Node, s.Action, s.Status, s.Attempts, cmp.Or(said, "-"))
		}
		if len(t.Sheet) > 0 {
			line(w)
			line(w, "TO DO BY HAND", "NODE", "DID", "COMMAND", "WHY")
			for _, do := range t.Sheet {
				line(w, do.Step, do.Node, do.Did, byHand(do), why(do.Why))
			}
		}
	}); err != nil {
		return err
	}
	return ending(t)
}

// byHand is the command that does what a transaction could not.
func byHand(do muster.TxTodo) string {
	words := make([]string, 0, 4+2*len(do.With))
	words = append(words, "muster run", do.Action, "--on", do.Node)
	for _, name := range slices.Sorted(maps.Keys(do.With)) {
		value := string(do.With[name])
		var text string
		if json.Unmarshal(do.With[name], &text) == nil {
			value = text
		}
		words = append(words, "-p", "'"+strings.ReplaceAll(name+"="+plain(value), "'", `'\''`)+"'")
	}
	return strings.Join(words, " ")
}

// ending is nil only if a transaction succeeded, or goes on.
func ending(t muster.TxAnswer) error {
	switch t.Status {
	case muster.TxRolledBack:
		return &muster.Error{Kind: muster.Partial, Code: api.CodeRolledBack, Message: "rolled back: " + reason(t.Error)}
	case muster.TxParked:
		return &muster.Error{
			Kind: muster.Partial, Code: api.CodeParked, Message: "parked: " + reason(t.Error),
			Hint: fmt.Sprintf("muster tx retry %s, or see to a step and muster tx skip %s STEP --reason …, or muster tx close %s --reason …", t.ID, t.ID, t.ID),
		}
	case muster.TxClosed:
		return &muster.Error{Kind: muster.Partial, Code: api.CodeParked, Message: "closed by an operator: " + reason(t.Error)}
	default:
		return nil
	}
}

// txWord is an operator's word on a transaction.
type txWord struct {
	txID

	Reason string `help:"Why, for the history."`
}

func (c txWord) say(ctx context.Context, io streams, f *clientFlags, o muster.TxOrder) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	o.Reason = c.Reason
	t, err := client.OperateTx(ctx, c.ID, o)
	if err != nil {
		return err
	}
	if t.Status.Driven() {
		_, _ = fmt.Fprintln(io.err, "it goes on: muster tx watch", t.ID)
	}
	return f.show(io, t, func(w *grid) { line(w, t.ID, t.Status) })
}

type txCancelCmd struct{ txWord }

// Run cancels a transaction.
func (c *txCancelCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	return c.say(ctx, io, f, muster.TxOrder{Command: muster.TxCancel})
}

type txRetryCmd struct{ txWord }

// Run has a transaction try again.
func (c *txRetryCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	return c.say(ctx, io, f, muster.TxOrder{Command: muster.TxTryNow})
}

type txSkipCmd struct {
	txWord

	Step string `arg:"" help:"The step."`
}

// Run skips a step.
func (c *txSkipCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	return c.say(ctx, io, f, muster.TxOrder{Command: muster.TxSkip, Step: c.Step})
}

type txCloseCmd struct{ txWord }

// Run closes a parked transaction.
func (c *txCloseCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	return c.say(ctx, io, f, muster.TxOrder{Command: muster.TxClose})
}
