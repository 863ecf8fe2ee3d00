package actions

import (
	"context"

	"muster"
)

// Func does an action of the program that an agent is part of. Its result is
// what it returns, as JSON. An error of *muster.Error keeps its code: Invalid is
// invalid, Forbidden denied, OutcomeUnknown unknown; any other is failed. It must
// return when ctx ends.
type Func func(ctx context.Context, c Call) (any, error)

// Call is one execution as a Func sees it.
type Call struct {
	Action string
	Params muster.Params // complete and checked
	Job    string
	Node   string // ID of this node
	Key    string // the same for this execution however often it is asked for
	Check  bool   // it is only tried
}

// Own makes an action of a definition, written as in a file, and the function
// that does it. Its handler, and its check if there is one, are {kind: go}. name
// stands for the file in errors.
func Own(name string, text []byte, do Func) (Definition, error) {
	if do == nil {
		return Definition{}, muster.Errorf(muster.Invalid, "%s: there is no function", name)
	}
	return parse(name, text, do)
}

// invoke calls the function.
func (h *Handler) invoke(ctx context.Context, c call) outcome {
	value, err := h.call(ctx, Call{Action: c.def.Action, Params: c.params, Job: c.job, Node: c.node, Key: c.key(), Check: c.check})
	if err != nil && ctx.Err() != nil {
		return outcome{state: muster.StateTimeout, fault: &muster.ActionError{}}
	}
	o := done(value, err)
	if o.state != muster.StateOK {
		return o
	}
	if reason := c.def.resultFault(o.result, c.check); reason != "" {
		return failed("bad_result", "its result %s", reason)
	}
	return o
}
