package actions

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
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
	if err := safe(path, account{}); err != nil {
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
	if err := safe(path, account{}); err != nil {
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
	if bad := d.decode(doc.json); len(bad) > 0 {
		return d, doc.err(name, bad)
	}
	d.source, d.line, d.Handler.call = name, doc.line("/action"), do
	if d.Check != nil {
		d.Check.call = do
	}
	return d, doc.err(name, d.finish(canonical(doc.json)))
}

// maxShapes is how many faults of form are told of one file.
const maxShapes = 50

// decode reads a definition. What has no such field, or the wrong type, is told and
// left out, so that the next one is found, too.
func (d *Definition) decode(raw []byte) faults {
	bad := faults{}
	for range maxShapes {
		*d = Definition{}
		err := json.Unmarshal(raw, d, json.RejectUnknownMembers(true))
		if err == nil {
			break
		}
		pointer, reason := explain(err)
		bad.check(false, pointer, "%s", reason)
		if raw = without(raw, pointer); raw == nil {
			break
		}
	}
	return bad
}

// without is a JSON object without one member, or without the list that a bad
// element is in; nil if there is no such member.
func without(raw []byte, pointer string) []byte {
	for at := strings.LastIndexByte(pointer, '/'); at >= 0 && made(pointer[at+1:], digits); at = strings.LastIndexByte(pointer, '/') {
		pointer = pointer[:at]
	}
	var out bytes.Buffer
	dec, enc := jsontext.NewDecoder(bytes.NewReader(raw)), jsontext.NewEncoder(&out)
	found := false
	for {
		token, err := dec.ReadToken()
		if err != nil {
			break
		}
		if pointer != "" && string(dec.StackPointer()) == pointer && !found {
			found = true
			if err := dec.SkipValue(); err != nil { // what was read is the name
				return nil
			}
			continue
		}
		if enc.WriteToken(token) != nil {
			return nil
		}
	}
	if !found {
		return nil
	}
	return out.Bytes()
}

// document is a file as JSON, and the line each value stands on.
type document struct {
	json  []byte
	lines map[string]int // by JSON pointer
	twice []lineError    // names that an object has twice: the first value is in json
}

// repeats is said of a name that stands in an object for the second time.
func repeats(line int, pointer string, first int) lineError {
	return lineError{line, fmt.Sprintf("%s: is there twice, first in line %d", fieldAt(pointer), first)}
}

// fieldAt is a JSON pointer in the words of a file.
func fieldAt(pointer string) string {
	return strings.ReplaceAll(strings.TrimPrefix(pointer, "/"), "/", ".")
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
	pointers := slices.SortedFunc(maps.Keys(bad), func(a, b string) int {
		return 2*(doc.line(a)-doc.line(b)) + strings.Compare(a, b)
	})
	all := make(Faults, 0, len(bad)+len(doc.twice))
	for _, pointer := range pointers {
		field := fieldAt(pointer)
		if field != "" {
			field += ": "
		}
		all = append(all, Fault{File: name, Line: doc.line(pointer), Reason: field + strings.Join(bad[pointer], ", ")})
	}
	for _, twice := range doc.twice {
		all = append(all, Fault{File: name, Line: twice.line, Reason: twice.reason})
	}
	slices.SortStableFunc(all, func(a, b Fault) int { return a.Line - b.Line })
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
		reason = "must be " + kindOf(semantic.GoType.Kind())
	default:
		reason = "has the wrong type"
	}
	return string(semantic.JSONPointer), reason
}

// kindOf is a kind in the words of a file.
func kindOf(kind reflect.Kind) string {
	switch kind {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	default:
		return "a " + kind.String()
	}
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

// fromJSON finds the lines of a JSON file, and copies it without what is in it
// twice.
func fromJSON(raw []byte) (document, error) {
	doc := document{lines: map[string]int{}}
	var out bytes.Buffer
	dec, enc := jsontext.NewDecoder(bytes.NewReader(raw), jsontext.AllowDuplicateNames(true)), jsontext.NewEncoder(&out)
	lineAt := func(offset int64) int { return 1 + bytes.Count(raw[:offset], []byte("\n")) }
	for {
		token, err := dec.ReadToken()
		if err != nil && dec.StackDepth() == 0 && dec.InputOffset() > 0 && !isSyntax(err) {
			doc.json = out.Bytes()
			return doc, nil
		}
		line, pointer := lineAt(dec.InputOffset()), string(dec.StackPointer())
		if _, values := dec.StackIndex(0); err == nil && values > 1 {
			return doc, faultAt(line, "must hold exactly one document")
		}
		first := doc.lines[pointer]
		kind, read := dec.StackIndex(dec.StackDepth())
		switch name := kind == '{' && read%2 == 1; {
		case err != nil:
		case name && first > 0:
			doc.twice = append(doc.twice, repeats(line, pointer, first))
			err = dec.SkipValue()
		default:
			if first == 0 {
				doc.lines[pointer] = line
			}
			err = enc.WriteToken(token)
		}
		if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
			return doc, faultAt(lineAt(min(syntax.ByteOffset, int64(len(raw)))), "%v", syntax.Err)
		}
		if err != nil {
			return doc, faultAt(lineAt(dec.InputOffset()), "%v", err)
		}
	}
}

func isSyntax(err error) bool {
	_, ok := errors.AsType[*jsontext.SyntacticError](err)
	return ok
}
