package httpserver

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"muster"
)

// complaints are what is wrong with a request, by field.
type complaints map[string][]string

func (c complaints) when(bad bool, field, reason string) {
	if bad {
		c[field] = append(c[field], reason)
	}
}

// text checks a line for people: an optional one, of at most limit bytes.
func (c complaints) text(field, text string, limit int) {
	c.when(len(text) > limit, field, fmt.Sprintf("must have at most %d bytes", limit))
	c.when(!utf8.ValidString(text), field, "must be UTF-8")
	c.when(strings.ContainsFunc(text, hidden), field, "must have no control characters")
}

// name checks the name that a node or key must have.
func (c complaints) name(text string) {
	c.when(strings.TrimSpace(text) == "" || len(text) > maxText, "name", "must have 1 to 255 bytes")
	c.text("name", text, maxText)
}

func (c complaints) scopes(scopes []string) {
	c.when(len(strings.Join(scopes, " ")) > maxScopes, "scopes", "must have at most 2 KiB together")
	for _, scope := range scopes {
		c.when(!muster.ValidScope(scope), "scopes", strconv.Quote(scope)+" is no scope")
	}
}

func (c complaints) err(message string) error {
	if len(c) == 0 {
		return nil
	}
	return &muster.Error{Kind: muster.Invalid, Message: message, Fields: c}
}

// hidden are characters that move a terminal's cursor, end a line, or turn the
// order of what is read (UAX #9).
func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control) && r > '\u200f' || r == '\u2028' || r == '\u2029'
}
