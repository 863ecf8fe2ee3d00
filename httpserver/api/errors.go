// Package api is the wire: paths, bodies, error codes and the client that
// speaks them. It never serves and decides nothing.
package api

import (
	"bytes"
	"errors"
	"net/http"
	"strings"

	"muster"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Error is the body of every answer that is not 2xx.
type Error struct {
	Error     string              `json:"error"` // the status in words
	Message   string              `json:"message"`
	Code      string              `json:"code"`
	Hint      string              `json:"hint,omitempty"`
	Errors    map[string][]string `json:"errors,omitempty"`
	RequestID string              `json:"request_id,omitempty"`
}

// Status is the HTTP status of an error.
func Status(err error) int {
	switch muster.KindOf(err) {
	case muster.Malformed:
		return http.StatusBadRequest
	case muster.Invalid:
		return http.StatusUnprocessableEntity
	case muster.Unauthorized:
		return http.StatusUnauthorized
	case muster.Forbidden:
		return http.StatusForbidden
	case muster.NotFound:
		return http.StatusNotFound
	case muster.Gone:
		return http.StatusGone
	case muster.Conflict:
		return http.StatusConflict
	case muster.TooLarge:
		return http.StatusRequestEntityTooLarge
	case muster.Unsupported:
		return http.StatusUnsupportedMediaType
	case muster.Limited:
		return http.StatusTooManyRequests
	case muster.NotMaster, muster.NoMaster, muster.Unavailable, muster.Partial:
		return http.StatusServiceUnavailable
	case muster.Timeout, muster.OutcomeUnknown:
		return http.StatusGatewayTimeout
	case muster.Internal:
		return http.StatusInternalServerError
	default:
		return http.StatusInternalServerError
	}
}

// ErrorBody is the body that tells an error to a caller. Causes of kind
// Internal stay in the log.
func ErrorBody(err error, requestID string) Error {
	body := Error{
		Error: http.StatusText(Status(err)), Message: "internal error", Code: muster.CodeOf(err), RequestID: requestID,
	}
	if e, ok := errors.AsType[*muster.Error](err); ok {
		body.Message, body.Hint, body.Errors = e.Message, e.Hint, e.Fields
	}
	return body
}

// errorOf reads an error answer back.
func errorOf(status int, raw []byte) error {
	var body Error
	if json.Unmarshal(raw, &body) != nil || body.Message == "" {
		body.Message = "answer " + http.StatusText(status)
	}
	e := &muster.Error{Kind: muster.Kind(body.Code), Code: body.Code, Message: body.Message, Hint: body.Hint, Fields: body.Errors}
	if Status(e) == status && body.Code != "" && (status != http.StatusInternalServerError || e.Kind == muster.Internal) {
		return e
	}
	for _, kind := range []muster.Kind{
		muster.Malformed, muster.Invalid, muster.Unauthorized, muster.Forbidden, muster.NotFound, muster.Gone, muster.Conflict,
		muster.TooLarge, muster.Unsupported, muster.Limited, muster.Unavailable, muster.OutcomeUnknown, muster.Internal,
	} {
		e.Kind = kind
		if Status(e) == status {
			return e
		}
	}
	return e
}

// Decode reads a JSON body strictly: unknown, doubled and differently cased
// fields and wrong types are Invalid and named; what is no JSON, or has more
// behind it, is Malformed.
func Decode(raw []byte, into any) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return muster.Errorf(muster.Malformed, "the body is empty").WithHint("send a JSON object")
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
		reason := "does not fit: " + semantic.JSONKind.String() + " is not expected here"
		if errors.Is(err, json.ErrUnknownName) {
			reason = "no such field"
		}
		return muster.FieldError(fieldOf(semantic.JSONPointer), reason)
	}
	return muster.Errorf(muster.Malformed, "body: %w", err)
}

func fieldOf(at jsontext.Pointer) string {
	if field := strings.ReplaceAll(strings.TrimPrefix(string(at), "/"), "/", "."); field != "" {
		return field
	}
	return "body"
}
