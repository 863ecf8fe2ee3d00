package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"muster/cmd/daemon"
)

type agentCmd struct {
	daemon.Config `embed:""`
}

const stopLimit = 5 * time.Second

// Run raises the node and keeps it up until the context or the node ends.
func (c *agentCmd) Run(ctx context.Context, io streams) error {
	d, err := daemon.New(c.Config, io.err)
	if err != nil {
		return err
	}
	if err := d.Start(ctx); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(io.out, "muster agent at %s (gossip %s)\nnext, on another port:  muster agent --name NAME --port PORT --join %s\n", d.Addr(), d.Gossip(), d.Gossip())
	select {
	case <-ctx.Done():
	case err = <-d.Fatal():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	return errors.Join(err, d.Stop(stop))
}
