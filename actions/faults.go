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

// String says where it is and what it is.
func (f Fault) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.Reason
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Reason)
}

// Faults are all that is wrong in definitions, in the order of files and lines.
type Faults []Fault

// err is nil, or an Invalid error of all of them, one a line.
func (f Faults) err() error {
	if len(f) == 0 {
		return nil
	}
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	message := strings.Join(lines, "\n")
	return &muster.Error{Kind: muster.Invalid, Message: message, Err: faultsError{f, message}}
}

// faultsError carries faults as an error.
type faultsError struct {
	Faults
	message string
}

// Error lists them.
func (e faultsError) Error() string { return e.message }

// lineError is what a reader of one file says.
type lineError struct {
	line   int
	reason string
}

// Error says what it is.
func (e lineError) Error() string { return e.reason }

func faultAt(line int, format string, args ...any) error {
	return lineError{line, fmt.Sprintf(format, args...)}
}
