package actions

import (
	"encoding/json"
	"slices"
	"time"

	"muster"
)

// foresee refuses a run that every node it is for would refuse, because of its
// parameters or its risk. Where one of them may take it, or is not known, the nodes
// are asked. It notes how each is asked again.
func (r *Runner) foresee(by muster.Rights, run muster.Run, targets []target) error {
	versions := r.versions(run.Action)
	verdicts := make([]error, len(versions)) // one for each, if it was asked for
	judged := make([]bool, len(versions))
	retries := make([]*Retry, len(versions))
	var first error
	taken := false
	for i := range targets {
		t := &targets[i]
		if t.skip != nil {
			continue
		}
		at := slices.IndexFunc(versions, func(v muster.ActionInfo) bool { return slices.Contains(v.Nodes, t.node.Slug) })
		if at < 0 {
			taken = true
			continue
		}
		if !judged[at] {
			judged[at], verdicts[at], retries[at] = true, r.foretell(by, versions[at], run.Params), retryOf(versions[at])
		}
		t.retry = retries[at]
		if first == nil {
			first = verdicts[at]
		}
		taken = taken || verdicts[at] == nil
	}
	if taken {
		return nil
	}
	return first
}

// foretell is what a node that has this version will say before it starts.
func (r *Runner) foretell(by muster.Rights, v muster.ActionInfo, given muster.Params) error {
	if err := mayRisk(by, v.Action, v.Risk); err != nil {
		return err
	}
	return r.fits(v, given)
}

func (r *Runner) versions(action string) []muster.ActionInfo {
	if r.cfg.Catalog == nil {
		return nil
	}
	return r.cfg.Catalog.Versions(action)
}

// fits judges parameters by a version's description, as the node that has it
// will.
func (r *Runner) fits(v muster.ActionInfo, given muster.Params) error {
	if own, ok := r.local.definition(v.Action); ok && own.digest == v.Digest {
		_, err := own.admit(given)
		return err
	}
	d := Definition{Action: v.Action}
	bad := faults{}
	bad.check(!isBuiltin(v.Action), "", "its bounds are not all described")
	bad.check(json.Unmarshal(v.Params, &d.Params) == nil, "", "it is of a program that describes in another way")
	if d.finishParams(bad); len(bad) > 0 {
		return nil // the node that has it will say
	}
	_, err := d.admit(given)
	return err
}

// retryOf is how a node that has this version is asked again when it cannot be
// reached; nil for not at all.
func retryOf(v muster.ActionInfo) *Retry {
	r := v.Retry
	if r == nil || !slices.Contains(r.On, onUnavailable) {
		return nil
	}
	return &Retry{
		Attempts: r.Attempts, First: Duration(r.FirstMs) * Duration(time.Millisecond), Max: Duration(r.MaxMs) * Duration(time.Millisecond),
		Jitter: r.Jitter, On: r.On,
	}
}

// bounded holds the risk of an action against the caller's limit before an
// application is asked: unlike an agent, it does not know of the limit. Where no
// node describes the action, its risk is not known and it is not asked.
func (r *Runner) bounded(by muster.Rights, n muster.Node, action string) error {
	if by.MaxRisk == "" || n.Kind != muster.KindExternal {
		return nil
	}
	_, known := r.local.risk(action) // held against the limit already
	for _, v := range r.versions(action) {
		if err := mayRisk(by, action, v.Risk); err != nil {
			return err
		}
		known = true
	}
	if known {
		return nil
	}
	return muster.Errorf(muster.Forbidden, "nobody here knows the risk of %s, and the caller may go up to %s only", action, by.MaxRisk).
		WithCode("risk_unknown").WithHint("define the action at any agent, or use a key without max_risk")
}
