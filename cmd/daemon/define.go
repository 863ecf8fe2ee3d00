package daemon

import (
	"log/slog"

	"muster"
	"muster/actions"
)

// define reads the action definitions, none without --actions. A directory that
// cannot be read is Internal, what is wrong in it Invalid.
func (d *Daemon) define() ([]actions.Definition, error) {
	if d.cfg.Actions == "" {
		return nil, nil
	}
	defs, err := actions.LoadDir(d.cfg.Actions)
	if err == nil {
		return defs, nil
	}
	return nil, muster.Errorf(muster.KindOf(err), "--actions: %w", err)
}

// reloadActions reads the action definitions again and puts them in the place of the
// old ones: all, or with an error none. What runs goes on as it began.
func (d *Daemon) reloadActions() error {
	defs, err := d.define()
	if err != nil {
		return err
	}
	if err := d.executor.Load().Reload(defs); err != nil {
		return err
	}
	select {
	case d.redefined <- struct{}{}:
	default:
	}
	d.log.Info("actions reloaded", "definitions", len(defs))
	return nil
}

// Log is where this node logs.
func (d *Daemon) Log() *slog.Logger { return d.log }
