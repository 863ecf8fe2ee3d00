package trust

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// remarkUsed stands in a secret file whose first line is the new secret: how the
// lines stand does not tell which is the older.
const remarkUsed = "# The second line is the old secret.\n"

// Used reports whether the new secret of a file already speaks in it.
func Used(path string) (bool, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return false, fmt.Errorf("secret file: %w", err)
	}
	return strings.Contains(string(raw), remarkUsed), nil
}

// ReplaceSecretFile writes a secret file anew as a whole, one secret a line; used
// is what Used says of it from then on. Its owner stays the same: an agent that
// may read it now still may.
func ReplaceSecretFile(path string, secrets []Secret, used bool) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("secret file: %w", err)
	}
	before, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("secret file: %w", err)
	}
	lines := make([]string, len(secrets))
	for i, s := range secrets {
		lines[i] = s.Hex() + "\n"
	}
	if used {
		lines = append(lines, remarkUsed)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".secret-*") // made 0600
	if err != nil {
		return fmt.Errorf("write secret file: %w", err)
	}
	_, err = temp.WriteString(strings.Join(lines, ""))
	err = errors.Join(err, temp.Sync(), sameOwner(temp, before), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write secret file: %w", err), os.Remove(temp.Name()))
	}
	return nil
}
