package tx

import (
	"context"
	"errors"
	"fmt"
	"time"

	"muster"
)

// Scout knows the nodes, and what they can.
type Scout interface {
	// Pick returns the nodes that a selector names, those in maintenance too.
	Pick(on muster.Selector, by muster.Rights) ([]muster.Node, error)

	// Survey asks nodes what they can, by node ID. One that does not answer is
	// missing.
	Survey(ctx context.Context, nodes []muster.Node) map[string]Ability
}

// Planner makes transactions of what is asked for.
type Planner struct {
	Scout Scout
	NewID func() string
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
	return Resolve(plan, p.Scout.Survey(ctx, all), by, time.Now())
}

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
