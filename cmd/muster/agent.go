package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alecthomas/kong"

	"muster"
	"muster/cmd/daemon"
)

type agentCmd struct {
	Config kong.ConfigFlag `help:"YAML file of these settings; flags and the environment come before it." placeholder:"FILE"`

	Agent daemon.Config `embed:""`
}

const stopLimit = 5 * time.Second

// Run raises the node and keeps it up until the context or the node ends.
func (c *agentCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	c.Agent.SecretFile = f.SecretFile // the flag is the same one for agents and clients
	d, err := daemon.New(c.Agent, io.err)
	if err != nil {
		return err
	}
	if err := d.Start(ctx); err != nil {
		return here(err)
	}
	_, _ = fmt.Fprintf(io.out, "muster agent at %s (gossip %s)\nnext, on another port:  muster agent --name NAME --port PORT --join %s\n", d.Addr(), d.Gossip(), d.Gossip())
	select {
	case <-ctx.Done():
	case <-d.Left():
	case err = <-d.Fatal():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	return here(errors.Join(err, d.Stop(stop)))
}

// here marks an error as this machine's: a port taken or a disk that cannot be
// written is no node that cannot be reached.
func here(err error) error {
	e, ok := errors.AsType[*muster.Error](err)
	if !ok || e.Kind != muster.Unavailable {
		return err
	}
	return &muster.Error{Kind: muster.Internal, Code: e.Code, Message: err.Error(), Hint: e.Hint, Err: err}
}
