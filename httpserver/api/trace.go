package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// HeaderTrace carries a trace from call to call (W3C Trace Context, level 1).
const HeaderTrace = "Traceparent"

// Trace names all the calls that came of one.
type Trace struct {
	ID    string // 32 hex digits
	Flags string // 2 hex digits
}

// NewTrace begins a trace.
func NewTrace() Trace { return Trace{ID: randomHex(16), Flags: "00"} }

// ParseTrace reads the header of a call that continues a trace. Later versions
// may have more fields behind these four.
func ParseTrace(header string) (t Trace, ok bool) {
	parts := strings.Split(header, "-")
	if len(parts) < 4 || len(parts) > 4 && parts[0] == "00" || parts[0] == "ff" {
		return t, false
	}
	for i, digits := range []int{2, 32, 16, 2} {
		if !isHex(parts[i], digits) || digits > 2 && strings.Trim(parts[i], "0") == "" {
			return t, false
		}
	}
	return Trace{ID: parts[1], Flags: parts[3]}, true
}

// Header is the header of a further call of the trace, which gets a span of
// its own.
func (t Trace) Header() string { return "00-" + t.ID + "-" + randomHex(8) + "-" + t.Flags }

func isHex(text string, digits int) bool {
	odd := func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') }
	return len(text) == digits && !strings.ContainsFunc(text, odd)
}

func randomHex(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}

type traceKey struct{}

// WithTrace has the calls made under a context continue a trace.
func WithTrace(ctx context.Context, t Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// TraceOf is the trace of a context, or a new one.
func TraceOf(ctx context.Context) Trace {
	if t, ok := ctx.Value(traceKey{}).(Trace); ok {
		return t
	}
	return NewTrace()
}
