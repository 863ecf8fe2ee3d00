package muster

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxWhere is the longest condition, in bytes.
const maxWhere = 4096

// whereTerm is one comparison. A node without the key equals nothing: it meets
// k!=v, and no other term.
type whereTerm struct {
	key    string
	not    bool
	values []string
}

// Where is a condition over metadata: all its terms must hold.
type Where struct{ terms []whereTerm }

// ParseWhere reads k=v, k!=v and k in (a,b), joined by &&. Words that hold more
// than letters, digits and ._-/:@+ stand in double quotes, where \ quotes the
// next character.
func ParseWhere(text string) (Where, error) {
	if len(text) > maxWhere || !utf8.ValidString(text) {
		return Where{}, fmt.Errorf("must be UTF-8 of at most %d bytes", maxWhere)
	}
	p := whereParser{rest: text, all: text}
	var w Where
	for {
		t, err := p.term()
		if err != nil {
			return Where{}, err
		}
		w.terms = append(w.terms, t)
		if p.end() {
			return w, nil
		}
		if !p.sign("&&") {
			return Where{}, p.wrong("&& or the end")
		}
	}
}

// Meets reports whether all terms hold.
func (w Where) Meets(m Metadata) bool {
	for _, t := range w.terms {
		value, ok := m.Text(t.key)
		if (ok && slices.Contains(t.values, value)) == t.not {
			return false
		}
	}
	return true
}

type whereParser struct{ all, rest string }

func (p *whereParser) wrong(wanted string) error {
	return fmt.Errorf("%s is expected at character %d", wanted, 1+utf8.RuneCountInString(p.all[:len(p.all)-len(p.rest)]))
}

func (p *whereParser) space() { p.rest = strings.TrimLeftFunc(p.rest, unicode.IsSpace) }

func (p *whereParser) end() bool {
	p.space()
	return p.rest == ""
}

// sign takes a sign if it is next.
func (p *whereParser) sign(s string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.rest, s)
	p.rest = rest
	return ok
}

// term reads one comparison.
func (p *whereParser) term() (t whereTerm, err error) {
	if t.key, err = p.word("a key"); err != nil {
		return t, err
	}
	switch {
	case p.sign("!="):
		t.not = true
	case p.sign("="):
	default:
		return p.in(t)
	}
	value, err := p.word("a value")
	t.values = []string{value}
	return t, err
}

// in reads what follows the key of k in (a,b).
func (p *whereParser) in(t whereTerm) (whereTerm, error) {
	before := *p
	if op, err := p.word(""); err != nil || op != "in" || !p.sign("(") {
		p.rest = before.rest
		return t, p.wrong("=, != or in (…)")
	}
	for {
		value, err := p.word("a value")
		if err != nil {
			return t, err
		}
		t.values = append(t.values, value)
		switch {
		case p.sign(")"):
			return t, nil
		case !p.sign(","):
			return t, p.wrong(", or )")
		}
	}
}

// word reads a bare or quoted word.
func (p *whereParser) word(what string) (string, error) {
	p.space()
	if strings.HasPrefix(p.rest, `"`) {
		return p.quoted()
	}
	n := strings.IndexFunc(p.rest, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && !strings.ContainsRune("._-/:@+", r)
	})
	if n < 0 {
		n = len(p.rest)
	}
	if n == 0 {
		return "", p.wrong(what)
	}
	word := p.rest[:n]
	p.rest = p.rest[n:]
	return word, nil
}

func (p *whereParser) quoted() (string, error) {
	var word strings.Builder
	escaped := false
	for i, r := range p.rest[1:] {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\':
			escaped = true
		case r == '"':
			p.rest = p.rest[1+i+1:]
			return word.String(), nil
		default:
			word.WriteRune(r)
		}
	}
	p.rest = ""
	return "", p.wrong(`"`)
}
