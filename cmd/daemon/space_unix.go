//go:build unix

package daemon

import "golang.org/x/sys/unix"

// freeSpace is how many bytes this process may still write below a directory.
func freeSpace(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil //nolint:gosec,unconvert // of other types elsewhere
}
