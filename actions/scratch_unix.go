//go:build unix

package actions

import (
	"os"
	"path/filepath"
	"time"
)

// scratchAge is that of a directory which may be a dead agent's: a living one holds
// it soon after it was made.
const scratchAge = time.Minute

// sweepScratch removes the directories of executions whose agent was killed: those
// that are this user's and that no process holds.
func sweepScratch() {
	left, err := filepath.Glob(filepath.Join(os.TempDir(), scratchPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range left {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < scratchAge {
			continue
		}
		if _, others := ownedByOthers(info, account{}); others {
			continue
		}
		if letGo, err := hold(dir); err == nil {
			_ = os.RemoveAll(dir)
			letGo()
		}
	}
}
