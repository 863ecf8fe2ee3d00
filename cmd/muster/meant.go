package main

import (
	"bytes"
	"os"
)

// meant has an example definition run as root where the demo does: a definition
// must say so itself.
func meant(definition []byte) []byte {
	if os.Geteuid() != 0 {
		return definition
	}
	flow := bytes.ReplaceAll(definition, []byte("{kind: exec,"), []byte("{kind: exec, run_as: root,"))
	return bytes.ReplaceAll(flow, []byte("  kind: exec\n"), []byte("  kind: exec\n  run_as: root\n"))
}
