package muster

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// Reaches reports whether the caller's targets hold a node with this metadata.
// Targets that cannot be read hold none.
func (r Rights) Reaches(m Metadata) bool {
	if r.Targets == "" {
		return true
	}
	where, err := ParseWhere(r.Targets)
	return err == nil && where.Meets(m)
}

// OutOfReach is the error of naming a node that is not among the targets of
// the caller's key.
func OutOfReach(slug string) *Error {
	return Errorf(Forbidden, "node %s is not among the targets of your key", slug).WithCode("out_of_reach").
		WithHint("leave it out, or ask an operator for a key that reaches it")
}

// Confine returns the targets and the filter of a key that this caller makes:
// what is asked for, and the caller's own besides. ok is false if the filters
// exclude each other.
func (r Rights) Confine(targets string, filter Metadata) (string, Metadata, bool) {
	switch {
	case targets == "":
		targets = r.Targets
	case r.Targets != "" && r.Targets != targets:
		targets = r.Targets + " && " + targets
	}
	if len(r.Filter) == 0 {
		return targets, filter, true
	}
	both := maps.Clone(r.Filter)
	for field, value := range filter {
		own, bound := r.Filter[field]
		if bound && !within(value, own) {
			return targets, nil, false
		}
		both[field] = value
	}
	return targets, both, true
}

// within reports whether all values of one filter are among those of another.
func within(part, whole json.RawMessage) bool {
	all := FilterValues(whole)
	for _, value := range FilterValues(part) {
		if !slices.Contains(all, value) {
			return false
		}
	}
	return true
}

// FilterValues are the texts that a filter allows for a field: one value, or
// any of a list. Objects and null are no values: a filter of them allows
// nothing.
func FilterValues(raw json.RawMessage) []string {
	raw = bytes.TrimSpace(raw)
	var list []json.RawMessage
	if !bytes.HasPrefix(raw, []byte("[")) {
		list = append(list, raw)
	} else if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	values := []string{}
	for _, value := range list {
		value = bytes.TrimSpace(value)
		if len(value) == 0 || bytes.ContainsAny(value[:1], "[{n") {
			return nil
		}
		text, _ := Metadata{"": value}.Text("")
		values = append(values, text)
	}
	return values
}
