package tx

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"muster"
)

// Scout knows the nodes, and what they can, and has them try.
type Scout interface {
	// Pick returns the nodes that a selector names, those in maintenance too.
	Pick(on muster.Selector, by muster.Rights) ([]muster.Node, error)

	// Survey asks nodes which of the named actions they have, and of those by which
	// these are undone, by node ID. One that does not answer is missing. That there
	// are others besides does no harm.
	Survey(ctx context.Context, nodes []muster.Node, names []string) map[string]Ability

	// At has a node execute something, as that of Hands does.
	At(ctx context.Context, nodeID string, by muster.Rights, x muster.Execution) muster.Result
}

// Planner makes transactions of what is asked for.
type Planner struct {
	Scout Scout
	NewID func() string

	// Misfits says what is wrong with parameters for an action, by name; what holds
	// a placeholder is not looked at. nil: nothing is known to be wrong.
	Misfits func(muster.ActionInfo, muster.Params) map[string]string
}

// PlanTx judges what is asked for and binds it to nodes, which are asked what they
// can. Nothing has begun then. Errors are those of Resolve, and of selectors, with
// the place of their step.
func (p Planner) PlanTx(ctx context.Context, by muster.Rights, asked muster.TxPlan) (muster.Tx, error) {
	plan := Plan{
		ID: p.NewID(), Name: asked.Name, Key: asked.Key, Policy: asked.Policy, DeadlineMs: asked.DeadlineMs, Locks: asked.Locks,
	}
	if len(asked.Steps) > muster.MaxTxSteps {
		return muster.Tx{}, muster.FieldError("steps", fmt.Sprintf("there may be %d", muster.MaxTxSteps))
	}
	var all []muster.Node
	known := map[string]bool{}
	for i, s := range asked.Steps {
		nodes, err := p.Scout.Pick(s.On, by)
		if err != nil {
			return muster.Tx{}, at(i, err)
		}
		for _, n := range nodes {
			if unfit(n) == "" && !known[n.ID] {
				known[n.ID] = true
				all = append(all, n)
			}
		}
		plan.Steps = append(plan.Steps, Step{
			ID: s.ID, Nodes: nodes, Run: muster.TxCall{Run: s.Run, With: s.With}, Undo: s.Undo, Precheck: s.Precheck,
			Needs: s.Needs, Pivot: s.Pivot, Retriable: s.Retriable,
		})
	}
	can := p.Scout.Survey(ctx, all, named(asked))
	t, err := Resolve(plan, can, by)
	if err == nil && p.Misfits != nil {
		err = p.fit(plan, t, can)
	}
	if err == nil && asked.Rehearse {
		p.rehearse(ctx, t)
	}
	return t, err
}

// named are the actions that a plan names, each once, in order.
func named(asked muster.TxPlan) []string {
	var names []string
	for _, s := range asked.Steps {
		names = append(names, s.Run)
		for _, c := range []*muster.TxCall{s.Undo, s.Precheck} {
			if c != nil {
				names = append(names, c.Run)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// fit judges the parameters of all steps, so that none fails for them half way.
func (p Planner) fit(plan Plan, t muster.Tx, can map[string]Ability) error {
	bad := faults{}
	for _, s := range t.Steps {
		i := slices.IndexFunc(plan.Steps, func(asked Step) bool { return asked.ID == cmp.Or(s.Group, s.ID) })
		asked := map[string]muster.TxAction{".with.": s.Run, ".precheck.with.": s.Check}
		if plan.Steps[i].Undo != nil { // else its definition sees to what it gets
			asked[".undo.with."] = s.Undo
		}
		for field, a := range asked {
			infos := can[s.NodeID].Actions
			at := slices.IndexFunc(infos, func(info muster.ActionInfo) bool { return info.Action == a.Action })
			if at < 0 {
				continue
			}
			for name, reason := range p.Misfits(infos[at], a.With) {
				bad[place(i)+field+name] = []string{reason}
			}
		}
	}
	return bad.err()
}

// rehearse has the nodes do the dry runs of those steps that have one, and whose
// parameters are known beforehand. What came of it is the step's then: it is
// checked, or has an error.
func (p Planner) rehearse(ctx context.Context, t muster.Tx) {
	var wg sync.WaitGroup
	places := make(chan struct{}, rehearsals)
	for i := range t.Steps {
		s := &t.Steps[i]
		if slices.ContainsFunc(slices.Collect(maps.Values(s.Run.With)), func(value json.RawMessage) bool {
			refs, err := muster.Placeholders(value)
			return err != nil || len(refs) > 0
		}) {
			continue
		}
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			r := p.Scout.At(ctx, s.NodeID, t.By, muster.Execution{
				Action: s.Run.Action, Params: s.Run.With, Check: true, Job: fmt.Sprintf("t_%s.%s.plan.0", t.ID, s.ID),
			})
			switch {
			case r.Success:
				s.Checked, s.Result = true, r.Result
			case code(r) != "unsupported":
				s.Error = fault(r)
			}
		})
	}
	wg.Wait()
}

// rehearsals are how many dry runs of a plan are under way at once.
const rehearsals = 10

// at says of which step an error is.
func at(i int, err error) error {
	e, ok := errors.AsType[*muster.Error](err)
	if !ok {
		return err
	}
	placed := *e
	placed.Message = place(i) + "." + e.Message
	if e.Fields == nil {
		placed.Message = place(i) + ".on: " + e.Message
	}
	placed.Fields = nil
	for field, reasons := range e.Fields {
		if placed.Fields == nil {
			placed.Fields = map[string][]string{}
		}
		placed.Fields[place(i)+"."+field] = reasons
	}
	return &placed
}
