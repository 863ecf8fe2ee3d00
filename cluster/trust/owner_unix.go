//go:build unix

package trust

import (
	"os"
	"syscall"
)

// sameOwner gives a file the owner of another, if that is somebody else.
func sameOwner(file *os.File, other os.FileInfo) error {
	theirs, ok := other.Sys().(*syscall.Stat_t)
	if !ok || int(theirs.Uid) == os.Geteuid() {
		return nil
	}
	return file.Chown(int(theirs.Uid), int(theirs.Gid))
}
