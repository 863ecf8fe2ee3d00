package search_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"muster"
)

// product is a document of the reference: words instead of text.
type product struct {
	id, collection string
	title, content []string
	page           int    // number of its URL; 0: none
	brand          string // metadata
	seed           uint64 // of how it is written

	terms map[string][]string // by field
}

// stem returns the term of a word, "" for one that is not indexed. It stands
// for the analyser, so that the reference does not need it.
func stem(word string) string {
	switch word {
	case "the", "for", "and", "with":
		return ""
	case "bottles":
		return "bottle"
	case "running", "runs":
		return "run"
	}
	if word != "glass" {
		word = strings.TrimSuffix(word, "s")
	}
	return word
}

func anyWord(r *rand.Rand) string {
	words := strings.Fields("steel bottle red bottles the shoe shoes run for running blue lamp and runs desk " +
		"chair glass with chairs cotton shirt garden hose small large")
	return words[min(r.IntN(len(words)), r.IntN(len(words)))]
}

func anyWords(r *rand.Rand, least, most int) []string {
	list := make([]string, least+r.IntN(most-least+1))
	for i := range list {
		list[i] = anyWord(r)
	}
	return list
}

// anyProduct has a short title, often no content, and few identities.
func anyProduct(r *rand.Rand, ids int) product {
	p := product{
		id: fmt.Sprint("p", r.IntN(ids)), collection: []string{"default", "sale", "b c"}[r.IntN(3)],
		title: anyWords(r, 1, 4), seed: r.Uint64(),
	}
	switch r.IntN(4) {
	case 0:
		p.content = anyWords(r, 1, 2)
	case 1:
		p.content = anyWords(r, 3, 20)
	}
	if r.IntN(4) == 0 {
		p.page = 1 + r.IntN(ids/2+1)
	}
	if r.IntN(8) == 0 {
		p.brand = []string{"acme", "Big Co"}[r.IntN(2)]
	}
	p.terms = map[string][]string{"title": stems(p.title), "content": stems(p.content), "all": stems(slices.Concat(p.title, p.content))}
	return p
}

// document writes a product down, equal ones not always alike.
func (p product) document() muster.Document {
	r := rand.New(rand.NewPCG(p.seed, 1))
	text := func(words []string) string {
		var b strings.Builder
		for i, w := range words {
			if i > 0 {
				b.WriteString([]string{" ", "  ", "\n"}[r.IntN(3)])
			}
			if r.IntN(3) == 0 {
				w = strings.ToUpper(w)
			}
			b.WriteString(w)
		}
		return b.String()
	}
	d := muster.Document{ID: p.id, Collection: p.collection, Title: text(p.title), Content: text(p.content)}
	if p.page > 0 {
		form := []string{"http://shop.example/p/%d", "HTTP://Shop.Example:80/p/%d/", "http://shop.example/p/%d#top"}[r.IntN(3)]
		d.URL = fmt.Sprintf(form, p.page)
	}
	if p.brand != "" {
		d.Metadata = muster.Metadata{"brand": fmt.Appendf(nil, "%q", p.brand)}
	}
	return d
}

// clause is a part of a query, as its author means it.
type clause struct{ sign, field, word string }

func (c clause) String() string {
	if c.field == "" {
		return c.sign + c.word
	}
	if strings.Contains(c.word, " ") {
		return c.sign + c.field + `:"` + c.word + `"`
	}
	return c.sign + c.field + ":" + c.word
}

func anyClause(r *rand.Rand) clause {
	c := clause{sign: []string{"", "", "", "", "", "+", "-"}[r.IntN(7)], word: anyWord(r)}
	switch r.IntN(14) {
	case 0, 1:
		c.field = "title"
	case 2:
		c.field = "content"
	case 3:
		c.field, c.word = "collection", []string{"sale", "b c", "none"}[r.IntN(3)]
	case 4:
		c.field, c.word = "brand", []string{"acme", "Big Co", "none"}[r.IntN(3)]
	case 5:
		c.field, c.word = "id", fmt.Sprint("p", r.IntN(60))
	}
	return c
}

// question is a query in its author's parts.
type question struct {
	clauses     []clause
	operator    string
	fields      []string
	collections []string
	limit       int
	dedupe      bool
}

func anyQuestion(r *rand.Rand) question {
	q := question{limit: 1 + r.IntN([]int{3, 12, 100}[r.IntN(3)]), dedupe: r.IntN(3) > 0, operator: "or"}
	for range 1 + r.IntN(4) {
		q.clauses = append(q.clauses, anyClause(r))
	}
	if r.IntN(4) == 0 {
		q.operator = "and"
	}
	q.fields = [][]string{nil, nil, nil, {"title"}, {"content"}, {"title", "content"}}[r.IntN(6)]
	if r.IntN(6) == 0 {
		q.collections = []string{"sale", "default"}[:1+r.IntN(2)]
	}
	return q
}

func (q question) query() muster.Query {
	parts := make([]string, 0, len(q.clauses))
	for _, c := range q.clauses {
		parts = append(parts, c.String())
	}
	none := 0
	return muster.Query{Text: strings.Join(parts, " "), Limit: q.limit, Options: muster.QueryOptions{
		Operator: q.operator, Fields: q.fields, Collections: q.collections, Dedupe: &q.dedupe,
		TimeoutMs: 60000, ContentLength: &none,
	}}
}

// shelf is the state of one node: its products by collection and ID.
type shelf map[[2]string]product

func (s shelf) put(p product) { s[[2]string{p.collection, p.id}] = p }

func stems(words []string) (terms []string) {
	for _, w := range words {
		if t := stem(w); t != "" {
			terms = append(terms, t)
		}
	}
	return terms
}

// bare returns the field a word without one matches in, and those it scores in.
func (q question) bare() (match string, score []string) {
	if len(q.fields) == 1 {
		return q.fields[0], q.fields
	}
	return "all", []string{"all", "title"}
}

// matches says whether a clause is true of a product. Without a say, it is void.
func (q question) matches(c clause, p product, brands bool) (yes, say bool) {
	switch c.field {
	case "collection":
		return p.collection == c.word, true
	case "id":
		return p.id == c.word, true
	case "brand":
		return brands && p.brand == c.word, true // text, where nobody has a brand
	case "":
		c.field, _ = q.bare()
	}
	t := stem(c.word)
	return slices.Contains(p.terms[c.field], t), t != ""
}

func (q question) takes(p product, brands bool) bool {
	if len(q.collections) > 0 && !slices.Contains(q.collections, p.collection) {
		return false
	}
	some, positive, excludes := false, false, false
	for _, c := range q.clauses {
		yes, say := q.matches(c, p, brands)
		positive = positive || c.sign != "-" && say
		excludes = excludes || c.sign == "-"
		switch {
		case !say:
		case c.sign == "-" && yes:
			return false
		case c.sign != "-" && yes:
			some = true
		case c.sign == "+" || q.operator == "and" && c.sign == "":
			return false
		}
	}
	return some || !positive && excludes
}

// weighed is a term that scores, and how often the query names it.
type weighed struct {
	field, term string
	times       float64
}

// weights are the terms of a query that score, in the order of their first
// mention: the order in which a score is summed up.
func (q question) weights() (list []weighed) {
	for _, c := range q.clauses {
		fields := []string{c.field}
		switch {
		case c.sign == "-" || stem(c.word) == "" || !oneOfText(c.field):
			continue
		case c.field == "":
			_, fields = q.bare()
		}
		for _, f := range fields {
			i := slices.IndexFunc(list, func(w weighed) bool { return w.field == f && w.term == stem(c.word) })
			if i < 0 {
				list = append(list, weighed{field: f, term: stem(c.word)})
				i = len(list) - 1
			}
			list[i].times++
		}
	}
	return list
}

func oneOfText(field string) bool { return field == "" || field == "title" || field == "content" }

func times(list []string, term string) (n float64) {
	for _, t := range list {
		if t == term {
			n++
		}
	}
	return n
}

// add returns what a term adds to the score of each product.
func (w weighed) add(all []product) []float64 {
	tf, dl := make([]float64, len(all)), make([]float64, len(all))
	n, df, tokens := float64(len(all)), 0.0, 0.0
	for i, p := range all {
		text := p.terms[w.field]
		tf[i], dl[i] = times(text, w.term), float64(len(text))
		tokens += dl[i]
		df += min(1, tf[i])
	}
	weight := 1.0
	if w.field == "title" {
		weight = 0.3
	}
	idf, average := math.Log(1+(n-df+0.5)/(df+0.5)), tokens/n
	for i := range all {
		if tf[i] > 0 {
			length := float64(1.2 * (0.25 + float64(0.75*dl[i]/average)))
			tf[i] = weight * w.times * idf * tf[i] / (tf[i] + length)
		}
	}
	return tf
}

// reference answers a question as one index of all shelves would.
func reference(q question, shelves map[string]shelf) (total int, hits []muster.Hit) {
	var all []product
	var node []string
	for slug, s := range shelves {
		for _, p := range s {
			all, node = append(all, p), append(node, slug)
		}
	}
	brands := slices.ContainsFunc(all, func(p product) bool { return p.brand != "" })
	scores := make([]float64, len(all))
	for _, w := range q.weights() {
		for i, s := range w.add(all) {
			scores[i] += s
		}
	}
	var order []int
	for i, p := range all {
		if q.takes(p, brands) {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(i, j int) int {
		a, b := all[i], all[j]
		return cmp.Or(cmp.Compare(scores[j], scores[i]), cmp.Compare(a.collection, b.collection), cmp.Compare(a.id, b.id), cmp.Compare(node[i], node[j]))
	})
	var kept []int
	for _, i := range order {
		first := slices.IndexFunc(kept, func(k int) bool { return q.dedupe && all[k].duplicates(all[i]) })
		if first < 0 {
			kept = append(kept, i)
			hits = append(hits, muster.Hit{ID: all[i].id, Collection: all[i].collection, SourceNode: node[i], Score: scores[i]})
		} else if h := &hits[first]; h.SourceNode != node[i] && !slices.Contains(h.AlsoOn, node[i]) {
			h.AlsoOn = append(h.AlsoOn, node[i])
		}
	}
	return len(order), hits
}

func (p product) duplicates(o product) bool {
	return p.page > 0 && p.page == o.page || len(p.content) > 0 && slices.Equal(p.content, o.content)
}
