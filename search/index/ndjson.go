package index

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"muster"
)

// Line is a document and the line it stands on, counted from 1.
type Line struct {
	Number   int
	Document muster.Document
}

// ParseNDJSON reads a body of one document per line, in muster's own shape or
// in BEIR's (_id, title, text, metadata). A byte order mark and carriage returns
// at line ends are dropped; blank lines are skipped, but counted. A bad line is
// an error of its own and keeps no other out.
func ParseNDJSON(body []byte) ([]Line, []muster.LineError) {
	var lines []Line
	var faults []muster.LineError
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	number := 0
	for line := range bytes.Lines(body) {
		number++
		line = bytes.Trim(line, " \t\r\n")
		if len(line) == 0 {
			continue
		}
		d, err := parseLine(line)
		if err == nil {
			err = check(d)
		}
		if err != nil {
			faults = append(faults, muster.LineError{Line: number, Message: err.Error()})
			continue
		}
		lines = append(lines, Line{Number: number, Document: d})
	}
	return lines, faults
}

func parseLine(line []byte) (d muster.Document, err error) {
	dec := jsontext.NewDecoder(bytes.NewReader(line))
	if dec.PeekKind() != '{' {
		if _, err := dec.ReadValue(); err != nil {
			return d, notJSON(err)
		}
		return d, errors.New("not a JSON object")
	}
	if _, err := dec.ReadToken(); err != nil {
		return d, notJSON(err)
	}
	seen := make(map[string]bool)
	for dec.PeekKind() == '"' {
		name, err := dec.ReadToken()
		if err != nil {
			return d, notJSON(err)
		}
		field := name.String()
		value, err := dec.ReadValue()
		if err != nil {
			return d, notJSON(err)
		}
		if err := set(&d, seen, field, value.Clone()); err != nil {
			return d, err
		}
	}
	if _, err := dec.ReadToken(); err != nil { // the closing brace
		return d, notJSON(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return d, errors.New("something follows the object")
	}
	return d, nil
}

func notJSON(err error) error { return muster.Errorf(muster.Malformed, "not JSON: %w", err) }

// set puts one field of a line into d.
func set(d *muster.Document, seen map[string]bool, field string, value jsontext.Value) error {
	own := field
	switch field { // BEIR's names
	case "_id":
		own = "id"
	case "text":
		own = "content"
	}
	if seen[own] {
		return muster.FieldError(own, "is there twice")
	}
	seen[own] = true
	text := func(to *string) error {
		if json.Unmarshal(value, to) != nil || value.Kind() != '"' {
			return muster.FieldError(field, "must be a string")
		}
		return nil
	}
	optional := func(to *string) error {
		if value.Kind() == 'n' {
			return nil
		}
		return text(to)
	}
	switch own {
	case "id":
		return text(&d.ID)
	case "title":
		return optional(&d.Title)
	case "content":
		return optional(&d.Content)
	case "url":
		return optional(&d.URL)
	case "collection":
		return optional(&d.Collection)
	case "language":
		return optional(&d.Language)
	case "metadata":
		return metadata(&d.Metadata, value)
	case "embedding":
		if json.Unmarshal(value, &d.Embedding) != nil {
			return muster.FieldError(field, "must be a list of numbers")
		}
		return nil
	default:
		return muster.FieldError(field, "is no field of a document")
	}
}

func metadata(to *muster.Metadata, value jsontext.Value) error {
	if value.Kind() == 'n' {
		return nil
	}
	if value.Kind() != '{' {
		return muster.FieldError("metadata", "must be an object")
	}
	var m map[string]stdjson.RawMessage
	if err := stdjson.Unmarshal(value, &m); err != nil {
		return muster.FieldError("metadata", err.Error())
	}
	*to = m
	return nil
}
