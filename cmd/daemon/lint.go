package daemon

import (
	"muster"
	"muster/actions"
)

// Lint is what a look at action definitions found.
type Lint struct {
	Actions []muster.ActionInfo `json:"actions"` // the good ones
	Faults  []actions.Fault     `json:"faults"`
}

// LintActions reads the definitions of a directory, or one file, as an agent
// would, and does not stop at what is wrong. The error is for a path that cannot be
// read (Internal).
func LintActions(path string) (Lint, error) {
	defs, bad, err := actions.Lint(path)
	if err != nil {
		return Lint{}, err
	}
	found := Lint{Actions: []muster.ActionInfo{}, Faults: append([]actions.Fault{}, bad...)}
	for _, d := range defs {
		found.Actions = append(found.Actions, d.Info())
	}
	return found, nil
}
