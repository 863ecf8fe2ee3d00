package cluster

import (
	"context"

	"muster"
	"muster/fsm"
)

// RunKey has a caller's idempotency key stand for a job, and returns the job that
// it stands for: another one if the key was used before. It is a Conflict if that
// was for something else.
func (c *Cluster) RunKey(ctx context.Context, w muster.Write, job string) (string, error) {
	cmd, err := c.command(w, fsm.OpRunKey, fsm.RunKey{Job: job})
	if err != nil {
		return "", err
	}
	res, err := c.propose(ctx, w.By, cmd)
	return res.ID, err
}
