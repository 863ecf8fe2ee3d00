// Package query reads the query language: words, "phrases", +must, -mustnot,
// field:word and prefix*. It never looks into an index and never fails on what
// people paste: what is no operator is text.
package query

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"muster"
)

// Limits of one query.
const (
	MaxText    = 32 << 10 // bytes
	MaxClauses = 1024
)

// The fields every index has. In Title and Content words are analysed; the
// others match exactly.
const (
	Title      = "title"
	Content    = "content"
	Collection = "collection"
	Language   = "language"
	URL        = "url"
	ID         = "id"
)

// Occur says what a clause means for a document that does or does not match.
type Occur int

// What a clause can ask for.
const (
	Should  Occur = iota // one of these has to match
	Must                 // has to match
	MustNot              // must not match
)

// Kind is the form of a clause.
type Kind int

// The forms.
const (
	Word   Kind = iota // text, analysed or, in an exact field, compared as it is
	Phrase             // "text in this order"
	Prefix             // text*, Text without its star
)

// Clause is one thing to look for. Field is empty for bare words, one of the
// builtin fields, or a metadata key.
type Clause struct {
	Occur Occur
	Kind  Kind
	Field string
	Text  string

	key, value string // of a candidate: what it is if key is a metadata key
}

// Exact reports whether the clause compares whole values and so adds nothing to
// a score.
func (c Clause) Exact() bool {
	return c.Field != "" && c.Field != Title && c.Field != Content
}

// Query is a parsed query text. Its clauses are in the order of the text.
type Query struct {
	Clauses []Clause
}

// Candidates returns, sorted and without repeats, the k of all k:v where k is
// no builtin field: each is a metadata key if some node has it, or else text.
func (q Query) Candidates() []string {
	var keys []string
	for _, c := range q.Clauses {
		if c.key != "" {
			keys = append(keys, c.key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Resolve returns the query with the candidates among keys taken for metadata
// fields. The others stay text. The receiver is not changed.
func (q Query) Resolve(keys []string) Query {
	known := make(map[string]bool, len(keys))
	for _, k := range keys {
		known[norm.NFC.String(k)] = true
	}
	clauses := slices.Clone(q.Clauses)
	for i, c := range clauses {
		if c.key != "" && known[c.key] {
			clauses[i] = Clause{Occur: c.Occur, Kind: c.Kind, Field: c.key, Text: c.value}
		}
	}
	return Query{Clauses: clauses}
}

// Unsupported returns an Invalid error with code "unsupported" for the first
// clause that no index answers yet, with a hint how to write it instead.
func (q Query) Unsupported() error {
	for _, c := range q.Clauses {
		switch c.Kind {
		case Word:
		case Phrase:
			return muster.FieldError("query", "phrases are not supported").WithCode("unsupported").
				WithHint("write the words without quotes, with + before each that has to occur: " + mustAll(c.Text))
		case Prefix:
			return muster.FieldError("query", "prefixes are not supported").WithCode("unsupported").
				WithHint("write the whole word without *")
		}
	}
	return nil
}

func mustAll(text string) string {
	words := strings.Fields(text)
	return "+" + strings.Join(words[:min(len(words), 8)], " +")
}

// Parse reads a query text. It returns an Invalid error naming the field
// "query" when the text or its number of clauses is over the limit.
func Parse(text string) (Query, error) {
	if len(text) > MaxText {
		return Query{}, muster.FieldError("query", "longer than 32 KiB")
	}
	rest := norm.NFC.String(strings.ToValidUTF8(text, string(utf8.RuneError)))
	var q Query
	for {
		rest = strings.TrimLeftFunc(rest, unicode.IsSpace)
		if rest == "" {
			return q, nil
		}
		if len(q.Clauses) == MaxClauses {
			return Query{}, muster.FieldError("query", "more than 1024 words")
		}
		var c Clause
		c, rest = next(rest)
		q.Clauses = append(q.Clauses, c)
	}
}

// next takes one clause from s, which does not begin with white space.
func next(s string) (c Clause, rest string) {
	body, occur := s, Should
	switch s[0] {
	case '+':
		body, occur = s[1:], Must
	case '-':
		body, occur = s[1:], MustNot
	}
	if end := space(body); end == 0 { // a sign of its own is text
		return Clause{Text: s[:1]}, s[1:]
	}
	c, rest = operand(body)
	c.Occur = occur
	return c, rest
}

// operand takes one clause without its sign from s.
func operand(s string) (c Clause, rest string) {
	if text, rest, ok := quoted(s); ok {
		return Clause{Kind: Phrase, Text: text}, rest
	}
	word := s[:space(s)]
	key, _, ok := strings.Cut(word, ":")
	if !ok || key == "" || strings.ContainsRune(key, '"') {
		kind, text := bare(word)
		return Clause{Kind: kind, Text: text}, s[len(word):]
	}
	after := s[len(key)+1:]
	if text, rest, ok := quoted(after); ok {
		return quotedField(key, text), rest
	}
	value := word[len(key)+1:]
	kind, text := bare(value)
	switch {
	case !content(value): // "x:" and "x:*" are text
		return Clause{Text: word}, s[len(word):]
	case builtin(key):
		return Clause{Kind: kind, Field: key, Text: text}, s[len(word):]
	default:
		return Clause{Kind: kind, Text: key + ":" + text, key: key, value: text}, s[len(word):]
	}
}

// quotedField is key:"text". In exact fields the quotes only hold the value
// together.
func quotedField(key, text string) Clause {
	switch {
	case key == Title || key == Content:
		return Clause{Kind: Phrase, Field: key, Text: text}
	case builtin(key):
		return Clause{Field: key, Text: text}
	default:
		return Clause{Text: key + ":" + text, key: key, value: text}
	}
}

// quoted takes "text" from the beginning of s. ok is false without a closing
// quote and where there is nothing to look for between the quotes.
func quoted(s string) (text, rest string, ok bool) {
	inner, ok := strings.CutPrefix(s, `"`)
	if !ok {
		return "", "", false
	}
	text, rest, ok = strings.Cut(inner, `"`)
	if text = strings.TrimSpace(text); !ok || !content(text) {
		return "", "", false
	}
	return text, rest, true
}

// bare tells a prefix from a word.
func bare(word string) (Kind, string) {
	stem, ok := strings.CutSuffix(word, "*")
	if !ok || !content(stem) || strings.HasSuffix(stem, "*") {
		return Word, word
	}
	return Prefix, stem
}

// content reports whether there is a letter, digit or symbol other than the
// signs of the language in s.
func content(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsSpace(r) && !unicode.IsPunct(r) && r != '+'
	})
}

func builtin(field string) bool {
	switch field {
	case Title, Content, Collection, Language, URL, ID:
		return true
	}
	return false
}

// space returns the index of the first white space in s, or its length.
func space(s string) int {
	if i := strings.IndexFunc(s, unicode.IsSpace); i >= 0 {
		return i
	}
	return len(s)
}
