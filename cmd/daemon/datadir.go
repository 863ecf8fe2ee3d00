package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"muster"
)

// format names the layout of a data directory.
const format = "muster-data 1"

const codeLocked = "locked"

// errLocked says that another process holds the directory.
var errLocked = errors.New("locked")

// openDir makes a data directory if it is missing, locks it for this process
// and checks its format. The lock goes with the process, however it ends.
func openDir(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, muster.Errorf(muster.Unavailable, "data directory %s: %w", dir, err).
			WithHint("choose another with --data-dir, or make it writable")
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, muster.Errorf(muster.Unavailable, "data directory %s: %w", dir, err).
			WithHint("choose another with --data-dir, or make it readable and writable")
	}
	if err := lockFile(lock); err != nil {
		_ = lock.Close()
		if errors.Is(err, errLocked) {
			return nil, muster.Errorf(muster.Unavailable, "data directory %s is held by another running agent", dir).
				WithCode(codeLocked).WithHint("stop that agent, or choose another --data-dir")
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := checkFormat(dir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock.Close, nil
}

func checkFormat(dir string) error {
	path := filepath.Join(dir, "FORMAT")
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return writeFile(path, format+"\n")
	case err != nil:
		return muster.Errorf(muster.Unavailable, "read %s: %w", path, err)
	}
	if have := strings.TrimSpace(string(raw)); have != format {
		return muster.Errorf(muster.Unavailable, "data directory %s has the format %q, this program reads %q", dir, have, format).
			WithHint("start the muster that wrote it, or choose another --data-dir")
	}
	return nil
}

// writeFile replaces a small file as a whole: after a crash it is the old one
// or the new one.
func writeFile(path, text string) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = temp.WriteString(text)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(temp.Name()))
	}
	return nil
}

// readID reads the cluster's UUID as this directory last knew it, empty if it
// has none.
func readID(dir string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "cluster-id"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", muster.Errorf(muster.Unavailable, "data directory %s: %w", dir, err)
	}
	return strings.TrimSpace(string(raw)), nil
}
