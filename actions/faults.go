package actions

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"muster"
)

// faults collects what is wrong by field.
type faults map[string][]string

func (f faults) check(ok bool, field, format string, args ...any) {
	if !ok {
		f[field] = append(f[field], fmt.Sprintf(format, args...))
	}
}

// err is nil, or all faults as one Invalid error.
func (f faults) err(code string) error {
	if len(f) == 0 {
		return nil
	}
	lines := make([]string, 0, len(f))
	for _, field := range slices.Sorted(maps.Keys(f)) {
		lines = append(lines, field+": "+strings.Join(f[field], ", "))
	}
	return &muster.Error{Kind: muster.Invalid, Code: code, Message: strings.Join(lines, "; "), Fields: f}
}

func oneOf(s string, set ...string) bool { return slices.Contains(set, s) }

// Fault is one thing that is wrong in a definition.
type Fault struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitzero"` // 0: it is about the file itself
	Reason string `json:"reason"`
}

// Error says where it is and what it is.
func (f Fault) Error() string {
	if f.Line == 0 {
		return f.File + ": " + f.Reason
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Reason)
}

func faultAt(line int, format string, args ...any) error {
	return Fault{Line: line, Reason: fmt.Sprintf(format, args...)}
}

// Faults are all that is wrong in definitions, in the order of files and lines.
type Faults []Fault

// Error lists them, one a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// err is nil, or an Invalid error.
func (f Faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return &muster.Error{Kind: muster.Invalid, Message: f.Error(), Err: f}
}
