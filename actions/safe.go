package actions

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// safe refuses what others own or may write than root, this process's user and
// the one that a program runs as, by its own name or through a directory above
// it: whoever can change it can run anything as that user. Links are judged by
// what they are and by what they lead to.
func safe(path string, as account) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	target, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return err
	}
	info, err := os.Stat(target)
	if err != nil {
		return err
	}
	if err := guarded(target, info, as, false); err != nil {
		return err
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w: no regular file", path, fs.ErrInvalid)
	}
	for _, from := range []string{abs, target} {
		if err := guardedAbove(from, as); err != nil {
			return err
		}
	}
	return nil
}

// guardedAbove judges a path's own entry and every directory above it.
func guardedAbove(path string, as account) error {
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		if err := guarded(at, info, as, at != path); err != nil {
			return err
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// guarded judges one entry. In a directory with the sticky bit nobody can
// replace what is another's, but anybody can add: above is for those that only
// lead to what is read.
func guarded(path string, info fs.FileInfo, as account, above bool) error {
	if uid, ok := ownedByOthers(info, as); ok {
		return fmt.Errorf("%s: another user owns it (user ID %d)", path, uid)
	}
	if info.Mode()&fs.ModeSymlink != 0 || above && info.Mode()&fs.ModeSticky != 0 {
		return nil
	}
	if writableByOthers(info) {
		return fmt.Errorf("%s: others may write it (mode %v); chmod go-w", path, info.Mode().Perm())
	}
	return nil
}
