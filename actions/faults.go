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
