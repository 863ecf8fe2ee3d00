package main

import (
	"fmt"

	"muster"
	"muster/cmd/daemon"
)

type actionLintCmd struct {
	Path string `arg:"" optional:"" default:"." env:"MUSTER_ACTIONS" help:"A directory of definitions, or one file."`
}

// Run lists what is wrong in definitions, each with its file, line and reason. It
// asks no agent.
func (c *actionLintCmd) Run(io streams, f *clientFlags) error {
	found, err := daemon.LintActions(c.Path)
	if err != nil {
		return err
	}
	if err := list(f, io, found, found.Faults, func(w *grid) {
		for _, fault := range found.Faults {
			line(w, flat(fault.String()))
		}
		if len(found.Faults) == 0 {
			for _, a := range found.Actions {
				line(w, a.Action, a.Version, a.Risk, plain(a.Title))
			}
		}
	}); err != nil {
		return err
	}
	if n := len(found.Faults); n > 0 {
		return &muster.Error{Kind: muster.Invalid, Message: fmt.Sprintf("%s: faults in the definitions: %d", c.Path, n)}
	}
	if len(found.Actions) == 0 {
		return &muster.Error{Kind: muster.Invalid, Message: c.Path + ": there are no definitions", Hint: "they end in .yaml, .yml or .json"}
	}
	return nil
}
