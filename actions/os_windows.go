//go:build windows

package actions

import (
	"io/fs"
	"os"
	"os/exec"
)

// writableByOthers is left to the access control lists here.
func writableByOthers(fs.FileInfo) bool { return false }

func ownedByOthers(fs.FileInfo) (uid int, others bool) { return 0, false }

func ownGroup(*exec.Cmd) {}

// terminate ends the process; there is no asking first.
func terminate(p *os.Process) error { return p.Kill() }

func killGroup(p *os.Process) { _ = p.Kill() }

func killStrays(string, int) int { return 0 }

func signalOf(*os.ProcessState) string { return "" }
