package muster

import (
	"errors"
	"fmt"
)

// Kind is the class of an error. It survives the wire: HTTP status and exit
// code are two tables over it.
type Kind string

// The kinds, from the caller's fault to ours.
const (
	Malformed      Kind = "malformed"       // cannot be parsed
	Invalid        Kind = "invalid"         // parsed, but a field is wrong; see Error.Fields
	Unauthorized   Kind = "unauthorized"    // no key, or not a good one
	Forbidden      Kind = "forbidden"       // a good key without the right
	NotFound       Kind = "not_found"       // no such thing
	Gone           Kind = "gone"            // was there, is no longer kept
	Conflict       Kind = "conflict"        // collides with what is there
	TooLarge       Kind = "too_large"       // over a size limit
	Unsupported    Kind = "unsupported"     // a media type we do not read
	Limited        Kind = "limited"         // too many requests
	NotMaster      Kind = "not_master"      // this node is not the master; ask that one
	NoMaster       Kind = "no_master"       // nobody is the master now
	Unavailable    Kind = "unavailable"     // cannot be reached or is not ready; nothing was done
	Timeout        Kind = "timeout"         // the deadline passed; nothing was done
	OutcomeUnknown Kind = "outcome_unknown" // sent, but no answer: it may have been done
	Partial        Kind = "partial"         // some of what was asked is missing
	Internal       Kind = "internal"        // our fault
)

// Error is an error a caller can act on.
type Error struct {
	Kind    Kind
	Code    string              // finer than Kind, for programs ("clock_skew"); empty means the kind itself
	Message string              // one sentence for people
	Hint    string              // the way out
	Fields  map[string][]string // per request field: what is wrong with it
	Err     error               // the cause, not shown to callers
}

// Errorf makes an error of a kind. A %w in format becomes the cause.
func Errorf(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: err.Error(), Err: errors.Unwrap(err)}
}

// FieldError says that one field of a request is wrong.
func FieldError(field, reason string) *Error {
	return &Error{
		Kind:    Invalid,
		Message: field + ": " + reason,
		Fields:  map[string][]string{field: {reason}},
	}
}

// WithHint adds the way out and returns e.
func (e *Error) WithHint(hint string) *Error {
	e.Hint = hint
	return e
}

// WithCode sets the code and returns e.
func (e *Error) WithCode(code string) *Error {
	e.Code = code
	return e
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first Error in err's chain, or Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// CodeOf returns the code of the first Error in err's chain: its own, or its
// kind's name.
func CodeOf(err error) string {
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
		return string(Internal)
	case e.Code != "":
		return e.Code
	default:
		return string(e.Kind)
	}
}
