package daemon

import (
	"context"
	"errors"
	"maps"
	"os"
	"time"
)

// lookEvery is how soon a changed file is noticed, where no SIGHUP says it.
const lookEvery = 500 * time.Millisecond

// stamp tells a file from what it was before.
type stamp struct {
	at   time.Time
	size int64
}

func stamps(paths []string) map[string]stamp {
	seen := map[string]stamp{}
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			seen[path] = stamp{info.ModTime(), info.Size()}
		}
	}
	return seen
}

// Reload reads all files of the settings again: the secret, the public
// certificate and the definitions of actions. Of each, all is taken or nothing.
func (d *Daemon) Reload() error {
	return errors.Join(d.refresh(), d.reloadActions())
}

// watchFiles reloads when the secret file or the public certificate changed. A
// certificate that does not fit its key yet is tried again when the other file
// has changed, too. Definitions of actions wait for a SIGHUP: nobody can tell when
// the last of several is in place.
func (d *Daemon) watchFiles(ctx context.Context) {
	paths := append(d.public.files(), d.secretFile)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	before := map[string]stamp{} // what changed since it was first read is read again
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := stamps(paths)
		if maps.Equal(now, before) {
			continue
		}
		before = now
		if err := d.refresh(); err != nil {
			d.log.Error("reload changed files", "error", err)
		}
	}
}
