// Package tx leads transactions over several nodes: it judges plans, decides
// what is to be done next, and has it done while this node is the master. It
// keeps nothing that matters: that is in the registry, and with the nodes.
package tx

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"muster"
)

// Plan is a transaction as it is asked for, each step with the nodes that its
// selector picked.
type Plan struct {
	ID         string // of the transaction
	Name, Key  string
	Policy     string // empty: backward
	DeadlineMs int64  // 0: 10 minutes
	Locks      []string
	Steps      []Step
}

// Step is one step of a plan.
type Step struct {
	ID        string
	Nodes     []muster.Node // several become sub-steps
	Run       muster.TxCall
	Undo      *muster.TxCall // nil: as the action's definition has it
	Precheck  *muster.TxCall // run before anything
	Needs     *[]string      // nil: the step before it
	Pivot     bool
	Retriable bool
}

// Ability is what a node can do, and the ID of the journal it remembers it in.
type Ability struct {
	Journal string
	Actions []muster.ActionInfo
}

// Bounds and defaults of a plan.
const (
	defaultDeadlineMs = 600_000
	maxDeadlineMs     = 24 * 60 * 60 * 1000
	maxLocks          = 16
	maxWord           = 64
	defaultLimitMs    = 65_000
)

// Resolve judges a plan and binds it to nodes: what they can is by node ID; one
// that is missing did not say. Faults name the field, steps by their place. It is
// Forbidden if the caller may not run a step or its undo, Unavailable if a node
// did not say what it can.
func Resolve(p Plan, can map[string]Ability, by muster.Rights) (muster.Tx, error) {
	r := resolver{can: can, by: by, bad: faults{}, of: map[string][]string{}, gives: map[string]json.RawMessage{}}
	t := muster.Tx{
		ID: p.ID, Name: p.Name, Key: p.Key, By: by, Policy: cmp.Or(p.Policy, muster.PolicyBackward),
		DeadlineMs: cmp.Or(p.DeadlineMs, defaultDeadlineMs), Locks: p.Locks,
	}
	t.By.ExpiresAt = nil // what has begun is brought to its end
	r.bad.check(t.Policy == muster.PolicyBackward || t.Policy == muster.PolicyForward, "policy", "must be backward or forward")
	r.bad.check(t.DeadlineMs > 0 && t.DeadlineMs <= maxDeadlineMs, "deadline_ms", "must be from 1 to %d", maxDeadlineMs)
	r.bad.check(len(p.Locks) <= maxLocks, "locks", "must be at most %d", maxLocks)
	for i, lock := range p.Locks {
		r.bad.check(word(lock), fmt.Sprintf("locks[%d]", i), "must be 1 to %d letters, digits and ._:@/-", maxWord)
	}
	r.bad.check(len([]rune(p.Name)) <= 200, "name", "must have at most 200 characters")
	r.bad.check(len(p.Steps) > 0, "steps", "there must be at least one")
	r.order(p.Steps)
	if err := r.bad.err(); err != nil {
		return t, err
	}
	for _, i := range r.sorted {
		r.step(p.Steps, i)
	}
	r.bad.check(len(r.steps) <= muster.MaxTxSteps, "steps", "there may be %d, those of all nodes counted; these are %d", muster.MaxTxSteps, len(r.steps))
	t.Steps = r.steps
	r.zones(t)
	if r.denied != nil {
		return t, r.denied
	}
	if err := r.bad.err(); err != nil {
		return t, err
	}
	if len(r.silent) > 0 {
		return t, muster.Errorf(muster.Unavailable, "nobody knows what %s can: no answer", strings.Join(r.silent, ", ")).WithCode("catalog_missing").
			WithHint("a transaction begins only when all its nodes can be asked")
	}
	return t, nil
}

// resolver is a plan on its way to a transaction.
type resolver struct {
	can    map[string]Ability
	by     muster.Rights
	bad    faults
	denied error
	silent []string // slugs of nodes that did not say what they can

	places map[string]int      // of the plan's steps, by ID
	needs  map[string][]string // of the plan's steps, by ID
	sorted []int               // places, each behind those it needs
	of     map[string][]string // IDs of the steps that one of the plan became
	steps  []muster.TxStep
	gives  map[string]json.RawMessage // what the action of a step declares of its result, by the step's ID
}

// order finds an order in which each step stands behind those it needs, as near
// to that of the plan as can be.
func (r *resolver) order(steps []Step) {
	r.places, r.needs = map[string]int{}, map[string][]string{}
	for i, s := range steps {
		at := place(i)
		_, twice := r.places[s.ID]
		r.bad.check(word(s.ID) && !strings.Contains(s.ID, "@"), at+".id", "must be 1 to %d letters, digits and ._:/-", maxWord)
		r.bad.check(!twice, at+".id", "%s is there twice", s.ID)
		r.places[s.ID] = i
		switch {
		case s.Needs != nil:
			r.needs[s.ID] = *s.Needs
		case i > 0:
			r.needs[s.ID] = []string{steps[i-1].ID}
		}
	}
	for i, s := range steps {
		for j, need := range r.needs[s.ID] {
			_, known := r.places[need]
			r.bad.check(known, fmt.Sprintf("%s.needs[%d]", place(i), j), "there is no step %s", need)
		}
	}
	if len(r.bad) > 0 {
		return
	}
	placed := map[string]bool{}
	for len(r.sorted) < len(steps) {
		next := slices.IndexFunc(steps, func(s Step) bool {
			return !placed[s.ID] && !slices.ContainsFunc(r.needs[s.ID], func(need string) bool { return !placed[need] })
		})
		if next < 0 {
			round := r.cycle(steps, placed)
			r.bad.check(false, place(r.places[round[0]])+".needs", "goes round in a circle: %s", strings.Join(round, " needs "))
			return
		}
		placed[steps[next].ID] = true
		r.sorted = append(r.sorted, next)
	}
}

// cycle finds a circle among the steps that could not be placed.
func (r *resolver) cycle(steps []Step, placed map[string]bool) []string {
	i := slices.IndexFunc(steps, func(s Step) bool { return !placed[s.ID] })
	var path []string
	for at := steps[i].ID; ; {
		if k := slices.Index(path, at); k >= 0 {
			return append(path[k:], at)
		}
		path = append(path, at)
		needs := r.needs[at]
		at = needs[slices.IndexFunc(needs, func(need string) bool { return !placed[need] })]
	}
}

func place(i int) string { return fmt.Sprintf("steps[%d]", i) }

// word reports whether a text can name something.
func word(s string) bool {
	return s != "" && len(s) <= maxWord && strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._:@/-", r)
	}) < 0
}

// step binds one step of the plan to its nodes.
func (r *resolver) step(steps []Step, i int) {
	s, at := steps[i], place(i)
	r.bad.check(len(s.Nodes) > 0, at+".on", "selects no node")
	var needs []string
	for _, need := range r.needs[s.ID] {
		needs = append(needs, r.of[need]...)
	}
	for _, n := range s.Nodes {
		own := muster.TxStep{ID: s.ID, NodeID: n.ID, Node: n.Slug, Needs: needs, Pivot: s.Pivot, Retriable: s.Retriable}
		if len(s.Nodes) > 1 {
			own.ID, own.Group = s.ID+"@"+n.Slug, s.ID
		}
		r.of[s.ID] = append(r.of[s.ID], own.ID)
		r.bind(at, s, n, &own)
		r.steps = append(r.steps, own)
	}
	r.bad.check(!s.Pivot || len(s.Nodes) < 2, at+".pivot", "a step of several nodes cannot be the pivot")
}

// bind looks up what a step runs on a node.
func (r *resolver) bind(at string, s Step, n muster.Node, own *muster.TxStep) {
	if reason := unfit(n); reason != "" {
		r.bad.check(false, at+".on", "%s %s", n.Slug, reason)
		return
	}
	if s.Run.Run != "" && !r.may(at+".run", s.Run.Run) { // a node tells it nothing of this action either
		return
	}
	able, known := r.can[n.ID]
	if !known || able.Journal == "" {
		if !slices.Contains(r.silent, n.Slug) {
			r.silent = append(r.silent, n.Slug)
		}
		return
	}
	own.Journal = able.Journal
	info, ok := r.action(at+".run", s.Run.Run, n)
	if !ok {
		return
	}
	own.Run = action(info, s.Run.With)
	r.gives[own.ID] = info.Result
	r.given(at+".with", info, s.Run.With, own, false)
	switch {
	case s.Undo != nil:
		r.undo(at+".undo", *s.Undo, n, own)
		own.OnFailed = info.Undo != nil && info.Undo.OnFailed
	case info.Undo != nil:
		with, err := ofDefinition(*info.Undo, info, s.Run.With)
		r.bad.check(err == nil, at+".run", "its definition's undo: %v", err)
		r.undo(at+".run", muster.TxCall{Run: info.Undo.Action, With: with}, n, own)
		own.OnFailed = info.Undo.OnFailed
	}
	if s.Precheck != nil {
		r.precheck(at+".precheck", *s.Precheck, n, own)
	}
}

// unfit says why a node cannot take part, or nothing.
func unfit(n muster.Node) string {
	switch status := muster.StatusOf(n.Status, n.Observed); {
	case n.Kind == muster.KindExternal:
		return "is an external node, which keeps no journal: have the agent beside it call it, by an action of its own"
	case !n.Can(muster.CapActions):
		return "has no capability actions"
	case status == muster.StatusMaintenance, status == muster.StatusInactive:
		return "is in status " + string(status)
	default:
		return ""
	}
}

// action finds an action at a node that the caller may run.
func (r *resolver) action(at, name string, n muster.Node) (muster.ActionInfo, bool) {
	if name == "" {
		r.bad.check(false, at, "must name an action")
		return muster.ActionInfo{}, false
	}
	if !r.may(at, name) {
		return muster.ActionInfo{}, false
	}
	if !r.by.Reaches(n.Metadata) {
		r.deny(muster.OutOfReach(n.Slug))
		return muster.ActionInfo{}, false
	}
	infos := r.can[n.ID].Actions
	i := slices.IndexFunc(infos, func(a muster.ActionInfo) bool { return a.Action == name })
	if i < 0 {
		r.bad.check(false, at, "%s has no action %s", n.Slug, name)
		return muster.ActionInfo{}, false
	}
	if risk := infos[i].Risk; r.by.MaxRisk != "" && risk.Level() > r.by.MaxRisk.Level() {
		r.deny(muster.Errorf(muster.Forbidden, "%s: %s has risk %s, the caller may go up to %s", at, name, risk, r.by.MaxRisk).WithCode("risk"))
		return infos[i], false
	}
	return infos[i], true
}

// may reports whether the caller may run an action.
func (r *resolver) may(at, name string) bool {
	if r.by.May("run:" + name) {
		return true
	}
	r.deny(muster.Errorf(muster.Forbidden, "%s: this needs the scope run:%s", at, name))
	return false
}

func (r *resolver) deny(err error) {
	if r.denied == nil {
		r.denied = err
	}
}

func action(info muster.ActionInfo, with muster.Params) muster.TxAction {
	return muster.TxAction{
		Action: info.Action, With: with, Digest: info.Digest, Risk: info.Risk, Idempotent: info.Idempotent,
		LimitMs: cmp.Or(info.LimitMs, defaultLimitMs), Retry: info.Retry,
	}
}

func (r *resolver) undo(at string, c muster.TxCall, n muster.Node, own *muster.TxStep) {
	if info, ok := r.action(at+".run", c.Run, n); ok {
		own.Undo = action(info, c.With)
		r.given(at+".with", info, c.With, own, true)
	}
}

func (r *resolver) precheck(at string, c muster.TxCall, n muster.Node, own *muster.TxStep) {
	info, ok := r.action(at+".run", c.Run, n)
	if !ok {
		return
	}
	r.bad.check(info.Risk == muster.RiskRead, at+".run", "%s has risk %s: a precheck only reads", c.Run, info.Risk)
	own.Check = action(info, c.With)
	for name, value := range c.With {
		refs, err := muster.Placeholders(value)
		r.bad.check(err == nil && len(refs) == 0, at+".with."+name, "nothing can be filled in: no step has run yet")
	}
	r.secrets(at+".with", info, c.With)
}

// secrets refuses parameters that would be in the log for all to see.
func (r *resolver) secrets(at string, info muster.ActionInfo, with muster.Params) {
	var declared map[string]struct {
		Secret bool `json:"secret"`
	}
	_ = json.Unmarshal(info.Params, &declared) // the node checks all of them
	for _, name := range slices.Sorted(maps.Keys(with)) {
		p, known := declared[name]
		r.bad.check(known, at+"."+name, "%s has no such parameter", info.Action)
		r.bad.check(!p.Secret, at+"."+name, "is secret, and what a transaction is given is kept: have the action read it from a file")
	}
}

// given checks the parameters of a step, or of its undo, and their placeholders.
func (r *resolver) given(at string, info muster.ActionInfo, with muster.Params, own *muster.TxStep, undo bool) {
	r.secrets(at, info, with)
	for _, name := range slices.Sorted(maps.Keys(with)) {
		refs, err := muster.Placeholders(with[name])
		r.bad.check(err == nil, at+"."+name, "%v", err)
		for _, ref := range refs {
			if reason := r.reference(ref, own, undo); reason != "" {
				r.bad.check(false, at+"."+name, "${%s}: %s", ref, reason)
			}
		}
	}
}

// reference says what is wrong with a placeholder, or nothing.
func (r *resolver) reference(ref string, own *muster.TxStep, undo bool) string {
	if field, ok := strings.CutPrefix(ref, "result."); ok && undo && field != "" {
		return secretOf(r.gives[own.ID], field)
	}
	id, field, ok := stepRef(ref)
	switch {
	case !ok && undo:
		return "only ${result.FIELD} and ${steps.ID.result.FIELD} can be filled in"
	case !ok:
		return "only ${steps.ID.result.FIELD} can be filled in"
	case field == "":
		return "must name a field of the result"
	}
	if _, known := r.places[id]; !known {
		return "there is no step " + id
	}
	if len(r.of[id]) > 1 {
		return "step " + id + " has several nodes, and so several results"
	}
	if !r.before(own.Needs, id) {
		return "step " + id + " is not needed by this one, so it may not be done before"
	}
	return secretOf(r.gives[id], field)
}

// secretOf says why a field of a result cannot be filled in, if it is a secret
// one: nobody is told of it, not even the registry.
func secretOf(result json.RawMessage, field string) string {
	var declared map[string]struct {
		Secret bool `json:"secret"`
	}
	_ = json.Unmarshal(result, &declared)
	if name, _, _ := strings.Cut(field, "."); declared[name].Secret {
		return name + " is secret, and what a transaction is given is kept"
	}
	return ""
}

// before reports whether a step is among those needed, near or far.
func (r *resolver) before(needs []string, id string) bool {
	seen := map[string]bool{}
	for open := slices.Clone(needs); len(open) > 0; open = open[1:] {
		if open[0] == id {
			return true
		}
		if seen[open[0]] {
			continue
		}
		seen[open[0]] = true
		i := slices.IndexFunc(r.steps, func(s muster.TxStep) bool { return s.ID == open[0] })
		open = append(open, r.steps[i].Needs...)
	}
	return false
}

// stepRef takes steps.ID.result.FIELD apart. IDs may have dots.
func stepRef(ref string) (id, field string, ok bool) {
	rest, ok := strings.CutPrefix(ref, "steps.")
	id, field, found := strings.Cut(rest, ".result.")
	return id, field, ok && found
}

// ofDefinition fills in ${x} of a definition's undo: the step's own parameters,
// or their defaults. ${result.x} stays.
func ofDefinition(u muster.TxUndo, info muster.ActionInfo, with muster.Params) (muster.Params, error) {
	var declared map[string]struct {
		Default json.RawMessage `json:"default"`
	}
	_ = json.Unmarshal(info.Params, &declared)
	out := muster.Params{}
	for name, value := range u.Params {
		absent := false
		filled, err := muster.Fill(value, func(ref string) (json.RawMessage, error) {
			if strings.HasPrefix(ref, "result.") {
				return json.Marshal("${" + ref + "}")
			}
			own := strings.TrimPrefix(ref, "params.")
			if given, ok := with[own]; ok {
				return given, nil
			}
			absent = declared[own].Default == nil
			return declared[own].Default, nil
		})
		switch {
		case err != nil:
			return nil, err
		case !absent:
			out[name] = filled
		}
	}
	return out, nil
}

// zones checks what stands before and behind the pivot.
func (r *resolver) zones(t muster.Tx) {
	var pivots []string
	for _, s := range t.Steps {
		if s.Pivot {
			pivots = append(pivots, s.ID)
		}
	}
	if len(pivots) == 0 || r.denied != nil {
		return
	}
	pivot := t.Steps[slices.IndexFunc(t.Steps, func(s muster.TxStep) bool { return s.Pivot })]
	r.bad.check(len(pivots) == 1, "steps", "there may be one pivot, not %s", strings.Join(pivots, ", "))
	for _, s := range t.Steps {
		at := place(r.places[cmp.Or(s.Group, s.ID)])
		switch {
		case s.Pivot:
		case r.before(pivot.Needs, s.ID):
			r.bad.check(s.Undo.Action != "" || s.Run.Risk == muster.RiskRead || s.Run.Action == "", at+".undo",
				"a step before the pivot %s needs an undo, or an action that only reads", pivot.ID)
		case r.before(s.Needs, pivot.ID):
			r.bad.check(s.Retriable, at+".retriable", "a step behind the pivot %s must be retriable: there is no way back", pivot.ID)
		default:
			r.bad.check(false, at+".needs", "must need the pivot %s, or be needed by it", pivot.ID)
		}
	}
}

// faults collects what is wrong by field.
type faults map[string][]string

func (f faults) check(ok bool, field, format string, args ...any) {
	if !ok {
		f[field] = append(f[field], fmt.Sprintf(format, args...))
	}
}

// err is nil, or all faults as one Invalid error.
func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	lines := make([]string, 0, len(f))
	for _, field := range slices.Sorted(maps.Keys(f)) {
		lines = append(lines, field+": "+strings.Join(f[field], ", "))
	}
	return &muster.Error{Kind: muster.Invalid, Message: strings.Join(lines, "; "), Fields: f}
}
