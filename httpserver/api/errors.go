// Package api is the wire: paths, bodies, error codes and the client that
// speaks them. It never serves and decides nothing.
package api

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"muster"

	"github.com/go-json-experiment/json"
)

// Error is the body of every answer that is not 2xx.
type Error struct {
	Error     string              `json:"error"` // the status in words
	Message   string              `json:"message"`
	Code      string              `json:"code"`
	Hint      string              `json:"hint,omitempty"`
	Errors    map[string][]string `json:"errors,omitempty"`
	RequestID string              `json:"request_id,omitempty"`

	// NodeStatus is why a key does not work whose node is not active.
	NodeStatus muster.Status `json:"node_status,omitempty"`
}

// Short is an answer that is less than the caller demanded: the error, and all
// that was found.
type Short struct {
	Error
	muster.Answer
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
		if status, ok := strings.CutPrefix(e.Code, "node_"); ok && e.Kind == muster.Forbidden {
			body.NodeStatus = muster.Status(status)
		}
	}
	return body
}

// FromResponse reads an error answer back: the code gives the kind where it is
// one of that status, else the status does.
func FromResponse(status int, raw []byte) error {
	var body Error
	if json.Unmarshal(raw, &body) != nil || body.Message == "" {
		body = Error{Message: strings.TrimSpace("answer " + strconv.Itoa(status) + " " + http.StatusText(status))}
		if line := oneLine(string(raw)); line != "" {
			body.Message += ": " + line
		}
	}
	e := &muster.Error{Kind: muster.Kind(body.Code), Code: body.Code, Message: body.Message, Hint: body.Hint, Fields: body.Errors}
	if !slices.Contains(kinds(), e.Kind) || Status(e) != status {
		e.Kind = kindOf(status)
	}
	if e.Code == string(e.Kind) {
		e.Code = ""
	}
	return e
}

const maxLine = 200 // characters of a stranger's words in a message

// oneLine is the first line of what a stranger says, made safe for a terminal:
// cut, and its control characters escaped.
func oneLine(text string) string {
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	runes := []rune(strings.TrimSpace(text))
	if len(runes) > maxLine {
		runes = append(runes[:maxLine-1], '…')
	}
	quoted := strconv.Quote(string(runes))
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// kinds are all of them; of those that share a status the first stands for it.
func kinds() []muster.Kind {
	return []muster.Kind{
		muster.Malformed, muster.Invalid, muster.Unauthorized, muster.Forbidden, muster.NotFound, muster.Gone, muster.Conflict,
		muster.TooLarge, muster.Unsupported, muster.Limited, muster.Unavailable, muster.NotMaster, muster.NoMaster, muster.Partial,
		muster.OutcomeUnknown, muster.Timeout, muster.Internal,
	}
}

func kindOf(status int) muster.Kind {
	for _, kind := range kinds() {
		if Status(&muster.Error{Kind: kind}) == status {
			return kind
		}
	}
	switch {
	case status == http.StatusBadGateway:
		return muster.OutcomeUnknown // a proxy cannot tell
	case status < http.StatusInternalServerError:
		return muster.Malformed
	default:
		return muster.Internal
	}
}

// Codes that say how a transaction ended; they have exit codes of their own.
const (
	CodeRolledBack = "tx_rolled_back"
	CodeParked     = "tx_parked"
)

// ExitCode is a program's exit code for an error.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	switch muster.CodeOf(err) {
	case CodeRolledBack:
		return 6
	case CodeParked:
		return 7
	}
	switch muster.KindOf(err) {
	case muster.Malformed, muster.Invalid, muster.TooLarge, muster.Unsupported:
		return 2
	case muster.Partial:
		return 3
	case muster.NotMaster, muster.NoMaster, muster.Unavailable, muster.Timeout, muster.OutcomeUnknown:
		return 4
	case muster.Unauthorized, muster.Forbidden:
		return 5
	case muster.NotFound, muster.Gone, muster.Conflict, muster.Limited, muster.Internal:
		return 1
	default:
		return 1
	}
}
