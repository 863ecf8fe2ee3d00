package actions

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"muster"
)

// Param declares one parameter. Min and Max bound numbers and durations, the
// characters of a string, and the elements of a list.
type Param struct {
	Type      string          `json:"type"`
	Title     string          `json:"title,omitempty"`
	Pattern   string          `json:"pattern,omitempty"` // of a whole string, RE2
	Values    []string        `json:"values,omitempty"`  // of an enum
	Min       json.RawMessage `json:"min,omitempty"`
	Max       json.RawMessage `json:"max,omitempty"`
	Default   json.RawMessage `json:"default,omitempty"`
	Required  bool            `json:"required,omitempty"`
	Secret    bool            `json:"secret,omitempty"`     // kept out of output, errors and argv
	AllowDash bool            `json:"allow_dash,omitempty"` // may begin with - in argv

	pattern  *regexp.Regexp
	min, max *big.Rat // durations in nanoseconds
	bytes    int      // most bytes of JSON
	depth    int      // most levels of a list or object
}

// Caps of a parameter that declares none.
const (
	defaultString = 256 // characters
	defaultList   = 1000
	maxString     = 64 << 10
	maxValue      = 64 << 10 // bytes of JSON
	maxDepth      = 4
	maxDigits     = 400 // of a number
)

func types() []string {
	return []string{"string", "int", "float", "bool", "enum", "duration", "list", "object"}
}

// finish checks a declaration and compiles it.
func (p *Param) finish(bad faults, at string) {
	bad.check(oneOf(p.Type, types()...), at+"/type", "must be one of %s", strings.Join(types(), ", "))
	bad.check(p.Title == "" || plain(p.Title, 200), at+"/title", "must be one line of at most 200 characters")
	bad.check(p.Pattern == "" || p.Type == "string", at+"/pattern", "is for strings only")
	bad.check(!p.Secret || p.Type == "string", at+"/secret", "is for strings only")
	bad.check(!p.Secret || p.Default == nil, at+"/default", "a secret has no default")
	bad.check(!p.Required || p.Default == nil, at+"/default", "what is required has no default")
	bad.check((p.Type == "enum") == (len(p.Values) > 0), at+"/values", "an enum, and only an enum, lists its values")
	if p.Pattern != "" {
		_, err := regexp.Compile(p.Pattern) // alone: brackets of its own must not close ours
		bad.check(err == nil, at+"/pattern", "%v", err)
		if err == nil {
			p.pattern, err = regexp.Compile(`\A(?:` + p.Pattern + `)\z`)
			bad.check(err == nil, at+"/pattern", "%v", err)
		}
	}
	p.bounds(bad, at)
	if p.bytes == 0 {
		p.bytes, p.depth = maxValue, maxDepth
	}
	if p.Type == "string" {
		p.bytes = 6*maxString + 2 // every character may be escaped
	}
	if p.Default != nil && len(bad) == 0 {
		reason := p.fault(p.Default)
		bad.check(reason == "", at+"/default", "%s", reason)
	}
}

// bounds compiles min and max.
func (p *Param) bounds(bad faults, at string) {
	for _, b := range []struct {
		name string
		raw  json.RawMessage
		to   **big.Rat
	}{{"/min", p.Min, &p.min}, {"/max", p.Max, &p.max}} {
		if b.raw == nil {
			continue
		}
		ok := oneOf(p.Type, "string", "list", "int", "float", "duration")
		bad.check(ok, at+b.name, "is not for this type")
		if *b.to, ok = p.measure(b.raw); ok && oneOf(p.Type, "string", "list") {
			ok = (*b.to).IsInt() && (*b.to).Sign() >= 0
		}
		bad.check(ok, at+b.name, "is no bound of this type")
	}
	switch {
	case p.Type == "string" && p.max == nil:
		p.max = big.NewRat(defaultString, 1)
	case p.Type == "list" && p.max == nil:
		p.max = big.NewRat(defaultList, 1)
	}
	bad.check(p.Type != "string" || p.max == nil || p.max.Cmp(big.NewRat(maxString, 1)) <= 0, at+"/max", "must be at most %d", maxString)
	bad.check(p.min == nil || p.max == nil || p.min.Cmp(p.max) <= 0, at+"/min", "must not be above max")
}

// measure reads a bound: a duration as text, anything else as a number.
func (p *Param) measure(raw json.RawMessage) (*big.Rat, bool) {
	if p.Type == "duration" {
		return duration(raw)
	}
	if p.Type == "float" {
		return number(raw)
	}
	return integer(raw)
}

func duration(raw []byte) (*big.Rat, bool) {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return nil, false
	}
	d, err := time.ParseDuration(text)
	return big.NewRat(int64(d), 1), err == nil
}

// number reads a JSON number exactly. Long ones and huge exponents are refused,
// for they would be long to compute with.
func number(raw []byte) (*big.Rat, bool) {
	if jsontext.Value(raw).Kind() != '0' || len(raw) > maxDigits {
		return nil, false
	}
	var f float64
	if json.Unmarshal(raw, &f) != nil {
		return nil, false
	}
	if _, exponent, ok := bytes.Cut(bytes.ToLower(raw), []byte("e")); ok && len(exponent) > 4 {
		return nil, false
	}
	return new(big.Rat).SetString(string(raw))
}

// integer reads digits and keeps them all.
func integer(raw []byte) (*big.Rat, bool) {
	if bytes.ContainsAny(raw, ".eE") {
		return nil, false
	}
	return number(raw)
}

// admit returns a full set of parameters, or an Invalid error that names each
// wrong one. Values are never repeated in it.
func (d *Definition) admit(given muster.Params) (muster.Params, error) {
	bad, full := faults{}, make(muster.Params, len(d.Params))
	for name := range given {
		_, known := d.Params[name]
		bad.check(known, name, "is no parameter of %s", d.Action)
	}
	for name, p := range d.Params {
		raw, ok := given[name]
		switch {
		case ok:
			raw = bytes.TrimSpace(raw)
			reason := p.fault(raw)
			bad.check(reason == "", name, "%s", reason)
			full[name] = raw
		case p.Default != nil:
			full[name] = p.Default
		default:
			bad.check(!p.Required, name, "must be given")
		}
	}
	return full, bad.err("invalid_params")
}

// fault says what is wrong with a value, or nothing.
func (p *Param) fault(raw json.RawMessage) string {
	if len(raw) > p.bytes {
		return fmt.Sprintf("is longer than %d bytes", p.bytes)
	}
	if !jsontext.Value(raw).IsValid() {
		return "is not JSON, or names a field twice"
	}
	switch p.Type {
	case "string", "enum":
		return p.textFault(raw)
	case "int":
		v, ok := integer(raw)
		return p.rangeFault(v, ok, "must be a whole number")
	case "float":
		v, ok := number(raw)
		return p.rangeFault(v, ok, "must be a number")
	case "duration":
		v, ok := duration(raw)
		return p.rangeFault(v, ok, "must be a duration like 90s")
	case "bool":
		if !oneOf(string(raw), "true", "false") {
			return "must be true or false"
		}
		return ""
	default:
		return p.treeFault(raw)
	}
}

func (p *Param) textFault(raw json.RawMessage) string {
	var text string
	if jsontext.Value(raw).Kind() != '"' || json.Unmarshal(raw, &text) != nil {
		return "must be a string"
	}
	if p.Type == "enum" {
		if !slices.Contains(p.Values, text) {
			return "must be one of " + strings.Join(p.Values, ", ")
		}
		return ""
	}
	length := big.NewRat(int64(utf8.RuneCountInString(text)), 1)
	if reason := p.rangeFault(length, true, ""); reason != "" {
		return reason + " characters"
	}
	if p.pattern != nil && !p.pattern.MatchString(text) {
		return "must match " + p.Pattern
	}
	return ""
}

func (p *Param) treeFault(raw json.RawMessage) string {
	kind := jsontext.Value(raw).Kind()
	switch {
	case p.Type == "list" && kind != '[':
		return "must be a list"
	case p.Type == "object" && kind != '{':
		return "must be an object"
	}
	if deeper(raw, p.depth) {
		return fmt.Sprintf("nests deeper than %d", p.depth)
	}
	if p.Type == "list" {
		var items []json.RawMessage
		if json.Unmarshal(raw, &items) != nil {
			return "must be a list"
		}
		if reason := p.rangeFault(big.NewRat(int64(len(items)), 1), true, ""); reason != "" {
			return reason + " elements"
		}
	}
	return ""
}

// deeper reports whether a valid value nests deeper than limit.
func deeper(raw []byte, limit int) bool {
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	for {
		if _, err := dec.ReadToken(); err != nil {
			return false
		}
		if dec.StackDepth() > limit {
			return true
		}
	}
}

func (p *Param) rangeFault(v *big.Rat, ok bool, otherwise string) string {
	show := func(r *big.Rat) string {
		if p.Type == "duration" {
			return time.Duration(r.Num().Int64()).String()
		}
		return strings.TrimSuffix(strings.TrimRight(r.FloatString(6), "0"), ".")
	}
	switch {
	case !ok:
		return otherwise
	case p.min != nil && v.Cmp(p.min) < 0:
		return "must be at least " + show(p.min)
	case p.max != nil && v.Cmp(p.max) > 0:
		return "must be at most " + show(p.max)
	}
	return ""
}
