package index

import (
	"slices"

	"github.com/blevesearch/bleve/v2/analysis"

	"muster"
	"muster/search/query"
)

// term is a term of one field. The terms of a plan that can match have qtf, how
// often the query names it, which is 0 where it adds no score.
type term struct {
	field, text string
	qtf         int
	required    bool
}

// plan is a query as the index sees it.
type plan struct {
	terms    []term   // in the order of the query; a document needs one of them
	required int      // number of the terms that a document needs
	nots     [][]term // a document that has all of one is excluded
	all      bool     // the query only excludes, stop words aside

	needs [][]term // a document needs one of each
}

// planner gathers a plan.
type planner struct {
	plan
	analyzer analysis.Analyzer
	where    []string // fields of a bare word; it matches in the first and scores in all
	at       map[[2]string]int
}

// newPlan analyses a query.
func newPlan(a analysis.Analyzer, q query.Query, sq muster.ShardQuery) (plan, error) {
	if err := q.Unsupported(); err != nil {
		return plan{}, err
	}
	if sq.Operator != "" && sq.Operator != "or" && sq.Operator != "and" {
		return plan{}, muster.FieldError("operator", "must be or, or and")
	}
	p := &planner{analyzer: a, at: make(map[[2]string]int)}
	title, content := slices.Contains(sq.Fields, fieldTitle), slices.Contains(sq.Fields, fieldContent)
	switch {
	case slices.ContainsFunc(sq.Fields, func(f string) bool { return f != fieldTitle && f != fieldContent }):
		return plan{}, muster.FieldError("fields", "must be among title and content")
	case title == content:
		p.where = []string{fieldAll, fieldTitle}
	case title:
		p.where = []string{fieldTitle}
	default:
		p.where = []string{fieldContent}
	}
	excludes := false
	for _, c := range q.Clauses {
		fields, texts := p.operands(c)
		if c.Occur == query.MustNot {
			excludes = true
			p.exclude(fields[0], texts)
			continue
		}
		must := c.Occur == query.Must || sq.Operator == "and"
		for _, text := range texts {
			for i, f := range fields {
				p.add(f, text, !c.Exact(), must && i == 0)
			}
		}
	}
	p.all = excludes && len(p.terms) == 0
	p.confine(sq)
	return p.plan, nil
}

// operands returns the fields and the terms of a clause.
func (p *planner) operands(c query.Clause) (fields, texts []string) {
	switch c.Field {
	case "":
		return p.where, p.analyse(c.Text)
	case query.Title:
		return []string{fieldTitle}, p.analyse(c.Text)
	case query.Content:
		return []string{fieldContent}, p.analyse(c.Text)
	case query.Collection, query.Language, query.URL, query.ID: // so are the fields called
		return []string{c.Field}, []string{nfc(c.Text)}
	default:
		return []string{fieldMetadata}, []string{nfc(c.Field + "\x00" + c.Text)}
	}
}

func (p *planner) analyse(text string) (terms []string) {
	for _, t := range p.analyzer.Analyze([]byte(nfc(text))) {
		terms = append(terms, string(t.Term))
	}
	return terms
}

func (p *planner) exclude(field string, texts []string) {
	not := make([]term, 0, len(texts))
	for _, text := range texts {
		not = append(not, term{field: field, text: text})
	}
	if len(not) > 0 { // stop words exclude nothing
		p.nots = append(p.nots, not)
	}
}

func (p *planner) add(field, text string, scores, must bool) {
	k := [2]string{field, text}
	i, ok := p.at[k]
	if !ok {
		i = len(p.terms)
		p.at[k] = i
		p.terms = append(p.terms, term{field: field, text: text})
	}
	t := &p.terms[i]
	if scores {
		t.qtf++
	}
	if must && !t.required {
		t.required = true
		p.required++
	}
}
