package trust

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ReplaceSecretFile writes a secret file anew as a whole, one secret a line. Its
// owner stays the same: an agent that may read it now still may.
func ReplaceSecretFile(path string, secrets []Secret) error {
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
