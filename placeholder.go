package muster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Placeholders are the names in ${name} within the strings of a JSON value, in
// the order of their first appearance. It is an error if one is not closed.
func Placeholders(raw json.RawMessage) (names []string, err error) {
	_, err = Fill(raw, func(name string) (json.RawMessage, error) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		return json.RawMessage("null"), nil
	})
	return names, err
}

// Fill replaces ${name} in the strings of a JSON value. A string that is one
// placeholder becomes the value that value gives, of whatever type; within a
// longer one, the text of a string, or anything else as JSON. What has no
// placeholder is returned as it is. What is filled in is not looked at again.
func Fill(raw json.RawMessage, value func(name string) (json.RawMessage, error)) (json.RawMessage, error) {
	if !bytes.Contains(raw, []byte("$")) && !bytes.Contains(raw, []byte(`\u0024`)) {
		return raw, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("is no JSON: %w", err)
	}
	changed := false
	tree, err := fill(tree, func(name string) (json.RawMessage, error) {
		changed = true
		return value(name)
	})
	if err != nil || !changed {
		return raw, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err = enc.Encode(tree)
	return bytes.TrimSpace(out.Bytes()), err
}

func fill(tree any, value func(string) (json.RawMessage, error)) (any, error) {
	var err error
	switch v := tree.(type) {
	case string:
		return fillText(v, value)
	case []any:
		for i := range v {
			if v[i], err = fill(v[i], value); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if v[name], err = fill(v[name], value); err != nil {
				return nil, err
			}
		}
	}
	return tree, nil
}

func fillText(text string, value func(string) (json.RawMessage, error)) (any, error) {
	var out strings.Builder
	for rest := text; ; {
		before, after, found := strings.Cut(rest, "${")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, behind, closed := strings.Cut(after, "}")
		if !closed {
			return nil, fmt.Errorf("the placeholder ${%s is not closed", after)
		}
		raw, err := value(name)
		if err != nil {
			return nil, err
		}
		if text == "${"+name+"}" {
			return raw, nil
		}
		var word string
		if json.Unmarshal(raw, &word) != nil {
			word = string(raw)
		}
		out.WriteString(word)
		rest = behind
	}
}

// FieldOf returns a field of a JSON object by its path, names joined by dots. It
// is an error if there is none.
func FieldOf(raw json.RawMessage, path string) (json.RawMessage, error) {
	for name := range strings.SplitSeq(path, ".") {
		var object map[string]json.RawMessage
		if json.Unmarshal(raw, &object) != nil || object[name] == nil {
			return nil, fmt.Errorf("there is no field %s in the result", path)
		}
		raw = object[name]
	}
	return raw, nil
}
