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
// out. The error has all faults of all files, each with its file and line. A
// directory or file that others own or may write, itself or by a directory above
// it, is refused. A directory that cannot be read is an Internal error, anything
// else Invalid.
func LoadDir(dir string) ([]Definition, error) {
	all, bad, err := Lint(dir)
	if err != nil {
		return nil, err
	}
	return all, bad.err()
}

// Lint reads the definitions of a directory, or one file, and lists what is
// wrong in them. The error is for a path that cannot be read (Internal).
func Lint(path string) (all []Definition, bad Faults, err error) {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		all, bad = lint([]string{path})
		return all, bad, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, nil, muster.Errorf(muster.Internal, "%w", err)
	}
	if err := safe(path); err != nil {
		return nil, Faults{{File: path, Reason: reasonIn(err, path)}}, nil
	}
	var files []string
	for _, entry := range entries {
		if name := entry.Name(); !strings.HasPrefix(name, ".") && oneOf(filepath.Ext(name), ".yaml", ".yml", ".json") {
			files = append(files, filepath.Join(path, name))
		}
	}
	all, bad = lint(files)
	return all, bad, nil
}

func lint(files []string) (all []Definition, bad Faults) {
	from := map[string]string{}
	for _, file := range files {
		d, err := LoadFile(file)
		if err != nil {
			told, known := errors.AsType[faultsError](err)
			if !known {
				told.Faults = Faults{{File: file, Reason: reasonIn(err, file)}}
			}
			bad = append(bad, told.Faults...)
			continue
		}
		other, twice := from[d.Action]
		switch {
		case twice:
			bad = append(bad, Fault{File: file, Line: d.line, Reason: d.Action + " is defined in " + other + ", too"})
			continue
		case isBuiltin(d.Action):
			bad = append(bad, Fault{File: file, Line: d.line, Reason: d.Action + " is built in"})
			continue
		}
		from[d.Action] = file
		all = append(all, d)
	}
	return all, bad
}

// reasonIn is what an error says of a file besides its name.
func reasonIn(err error, file string) string { return strings.TrimPrefix(err.Error(), file+": ") }

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
// Errors are Invalid and hold Faults, each with name and line.
func Parse(name string, raw []byte) (Definition, error) { return parse(name, raw, nil) }

func parse(name string, raw []byte, do Func) (d Definition, err error) {
	if len(raw) > maxFile {
		return d, Faults{{File: name, Line: 1, Reason: fmt.Sprintf("is longer than %d KiB", maxFile>>10)}}.err()
	}
	read := fromYAML
	if filepath.Ext(name) == ".json" {
		read = fromJSON
	}
	doc, err := read(raw)
	if at, ok := errors.AsType[lineError](err); ok {
		return d, Faults{{File: name, Line: at.line, Reason: at.reason}}.err()
	}
	if err != nil {
		return d, Faults{{File: name, Line: 1, Reason: err.Error()}}.err()
	}
	bad := faults{}
	if err := json.Unmarshal(doc.json, &d, json.RejectUnknownMembers(true)); err != nil {
		pointer, reason := explain(err)
		bad.check(false, pointer, "%s", reason)
		return d, doc.err(name, bad)
	}
	d.source, d.line, d.Handler.call = name, doc.line("/action"), do
	if d.Check != nil {
		d.Check.call = do
	}
	return d, doc.err(name, d.finish(canonical(doc.json)))
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
	all := make(Faults, 0, len(bad))
	for _, pointer := range pointers {
		field := strings.ReplaceAll(strings.TrimPrefix(pointer, "/"), "/", ".")
		if field != "" {
			field += ": "
		}
		all = append(all, Fault{File: name, Line: doc.line(pointer), Reason: field + strings.Join(bad[pointer], ", ")})
	}
	return all.err()
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
			return doc, faultAt(lineAt(min(syntax.ByteOffset, int64(len(raw)))), "%v", syntax.Err)
		}
		if err != nil && dec.StackDepth() == 0 && dec.InputOffset() > 0 {
			return doc, nil
		}
		if err != nil {
			return doc, faultAt(lineAt(dec.InputOffset()), "%v", err)
		}
		if pointer := string(dec.StackPointer()); doc.lines[pointer] == 0 {
			doc.lines[pointer] = lineAt(dec.InputOffset())
		}
	}
}
