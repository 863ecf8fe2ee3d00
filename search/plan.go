package search

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"

	"muster"
	"muster/search/query"
)

// Bounds and defaults of a query.
const (
	defaultLimit   = 10
	maxLimit       = 100
	defaultTimeout = 2000  // milliseconds
	maxTimeout     = 60000 // milliseconds
	defaultContent = 500   // characters
	defaultTTL     = 15 * time.Minute
)

// notYet is said of a well-formed field that asks for more than there is.
const notYet = "is not supported by this release"

// plan is a query that was found good: what is asked of whom.
type plan struct {
	shard         muster.ShardQuery
	limit         int
	contentLength int
	dedupe, cache bool
	timeout       time.Duration
	minCoverage   float64
	require       []string // slugs
	merge         string
	members       []*member
	outsiders     []*member // applications, with searches of their own
	skipped       []muster.NodeReport
}

// faults collects what is wrong with a query by field.
type faults map[string][]string

func (f faults) check(ok bool, field, format string, args ...any) {
	if !ok {
		f[field] = append(f[field], fmt.Sprintf(format, args...))
	}
}

// err is nil, or the first faults by field name as one error.
func (f faults) err(code, hint string) error {
	if len(f) == 0 {
		return nil
	}
	lines := make([]string, 0, len(f))
	for _, field := range slices.Sorted(maps.Keys(f)) {
		lines = append(lines, field+": "+strings.Join(f[field], ", "))
	}
	return &muster.Error{
		Kind: muster.Invalid, Code: code, Message: strings.Join(lines, "; "), Hint: hint, Fields: f,
	}
}

// plan judges a query and decides who is asked. What it keeps of the query is
// its own copy, for calls may outlive the search.
func (f *Federation) plan(q muster.Query, by muster.Rights) (plan, error) {
	o, bad := q.Options, faults{}
	checkRanges(q, bad)
	nodes := slices.DeleteFunc(f.nodes.Nodes(), func(n muster.Node) bool { return n.DeletedAt != nil })
	f.forget(nodes)
	chosen := f.choose(o, nodes, bad)
	for _, slug := range o.Require {
		bad.check(slices.ContainsFunc(nodes, func(n muster.Node) bool { return n.Slug == slug }),
			"options.require", "no node %q", slug)
	}
	text := norm.NFC.String(q.Text)
	var parsed query.Query
	if strings.TrimSpace(text) == "" {
		bad.check(false, "query", "must not be empty")
	} else {
		var err error
		parsed, err = query.Parse(text)
		if err != nil {
			bad["query"] = why(err)
		}
	}
	if err := bad.err("", ""); err != nil {
		return plan{}, err
	}
	if err := unsupported(q, parsed); err != nil {
		return plan{}, err
	}
	p := plan{
		shard: muster.ShardQuery{
			Text: text, Operator: cmp.Or(o.Operator, "or"),
			Fields: slices.Clone(o.Fields), Collections: slices.Clone(o.Collections),
		},
		limit: cmp.Or(q.Limit, defaultLimit), contentLength: defaultContent,
		dedupe:  o.Dedupe == nil || *o.Dedupe,
		cache:   o.Cache == nil || *o.Cache,
		timeout: time.Duration(cmp.Or(o.TimeoutMs, defaultTimeout)) * time.Millisecond,
		merge:   o.Merge, minCoverage: o.MinCoverage, require: slices.Clone(o.Require),
	}
	if o.ContentLength != nil {
		p.contentLength = *o.ContentLength
	}
	p.shard.Within = by.Filter
	chosen, err := reached(by, chosen, o.Nodes != nil)
	if err != nil {
		return plan{}, err
	}
	f.seat(&p, chosen)
	return p, nil
}

// checkRanges judges every field that can be judged by itself.
func checkRanges(q muster.Query, bad faults) {
	o := q.Options
	bad.check(q.Limit >= 0 && q.Limit <= maxLimit, "limit", "must be from 1 to %d", maxLimit)
	bad.check(o.TimeoutMs >= 0 && o.TimeoutMs <= maxTimeout, "options.timeout_ms", "must be from 1 to %d", maxTimeout)
	bad.check(o.ContentLength == nil || *o.ContentLength >= -1, "options.content_length", "must be -1 or more")
	bad.check(oneOf(o.Operator, "", "or", "and"), "options.operator", "must be or, or and")
	bad.check(oneOf(o.Language, "", "en"), "options.language", "must be en")
	bad.check(oneOf(o.Merge, "", "auto", "exact", "rescore", "rrf", "round_robin"), "options.merge", "must be auto, exact, rescore, rrf or round_robin")
	bad.check(o.MinCoverage >= 0 && o.MinCoverage <= 1, "options.min_coverage", "must be from 0 to 1")
	bad.check(o.Fuzzy >= 0 && o.Fuzzy <= 2, "options.fuzzy", "must be from 0 to 2")
	for _, field := range o.Fields {
		bad.check(oneOf(field, "title", "content"), "options.fields", "%q is not title or content", field)
	}
}

// why returns what an error says of its fields, or else its text.
func why(err error) []string {
	e, ok := errors.AsType[*muster.Error](err)
	if !ok || len(e.Fields) == 0 {
		return []string{err.Error()}
	}
	var reasons []string
	for _, field := range slices.Sorted(maps.Keys(e.Fields)) {
		reasons = append(reasons, e.Fields[field]...)
	}
	return reasons
}

func oneOf(s string, set ...string) bool { return slices.Contains(set, s) }

// unsupported names everything in a well-formed query that cannot be done yet.
func unsupported(q muster.Query, parsed query.Query) error {
	o, bad := q.Options, faults{}
	if err := parsed.Unsupported(); err != nil {
		bad["query"] = why(err)
	}
	bad.check(o.Fuzzy == 0, "options.fuzzy", notYet)
	bad.check(len(o.Filters) == 0, "options.filters", notYet)
	bad.check(len(o.Facets) == 0, "options.facets", notYet)
	bad.check(o.Cursor == "", "options.cursor", notYet)
	bad.check(!o.Stream, "options.stream", notYet)
	bad.check(!o.Highlight, "options.highlight", notYet)
	bad.check(!o.Explain, "options.explain", notYet)
	bad.check(len(o.Vector) == 0, "options.vector", notYet)
	return bad.err("unsupported", "leave out what is named; words, +word, -word and field:word are understood")
}

// choose returns the nodes in question: all that can search, or those named.
func (f *Federation) choose(o muster.QueryOptions, nodes []muster.Node, bad faults) []muster.Node {
	chosen := nodes
	if o.Nodes != nil {
		const field = "options.nodes"
		bad.check(len(*o.Nodes) > 0, field, "must name at least one node; leave it out to ask all")
		chosen = nil
		for _, name := range *o.Nodes {
			i := slices.IndexFunc(nodes, func(n muster.Node) bool { return n.Slug == name || n.ID == name })
			switch {
			case i < 0:
				bad.check(false, field, "no node %q", name)
			case !nodes[i].Can(muster.CapSearch):
				bad.check(false, field, "node %q cannot search", name)
			case !slices.ContainsFunc(chosen, func(n muster.Node) bool { return n.ID == nodes[i].ID }):
				chosen = append(chosen, nodes[i])
			}
		}
	}
	chosen = slices.DeleteFunc(slices.Clone(chosen), func(n muster.Node) bool {
		return !n.Can(muster.CapSearch) || o.Local && n.ID != f.cfg.Self
	})
	bad.check(!o.Local || o.Nodes == nil || len(chosen) > 0, "options.local", "options.nodes does not name this node")
	return chosen
}

// seat parts the chosen nodes into those that are asked and those that are
// not. This node is asked first, nodes believed down last.
func (f *Federation) seat(p *plan, chosen []muster.Node) {
	for _, n := range chosen {
		reason, status := "", muster.StatusOf(n.Status, n.Observed)
		switch {
		case n.Kind == muster.KindExternal && len(p.shard.Within) > 0:
			reason = "an application of its own cannot be held to the filter of the key"
		case status == muster.StatusMaintenance, status == muster.StatusInactive:
			reason = string(status)
		}
		docs := f.known(n)
		if reason != "" {
			p.skipped = append(p.skipped, muster.NodeReport{Node: n.Slug, Status: "skipped", Docs: docs, Error: reason})
			continue
		}
		m := &member{node: n, docs: docs, asker: f.remote, down: status == muster.StatusError}
		if n.Kind == muster.KindExternal {
			p.outsiders = append(p.outsiders, m)
			continue
		}
		if n.ID == f.cfg.Self {
			m.asker, m.down = f.local, false
		}
		p.members = append(p.members, m)
	}
	order := func(m *member) int {
		switch {
		case m.node.ID == f.cfg.Self:
			return 0
		case !m.down:
			return 1
		default:
			return 2
		}
	}
	slices.SortFunc(p.outsiders, func(a, b *member) int { return cmp.Compare(a.node.Slug, b.node.Slug) })
	slices.SortFunc(p.members, func(a, b *member) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a.node.Slug, b.node.Slug))
	})
}

// enough judges an answer by min_coverage and require.
func (p plan) enough(a muster.Answer) error {
	var missing []string
	if a.Coverage < p.minCoverage {
		missing = append(missing, fmt.Sprintf("coverage is %.3f, asked for %.3f", a.Coverage, p.minCoverage))
	}
	for _, slug := range p.require {
		if !slices.ContainsFunc(a.Nodes, func(r muster.NodeReport) bool {
			return r.Node == slug && oneOf(r.Status, "ok", "empty")
		}) {
			missing = append(missing, "no whole answer from "+slug)
		}
	}
	if missing == nil {
		return nil
	}
	return muster.Errorf(muster.Unavailable, "%s", strings.Join(missing, "; ")).WithCode("coverage").
		WithHint("ask again later, or lower min_coverage and require")
}
