package actions

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"muster"
)

// target is a node that was selected. skip says why it is not asked, retry how it
// is asked again when it cannot be reached; nil: not at all.
type target struct {
	node  muster.Node
	skip  *muster.ActionError
	retry *Retry
}

// selection picks nodes for a run.
type selection struct {
	on    muster.Selector
	nodes []muster.Node // living ones, by slug
	bad   faults
	lost  []string // names that no node has
}

// pick returns the targets of a selector: in the order given if they were named,
// else by slug. A name that no node has is NotFound, an empty selection Invalid.
// A caller's targets are ANDed to the selector; naming a node outside of them
// is Forbidden.
func pick(on muster.Selector, nodes []muster.Node, by muster.Rights) ([]target, error) {
	s := selection{on: on, bad: faults{}}
	s.nodes = slices.DeleteFunc(slices.Clone(nodes), func(n muster.Node) bool { return n.DeletedAt != nil })
	slices.SortFunc(s.nodes, func(a, b muster.Node) int { return cmp.Compare(a.Slug, b.Slug) })
	s.judge()
	chosen := s.base()
	excluded := s.named(on.Exclude)
	if err := s.bad.err(""); err != nil {
		return nil, err
	}
	if len(s.lost) > 0 {
		return nil, muster.Errorf(muster.NotFound, "no node %q", s.lost[0]).WithHint("muster node list names them")
	}
	chosen = slices.DeleteFunc(chosen, func(n muster.Node) bool { return contains(excluded, n) })
	beyond := func(n muster.Node) bool { return !by.Reaches(n.Metadata) }
	if i := slices.IndexFunc(chosen, beyond); i >= 0 && on.Nodes != nil {
		return nil, muster.OutOfReach(chosen[i].Slug)
	}
	chosen = slices.DeleteFunc(chosen, beyond)
	targets := make([]target, 0, len(chosen))
	for _, n := range chosen {
		targets = append(targets, aim(n))
	}
	targets = s.thin(targets)
	if len(targets) == 0 {
		return nil, muster.FieldError("on", "selects no node").WithCode("no_targets")
	}
	return targets, nil
}

// judge checks what may stand together.
func (s *selection) judge() {
	on, bad := s.on, s.bad
	filtered := on.Where != "" || on.Capability != "" || on.Type != ""
	thinned := on.Sample != nil || on.Percent != nil
	bad.check(on.Nodes != nil || on.All || filtered || thinned, "on",
		"must say where: nodes, all, where, capability, type, sample or percent")
	bad.check(on.Nodes == nil || len(*on.Nodes) > 0, "on.nodes", "must name at least one node; all says all")
	bad.check(on.Nodes == nil || !on.All && !filtered, "on.nodes", "stands alone: no all, where, capability or type beside it")
	bad.check(!on.All || !filtered, "on.all", "stands alone: no where, capability or type beside it")
	bad.check(on.Sample == nil || *on.Sample > 0, "on.sample", "must be 1 or more")
	bad.check(on.Percent == nil || *on.Percent > 0 && *on.Percent <= 100, "on.percent", "must be above 0 and at most 100") // not NaN either
	bad.check(on.Sample == nil || on.Percent == nil, "on.sample", "does not go with percent")
	bad.check(on.Seed == nil || thinned, "on.seed", "is for sample and percent")
	bad.check(oneOf(string(on.Type), "", string(muster.TypeMaster), string(muster.TypeChild)), "on.type", "must be master or child")
}

// base returns the nodes before exclude and sample.
func (s *selection) base() []muster.Node {
	on := s.on
	if on.Nodes != nil {
		return s.named(*on.Nodes)
	}
	if on.All {
		return slices.Clone(s.nodes)
	}
	capability := on.Capability
	var condition muster.Where
	if on.Where != "" {
		var err error
		condition, err = muster.ParseWhere(on.Where)
		s.bad.check(err == nil, "on.where", "%v", err)
	} else if on.Type == "" && capability == "" {
		capability = muster.CapActions // sample or percent alone
	}
	return slices.DeleteFunc(slices.Clone(s.nodes), func(n muster.Node) bool {
		return capability != "" && !n.Can(capability) || on.Type != "" && n.Type != on.Type || !condition.Meets(n.Metadata)
	})
}

// named returns the nodes of these slugs or IDs, each once.
func (s *selection) named(names []string) (found []muster.Node) {
	for _, name := range names {
		i := slices.IndexFunc(s.nodes, func(n muster.Node) bool { return n.Slug == name })
		if i < 0 {
			i = slices.IndexFunc(s.nodes, func(n muster.Node) bool { return n.ID == name })
		}
		if i < 0 {
			s.lost = append(s.lost, name)
			continue
		}
		if !contains(found, s.nodes[i]) {
			found = append(found, s.nodes[i])
		}
	}
	return found
}

func contains(nodes []muster.Node, n muster.Node) bool {
	return slices.ContainsFunc(nodes, func(o muster.Node) bool { return o.ID == n.ID })
}

// aim decides whether a node is asked.
func aim(n muster.Node) target {
	status := muster.StatusOf(n.Status, n.Observed)
	t := target{node: n} // one believed down is tried all the same
	skip := func(code, message string) { t.skip = &muster.ActionError{Code: code, Message: message} }
	switch {
	case status == muster.StatusMaintenance:
		skip("maintenance", "the node is in maintenance")
	case status == muster.StatusInactive:
		skip("inactive", "the node is inactive")
	case !n.Can(muster.CapActions):
		skip("no_capability", "the node has no capability actions")
	}
	return t
}

// thin takes the sample: by the seed, or else by chance; nodes that would be
// skipped come last. The order of the rest stays.
func (s *selection) thin(targets []target) []target {
	n := len(targets)
	switch {
	case s.on.Sample != nil:
		n = *s.on.Sample
	case s.on.Percent != nil:
		n = int(math.Ceil(*s.on.Percent * float64(n) / 100))
	}
	if n >= len(targets) {
		return targets
	}
	seed := rand.Uint64() //nolint:gosec // a sample is no secret
	if s.on.Seed != nil {
		seed = uint64(*s.on.Seed)
	}
	// Shuffled from one order, whatever the order given.
	drawn := slices.SortedFunc(slices.Values(targets), func(a, b target) int { return cmp.Compare(a.node.ID, b.node.ID) })
	r := rand.New(rand.NewPCG(seed, 0))
	r.Shuffle(len(drawn), func(i, j int) { drawn[i], drawn[j] = drawn[j], drawn[i] })
	slices.SortStableFunc(drawn, func(a, b target) int {
		switch {
		case (a.skip == nil) == (b.skip == nil):
			return 0
		case a.skip == nil:
			return -1
		default:
			return 1
		}
	})
	drawn = drawn[:n]
	return slices.DeleteFunc(targets, func(t target) bool {
		return !slices.ContainsFunc(drawn, func(d target) bool { return d.node.ID == t.node.ID })
	})
}
