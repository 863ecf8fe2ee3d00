package daemon

import (
	"errors"
	"io"
	"io/fs"
	"os"

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
	_, badActions := d.define()
	return errors.Join(err, badPair, badActions)
}
