//go:build windows

package actions

import (
	"io/fs"
	"os"
	"os/exec"
)

// writableByOthers is left to the access control lists here.
func writableByOthers(fs.FileInfo) bool { return false }

func ownedByOthers(fs.FileInfo, account) (uid int, others bool) { return 0, false }

// hold does nothing: nothing is taken for what a dead process left.
func hold(string) (letGo func(), err error) { return func() {}, nil }

func sweepScratch() {}

func ownGroup(*exec.Cmd) {}

const errLink = reason("a link")

// openFile opens a file, not a link.
func openFile(path string) (*os.File, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return nil, errLink
	}
	return os.Open(path)
}

// terminate ends the process; there is no asking first.
func terminate(p *os.Process) error { return p.Kill() }

func killGroup(p *os.Process) { _ = p.Kill() }

func killStrays(string, int) int { return 0 }

func signalOf(*os.ProcessState) string { return "" }
