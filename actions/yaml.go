package actions

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// fromYAML turns the part of YAML that has a meaning in JSON into JSON. Anchors,
// aliases, tags and merged keys are refused: a definition reads as it stands.
func fromYAML(raw []byte) (document, error) {
	doc := document{lines: map[string]int{}}
	file, err := parser.ParseBytes(raw, 0, parser.AllowDuplicateMapKey()) // mapping tells of these
	if err != nil {
		if e, ok := errors.AsType[yaml.Error](err); ok {
			return doc, faultAt(e.GetToken().Position.Line, "%s", e.GetMessage())
		}
		return doc, faultAt(1, "%v", err)
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return doc, faultAt(1, "must hold exactly one document")
	}
	var out bytes.Buffer
	w := yamlWriter{enc: jsontext.NewEncoder(&out), lines: doc.lines, twice: &doc.twice}
	if err := w.value(file.Docs[0].Body, ""); err != nil {
		return doc, err
	}
	doc.json = out.Bytes()
	return doc, nil
}

type yamlWriter struct {
	enc   *jsontext.Encoder
	lines map[string]int
	twice *[]lineError
}

func (w yamlWriter) value(n ast.Node, pointer string) error {
	if n == nil {
		return w.write(jsontext.Null, 1)
	}
	line := n.GetToken().Position.Line
	if w.lines[pointer] == 0 {
		w.lines[pointer] = line
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return w.mapping(n, pointer, line)
	case *ast.MappingValueNode: // a map of one entry
		return w.mapping(ast.Mapping(n.GetToken(), false, n), pointer, line)
	case *ast.SequenceNode:
		return w.sequence(n, pointer, line)
	case *ast.StringNode:
		return w.write(jsontext.String(n.Value), line)
	case *ast.LiteralNode:
		return w.write(jsontext.String(n.Value.Value), line)
	case *ast.BoolNode:
		return w.write(jsontext.Bool(n.Value), line)
	case *ast.NullNode:
		return w.write(jsontext.Null, line)
	case *ast.IntegerNode, *ast.FloatNode:
		text := jsontext.Value(n.GetToken().Value)
		if text.Kind() != '0' || !text.IsValid() {
			return faultAt(line, "%s: write numbers in decimal", text)
		}
		if err := w.enc.WriteValue(text); err != nil {
			return faultAt(line, "%v", err)
		}
		return nil
	default:
		return faultAt(line, "%s is not allowed in a definition", strings.ToLower(n.Type().String()))
	}
}

func (w yamlWriter) write(token jsontext.Token, line int) error {
	err := w.enc.WriteToken(token)
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return faultAt(line, "%v", syntax.Err)
	}
	return err
}

func (w yamlWriter) mapping(n *ast.MappingNode, pointer string, line int) error {
	if err := w.write(jsontext.BeginObject, line); err != nil {
		return err
	}
	keys := map[string]int{} // to their lines
	for _, entry := range n.Values {
		at := entry.Key.GetToken().Position.Line
		key, ok := entry.Key.(*ast.StringNode)
		if !ok {
			return faultAt(at, "a key must be a plain word")
		}
		here := pointer + "/" + key.Value
		if first, twice := keys[key.Value]; twice {
			*w.twice = append(*w.twice, repeats(at, here, first))
			continue
		}
		keys[key.Value] = at
		if err := w.write(jsontext.String(key.Value), at); err != nil {
			return err
		}
		w.lines[here] = at
		if err := w.value(entry.Value, here); err != nil {
			return err
		}
	}
	return w.write(jsontext.EndObject, line)
}

func (w yamlWriter) sequence(n *ast.SequenceNode, pointer string, line int) error {
	if err := w.write(jsontext.BeginArray, line); err != nil {
		return err
	}
	for i, entry := range n.Values {
		if err := w.value(entry, fmt.Sprintf("%s/%d", pointer, i)); err != nil {
			return err
		}
	}
	return w.write(jsontext.EndArray, line)
}
