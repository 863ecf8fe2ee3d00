package actions

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"

	"muster"
)

// Definition is an action as its file says. A loaded one is good: every rule of
// this package was checked.
type Definition struct {
	Action     string           `json:"action"`
	Version    string           `json:"version"`
	Title      string           `json:"title"`
	Risk       muster.Risk      `json:"risk"`
	Idempotent bool             `json:"idempotent"` // may be run again when the outcome is unknown
	Params     map[string]Param `json:"params"`
	Result     map[string]Field `json:"result"`
	Handler    Handler          `json:"handler"`
	Check      *Handler         `json:"check"` // what a dry run does instead
	Undo       *Undo            `json:"undo"`
	Limits     Limits           `json:"limits"`
	Retry      *Retry           `json:"retry"` // how it is tried again
	Locks      []string         `json:"locks"` // held on this node while it runs
	Examples   []Example        `json:"examples"`

	source  string // file, or "built in"
	line    int    // where its name stands
	digest  string // SHA-256 of the canonical definition, hex
	params  json.RawMessage
	result  json.RawMessage
	builtin builtin // instead of Handler
}

// Digest is the SHA-256 of the definition as JSON with sorted keys, in hex.
func (d Definition) Digest() string { return d.digest }

// Info describes the action to callers. Nodes is left to Merge.
func (d Definition) Info() muster.ActionInfo {
	info := muster.ActionInfo{
		Action: d.Action, Version: d.Version, Digest: d.digest, Title: d.Title, Risk: d.Risk,
		Params: d.params, Result: d.result, Nodes: []string{}, Idempotent: d.Idempotent || d.Risk == muster.RiskRead,
		Check: d.Check != nil, Limits: written(d.Limits), LimitMs: time.Duration(d.Limits.Timeout + d.Limits.KillAfter).Milliseconds(),
	}
	if d.Undo != nil {
		info.Undo = &muster.TxUndo{Action: d.Undo.Action, Params: d.Undo.Params, OnFailed: d.Undo.OnFailed}
	}
	if r := d.Retry; r != nil {
		info.Retry = &muster.TxRetry{
			Attempts: r.Attempts, FirstMs: time.Duration(r.First).Milliseconds(), MaxMs: time.Duration(r.Max).Milliseconds(), Jitter: r.Jitter, On: r.On,
		}
	}
	return info
}

// Field is one field of a result. Aggregate says how the values of many nodes
// become one.
type Field struct {
	Type      string `json:"type"`
	Aggregate string `json:"aggregate,omitempty"` // summary, sum, avg, min, max or list
	Secret    bool   `json:"secret,omitempty"`    // nobody is told its value
}

// Undo names the action that takes this one back.
type Undo struct {
	Action   string                     `json:"action"`
	Params   map[string]json.RawMessage `json:"params,omitempty"` // may hold ${result.x} and ${params.x}
	OnFailed bool                       `json:"on_failed,omitempty"`
}

// Limits bound an execution.
type Limits struct {
	Timeout     Duration `json:"timeout"`     // 60s
	KillAfter   Duration `json:"kill_after"`  // 5s; between SIGTERM and SIGKILL
	Output      Size     `json:"output"`      // 256KiB; of the result, too
	Concurrency *int     `json:"concurrency"` // 4
	Queue       *int     `json:"queue"`       // 16; how many may wait for their turn
}

// Retry says how often and when to try again.
type Retry struct {
	Attempts int      `json:"attempts"`
	First    Duration `json:"first,omitzero"`
	Max      Duration `json:"max,omitzero"`
	Jitter   bool     `json:"jitter,omitempty"`
	On       []string `json:"on"` // unavailable (the default), timeout; what may have been done already only where Idempotent
}

// Example is a call that must pass the definition's own checks.
type Example struct {
	Params muster.Params `json:"params"`
}

// written is a part of a definition as JSON.
func written(v any) json.RawMessage {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return nil // plain structs: cannot be
	}
	return bytes.TrimSpace(out.Bytes())
}

// Duration is written like 90s or 1h30m.
type Duration time.Duration

// UnmarshalText reads a duration above 0.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v <= 0 {
		return fmt.Errorf("%q is not a duration above 0 like 90s", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes a duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Size is a number of bytes, written like 256KiB or 1MiB.
type Size int64

// MarshalText writes a size in the largest unit that keeps it whole.
func (s Size) MarshalText() ([]byte, error) {
	switch {
	case s%(1<<20) == 0:
		return fmt.Appendf(nil, "%dMiB", s>>20), nil
	case s%(1<<10) == 0:
		return fmt.Appendf(nil, "%dKiB", s>>10), nil
	default:
		return fmt.Appendf(nil, "%dB", s), nil
	}
}

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(text []byte) error {
	for _, unit := range []struct {
		name   string
		factor int64
	}{{"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}} {
		digits, ok := strings.CutSuffix(string(text), unit.name)
		n, err := strconv.ParseInt(digits, 10, 32)
		if ok && err == nil && n > 0 {
			*s = Size(n * unit.factor)
			return nil
		}
	}
	return fmt.Errorf("%q is not a size like 256KiB", text)
}

// Bounds of what a definition may ask for.
const (
	maxName        = 64
	maxTimeout     = time.Hour
	maxKillAfter   = time.Minute
	maxOutput      = 4 << 20
	maxConcurrency = 1000
	maxQueue       = 10000
	maxAttempts    = 100
)

// finish checks a decoded definition, fills in defaults and computes what is
// kept beside it. canonical is what the digest is of.
func (d *Definition) finish(canonical []byte) faults {
	bad := faults{}
	bad.check(goodAction(d.Action), "/action", "must be lower-case words joined by dots, at most %d characters", maxName)
	bad.check(goodVersion(d.Version), "/version", "must be a version like 1.4.0")
	bad.check(d.Title != "" && plain(d.Title, 200), "/title", "must be one line of 1 to 200 characters")
	bad.check(d.Risk.Level() > 0, "/risk", "must be read, low, medium, high or destructive")
	d.finishParams(bad)
	d.finishResult(bad)
	if d.builtin == nil {
		d.Handler.finish(bad, "/handler", d.Params)
	}
	if d.Check != nil {
		d.Check.finish(bad, "/check", d.Params)
	}
	d.Limits.finish(bad)
	d.finishUndo(bad)
	d.Retry.finish(bad)
	for i, lock := range d.Locks {
		name := strings.ReplaceAll(lock, "${node}", "")
		bad.check(lock != "" && plain(lock, 128) && !strings.Contains(name, "${"), fmt.Sprintf("/locks/%d", i),
			"must be a word of at most 128 characters; only ${node} is filled in")
	}
	sum := sha256.Sum256(canonical)
	d.digest = hex.EncodeToString(sum[:])
	if len(bad) == 0 {
		d.tryExamples(bad)
	}
	return bad
}

func (d *Definition) tryExamples(bad faults) {
	for i, example := range d.Examples {
		at := fmt.Sprintf("/examples/%d/params", i)
		full, err := d.admit(example.Params)
		if err == nil && d.builtin == nil {
			_, err = d.Handler.fill(full)
		}
		bad.check(err == nil, at, "%v", err)
	}
}

func (d *Definition) finishParams(bad faults) {
	for name, p := range d.Params {
		at := "/params/" + name
		bad.check(goodField(name), at, "a parameter's name is lower-case letters, digits and _")
		p.finish(bad, at)
		d.Params[name] = p
	}
	d.params = schema(d.Params)
}

func (d *Definition) finishResult(bad faults) {
	for name, f := range d.Result {
		at := "/result/" + name
		bad.check(goodField(name), at, "a field's name is lower-case letters, digits and _")
		bad.check(oneOf(f.Type, types()...), at+"/type", "must be one of %s", strings.Join(types(), ", "))
		bad.check(oneOf(f.Aggregate, "", "summary", "sum", "avg", "min", "max", "list"), at+"/aggregate",
			"must be summary, sum, avg, min, max or list")
	}
	d.result = schema(d.Result)
}

func (l *Limits) finish(bad faults) {
	set := func(have *Duration, byDefault time.Duration) {
		if *have == 0 {
			*have = Duration(byDefault)
		}
	}
	set(&l.Timeout, time.Minute)
	set(&l.KillAfter, 5*time.Second)
	if l.Output == 0 {
		l.Output = 256 << 10
	}
	if l.Concurrency == nil {
		l.Concurrency = new(4)
	}
	if l.Queue == nil {
		l.Queue = new(16)
	}
	bad.check(time.Duration(l.Timeout) <= maxTimeout, "/limits/timeout", "must be at most %v", maxTimeout)
	bad.check(time.Duration(l.KillAfter) <= maxKillAfter, "/limits/kill_after", "must be at most %v", maxKillAfter)
	bad.check(l.Output >= 1<<10 && l.Output <= maxOutput, "/limits/output", "must be from 1KiB to %dMiB", maxOutput>>20)
	bad.check(*l.Concurrency > 0 && *l.Concurrency <= maxConcurrency, "/limits/concurrency", "must be from 1 to %d", maxConcurrency)
	bad.check(*l.Queue >= 0 && *l.Queue <= maxQueue, "/limits/queue", "must be from 0 to %d", maxQueue)
}

func (r *Retry) finish(bad faults) {
	if r == nil {
		return
	}
	bad.check(r.Attempts > 0 && r.Attempts <= maxAttempts, "/retry/attempts", "must be from 1 to %d", maxAttempts)
	bad.check(r.Max == 0 || r.Max >= r.First, "/retry/max", "must not be below first")
	if len(r.On) == 0 {
		r.On = []string{onUnavailable}
	}
	for i, on := range r.On {
		bad.check(oneOf(on, onUnavailable, onTimeout), fmt.Sprintf("/retry/on/%d", i), "must be unavailable or timeout")
	}
}

func (d *Definition) finishUndo(bad faults) {
	if d.Undo == nil {
		return
	}
	bad.check(goodAction(d.Undo.Action), "/undo/action", "must be the name of an action")
	for name, value := range d.Undo.Params {
		at := "/undo/params/" + name
		bad.check(goodField(name), at, "is no parameter's name")
		refs := references(string(value))
		bad.check(len(refs) == strings.Count(string(value), "${"), at, "a placeholder ${x} is not closed")
		for _, ref := range refs {
			field, ofResult := strings.CutPrefix(ref, "result.")
			told, declared := d.Result[field]
			secret := told.Secret
			if !ofResult {
				var param Param
				param, declared = d.Params[strings.TrimPrefix(ref, "params.")]
				secret = param.Secret
			}
			bad.check(declared, at, "${%s} is not declared", ref)
			bad.check(!secret, at, "${%s} is secret, and what an undo is given is kept", ref)
		}
	}
}

// plain reports whether a text is one printable line of at most limit
// characters.
func plain(text string, limit int) bool {
	return len([]rune(text)) <= limit && !strings.ContainsFunc(text, unicode.IsControl)
}

// schema writes declarations as JSON, none as {}.
func schema[T any](m map[string]T) json.RawMessage {
	if len(m) == 0 {
		return json.RawMessage("{}")
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return json.RawMessage("{}") // a map of plain structs: cannot be
	}
	return bytes.TrimSpace(out.Bytes())
}

// resultFault says what is wrong with a result, or nothing. Declared fields must
// be there with their type; others may be. A dry run is free to answer otherwise.
func (d *Definition) resultFault(raw json.RawMessage, check bool) string {
	if !jsontext.Value(raw).IsValid() {
		return "is not JSON"
	}
	if check || len(d.Result) == 0 {
		return ""
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return "must be an object"
	}
	for _, name := range slices.Sorted(maps.Keys(d.Result)) {
		p := Param{Type: d.Result[name].Type, bytes: maxOutput, depth: 64}
		if p.Type == "enum" {
			p.Type = "string"
		}
		raw, ok := fields[name]
		if !ok {
			return "has no field " + name
		}
		if reason := p.fault(raw); reason != "" {
			return "has no good " + name + ": it " + reason
		}
	}
	return ""
}
