package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// readNodes reads the rows of a file of nodes: a list, {nodes: list}, or a map
// of nodes by slug. Texts in YAML stay as they are written: 1.10 is no 1.1.
func readNodes(raw []byte) ([]json.RawMessage, error) {
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	if json.Valid(raw) {
		return readJSON(raw)
	}
	file, err := parser.ParseBytes(raw, 0)
	if e, ok := errors.AsType[yaml.Error](err); ok {
		return nil, fmt.Errorf("line %d: %s", e.GetToken().Position.Line, e.GetMessage())
	}
	if err != nil {
		return nil, err
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil, errors.New("must hold exactly one document")
	}
	nodes := file.Docs[0].Body
	if entries, ok := entriesOf(nodes); ok && len(entries) == 1 && textOf(entries[0].Key) == "nodes" {
		nodes = entries[0].Value
	}
	return rowsOf(nodes)
}

// readJSON is readNodes for JSON, which keeps its types.
func readJSON(raw []byte) (rows []json.RawMessage, err error) {
	if !jsontext.Value(raw).IsValid() {
		return nil, errors.New("a key is there twice")
	}
	if jsontext.Value(raw).Kind() == '[' {
		return rows, json.Unmarshal(raw, &rows)
	}
	var byKey map[string]json.RawMessage
	if json.Unmarshal(raw, &byKey) != nil {
		return nil, errNoNodes
	}
	if inner, ok := byKey["nodes"]; ok && len(byKey) == 1 {
		return readJSON(inner)
	}
	rows = []json.RawMessage{}
	for _, slug := range slices.Sorted(maps.Keys(byKey)) {
		row := map[string]json.RawMessage{}
		if json.Unmarshal(byKey[slug], &row) != nil || row["slug"] != nil {
			return nil, fmt.Errorf("%s must be a node without a slug of its own", slug)
		}
		if row["slug"], err = json.Marshal(slug); err != nil {
			return nil, err
		}
		one, err := json.Marshal(row)
		if err != nil {
			return nil, err
		}
		rows = append(rows, one)
	}
	return rows, nil
}

var errNoNodes = errors.New("must be a list of nodes, or nodes by slug")

func rowsOf(nodes ast.Node) (rows []json.RawMessage, err error) {
	rows = []json.RawMessage{}
	if list, ok := nodes.(*ast.SequenceNode); ok {
		for _, row := range list.Values {
			raw, err := rowOf(row, "")
			if err != nil {
				return nil, err
			}
			rows = append(rows, raw)
		}
		return rows, nil
	}
	entries, ok := entriesOf(nodes)
	if !ok {
		return nil, errNoNodes
	}
	for _, entry := range entries {
		raw, err := rowOf(entry.Value, textOf(entry.Key))
		if err != nil {
			return nil, err
		}
		rows = append(rows, raw)
	}
	return rows, nil
}

// entriesOf are the entries of a map.
func entriesOf(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode: // a map of one entry
		return []*ast.MappingValueNode{n}, true
	default:
		return nil, false
	}
}

// rowOf is one node as JSON; slug is the key that it stood under.
func rowOf(n ast.Node, slug string) (json.RawMessage, error) {
	var out bytes.Buffer
	w := nodeWriter{jsontext.NewEncoder(&out)}
	entries, ok := entriesOf(n)
	if !ok { // the cluster says what is wrong with it
		err := w.value(n, false)
		return bytes.TrimSpace(out.Bytes()), err
	}
	err := w.enc.WriteToken(jsontext.BeginObject)
	if slug != "" {
		err = errors.Join(err, w.enc.WriteToken(jsontext.String("slug")), w.enc.WriteToken(jsontext.String(slug)))
	}
	for _, entry := range entries {
		key := textOf(entry.Key)
		if err == nil {
			err = w.entry(entry, key != "metadata" && key != "weight")
		}
	}
	if err == nil {
		err = w.enc.WriteToken(jsontext.EndObject)
	}
	return bytes.TrimSpace(out.Bytes()), err
}

// nodeWriter writes YAML as JSON.
type nodeWriter struct{ enc *jsontext.Encoder }

func (w nodeWriter) entry(entry *ast.MappingValueNode, texts bool) error {
	err := w.enc.WriteToken(jsontext.String(textOf(entry.Key)))
	if err == nil {
		err = w.value(entry.Value, texts)
	}
	if err != nil {
		return fmt.Errorf("line %d: %s: %w", entry.Key.GetToken().Position.Line, textOf(entry.Key), cause(err))
	}
	return nil
}

// cause is that of an encoder's error, without the place in its output.
func cause(err error) error {
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return e.Err
	}
	return err
}

// value writes a value; with texts, plain words and numbers are texts, as they
// are written.
func (w nodeWriter) value(n ast.Node, texts bool) error {
	if entries, ok := entriesOf(n); ok {
		return w.mapping(entries, texts)
	}
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return w.enc.WriteToken(jsontext.Null)
	case *ast.SequenceNode:
		return w.sequence(n, texts)
	case *ast.BoolNode:
		if !texts {
			return w.enc.WriteToken(jsontext.Bool(n.Value))
		}
	case *ast.IntegerNode, *ast.FloatNode:
		if text := jsontext.Value(textOf(n)); !texts && text.IsValid() && text.Kind() == '0' {
			return w.enc.WriteValue(text)
		}
	case *ast.StringNode, *ast.LiteralNode, *ast.InfinityNode, *ast.NanNode:
	default:
		return fmt.Errorf("%s is not read here", n.Type())
	}
	return w.enc.WriteToken(jsontext.String(textOf(n)))
}

func (w nodeWriter) mapping(entries []*ast.MappingValueNode, texts bool) error {
	if err := w.enc.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for _, entry := range entries {
		if err := w.entry(entry, texts); err != nil {
			return err
		}
	}
	return w.enc.WriteToken(jsontext.EndObject)
}

func (w nodeWriter) sequence(n *ast.SequenceNode, texts bool) error {
	if err := w.enc.WriteToken(jsontext.BeginArray); err != nil {
		return err
	}
	for _, item := range n.Values {
		if err := w.value(item, texts); err != nil {
			return err
		}
	}
	return w.enc.WriteToken(jsontext.EndArray)
}

// textOf is a word as it is written, without quotes.
func textOf(n ast.Node) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	default:
		return n.GetToken().Value
	}
}
