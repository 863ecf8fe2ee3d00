package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"muster/actions"
	"muster/cluster/trust"
)

// Validate checks the settings and all files that an agent with them would
// read. It changes nothing, and makes no secret where there is none yet.
func Validate(cfg Config) error {
	d, err := New(cfg, io.Discard)
	if err != nil {
		return err
	}
	_, bad := os.Stat(trust.DefaultSecretPath(os.Getenv))
	madeLater := d.cfg.SecretFile == "" && d.cfg.loopback() && errors.Is(bad, fs.ErrNotExist)
	if !madeLater {
		_, _, err = d.cfg.secrets()
	}
	_, badPair := d.cfg.public()
	err = errors.Join(err, badPair)
	if d.cfg.Actions != "" {
		if _, bad := actions.LoadDir(d.cfg.Actions); bad != nil {
			err = errors.Join(err, fmt.Errorf("--actions: %w", bad))
		}
	}
	return err
}
