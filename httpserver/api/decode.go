package api

import (
	"bytes"
	"errors"
	"reflect"
	"strings"

	"muster"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const maxDepth = 64

// Decode reads a JSON body strictly: unknown, doubled and differently cased
// fields and wrong types are Invalid and named; what is no JSON, has more
// behind it, or nests deeper than 64 is Malformed.
func Decode(raw []byte, into any) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return muster.Errorf(muster.Malformed, "the body is empty").WithHint("send a JSON object")
	}
	if Deeper(raw, maxDepth) {
		return muster.Errorf(muster.Malformed, "the JSON nests deeper than %d", maxDepth)
	}
	err := json.Unmarshal(raw, into, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return muster.FieldError(fieldOf(syntax.JSONPointer), "is there twice")
		}
		return muster.Errorf(muster.Malformed, "not JSON at byte %d", syntax.ByteOffset)
	}
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		reason := "must be " + wanted(semantic.GoType)
		if errors.Is(err, json.ErrUnknownName) {
			reason = "no such field"
		}
		return muster.FieldError(fieldOf(semantic.JSONPointer), reason)
	}
	return muster.Errorf(muster.Malformed, "body: %w", err)
}

// Deeper reports whether brackets outside of strings nest deeper than limit.
// Of bad JSON it may say anything; that is refused either way.
func Deeper(raw []byte, limit int) bool {
	depth, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > limit {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// wanted says in JSON's words what a Go type reads.
func wanted(t reflect.Type) string {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return "another value"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number, not below 0"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	default:
		return "another value"
	}
}

func fieldOf(at jsontext.Pointer) string {
	var tokens []string
	for token := range at.Tokens() {
		tokens = append(tokens, token)
	}
	if len(tokens) == 0 {
		return "body"
	}
	return strings.Join(tokens, ".")
}
