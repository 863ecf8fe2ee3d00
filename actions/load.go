package actions

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"muster"
)

// maxFile is the largest definition file.
const maxFile = 64 << 10

// LoadDir reads every .yaml, .yml and .json file of a directory as one
// definition each, in the order of their names; others and hidden ones are left
// out. The error joins all faults of all files, each with its file and line. A
// directory or file that others own or may write, itself or by a directory above
// it, is refused. A directory that cannot be read is an Internal error, anything
// else Invalid.
func LoadDir(dir string) ([]Definition, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, muster.Errorf(muster.Internal, "%w", err)
	}
	if err := safe(dir); err != nil {
		return nil, muster.Errorf(muster.Invalid, "%w", err)
	}
	var all []Definition
	var errs []error
	from := map[string]string{}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") || !oneOf(filepath.Ext(name), ".yaml", ".yml", ".json") {
			continue
		}
		d, err := LoadFile(filepath.Join(dir, name))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		other, twice := from[d.Action]
		switch {
		case twice:
			errs = append(errs, fmt.Errorf("%s: %s is defined in %s, too", d.source, d.Action, other))
		case isBuiltin(d.Action):
			errs = append(errs, fmt.Errorf("%s: %s is built in", d.source, d.Action))
		}
		from[d.Action] = d.source
		all = append(all, d)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, &muster.Error{Kind: muster.Invalid, Message: err.Error(), Err: err}
	}
	return all, nil
}

// LoadFile reads one definition.
func LoadFile(path string) (Definition, error) {
	if err := safe(path); err != nil {
		return Definition{}, muster.Errorf(muster.Invalid, "%w", err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return Definition{}, muster.Errorf(muster.Invalid, "%w", err)
	}
	return Parse(path, raw)
}

// Parse reads a definition, as JSON if its name ends in .json, else as YAML.
// Errors are Invalid and begin with name and line.
func Parse(name string, raw []byte) (d Definition, err error) {
	if len(raw) > maxFile {
		return d, muster.Errorf(muster.Invalid, "%s: is longer than %d KiB", name, maxFile>>10)
	}
	read := fromYAML
	if filepath.Ext(name) == ".json" {
		read = fromJSON
	}
	doc, err := read(raw)
	if err != nil {
		return d, muster.Errorf(muster.Invalid, "%s:%w", name, err)
	}
	bad := foreign(doc.json)
	if len(bad) > 0 {
		return d, doc.err(name, bad)
	}
	if err := json.Unmarshal(doc.json, &d, json.RejectUnknownMembers(true)); err != nil {
		pointer, reason := explain(err)
		bad.check(false, pointer, "%s", reason)
	} else {
		d.source = name
		bad = d.finish(canonical(doc.json))
	}
	return d, doc.err(name, bad)
}

// foreign finds handlers of kinds that are not there yet, whose fields are not
// known either.
func foreign(raw []byte) faults {
	var kinds struct {
		Handler struct {
			Kind string `json:"kind"`
		} `json:"handler"`
		Check struct {
			Kind string `json:"kind"`
		} `json:"check"`
	}
	bad := faults{}
	if json.Unmarshal(raw, &kinds) != nil {
		return bad // the strict decoder says why
	}
	for at, kind := range map[string]string{"/handler/kind": kinds.Handler.Kind, "/check/kind": kinds.Check.Kind} {
		bad.check(!oneOf(kind, "http", "go"), at, "%s %s", kind, notYet)
	}
	return bad
}

// document is a file as JSON, and the line each value stands on.
type document struct {
	json  []byte
	lines map[string]int // by JSON pointer
}

// line finds where a value stands, or the next one around it.
func (doc document) line(pointer string) int {
	for pointer != "" {
		if n, ok := doc.lines[pointer]; ok {
			return n
		}
		pointer = pointer[:strings.LastIndexByte(pointer, '/')]
	}
	return 1
}

// err tells the faults of a file in the order of its lines.
func (doc document) err(name string, bad faults) error {
	if len(bad) == 0 {
		return nil
	}
	pointers := slices.SortedFunc(maps.Keys(bad), func(a, b string) int {
		return 2*(doc.line(a)-doc.line(b)) + strings.Compare(a, b)
	})
	lines := make([]string, 0, len(bad))
	for _, pointer := range pointers {
		field := strings.ReplaceAll(strings.TrimPrefix(pointer, "/"), "/", ".")
		if field != "" {
			field += ": "
		}
		lines = append(lines, fmt.Sprintf("%s:%d: %s%s", name, doc.line(pointer), field, strings.Join(bad[pointer], ", ")))
	}
	return &muster.Error{Kind: muster.Invalid, Message: strings.Join(lines, "\n")}
}

// explain says in the words of a file what the decoder did not like, and where.
func explain(err error) (pointer, reason string) {
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return "", err.Error()
	}
	switch {
	case errors.Is(err, json.ErrUnknownName):
		reason = "no such field"
	case semantic.Err != nil:
		reason = semantic.Err.Error()
	case semantic.GoType != nil:
		reason = "must be a " + strings.ToLower(semantic.GoType.Kind().String())
	default:
		reason = "has the wrong type"
	}
	return string(semantic.JSONPointer), reason
}

// canonical is the same JSON with sorted keys and no white space. Numbers keep
// their digits.
func canonical(raw []byte) []byte {
	dec := stdjson.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return raw
	}
	var out bytes.Buffer
	enc := stdjson.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return raw
	}
	return bytes.TrimSpace(out.Bytes())
}

// fromJSON finds the lines of a JSON file.
func fromJSON(raw []byte) (document, error) {
	doc := document{json: raw, lines: map[string]int{}}
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	lineAt := func(offset int64) int { return 1 + bytes.Count(raw[:offset], []byte("\n")) }
	for {
		_, err := dec.ReadToken()
		if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
			return doc, fmt.Errorf("%d: %w", lineAt(min(syntax.ByteOffset, int64(len(raw)))), syntax.Err)
		}
		if err != nil && dec.StackDepth() == 0 && dec.InputOffset() > 0 {
			return doc, nil
		}
		if err != nil {
			return doc, fmt.Errorf("%d: %w", lineAt(dec.InputOffset()), err)
		}
		if pointer := string(dec.StackPointer()); doc.lines[pointer] == 0 {
			doc.lines[pointer] = lineAt(dec.InputOffset())
		}
	}
}
