package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
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

// Run raises the node and keeps it up until the context or the node ends. On
// SIGHUP it reads its action definitions again.
func (c *agentCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	collectLess()
	c.Agent.SecretFile = f.SecretFile // the flag is the same one for agents and clients
	keepPrivate()
	d, err := daemon.New(c.Agent, io.err)
	if err != nil {
		return err
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	if err := d.Start(ctx); err != nil {
		return here(err)
	}
	_, _ = fmt.Fprintf(io.out, "muster agent at %s (gossip %s)\n", d.Addr(), d.Gossip())
	err = serve(ctx, io, d, hangup)
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	return here(errors.Join(err, d.Stop(stop)))
}

// serve waits for the end and reloads on each hangup until then. Once others may
// join it says how.
func serve(ctx context.Context, io streams, d *daemon.Daemon, hangup <-chan os.Signal) error {
	welcoming := d.Welcoming()
	for {
		select {
		case <-welcoming:
			welcoming = nil
			_, _ = fmt.Fprintf(io.out, "next, on another port:  muster agent --name NAME --port PORT --join %s\n", d.Gossip())
		case <-ctx.Done():
			return nil
		case <-d.Left():
			return nil
		case err := <-d.Fatal():
			return err
		case <-hangup:
			if err := d.Reload(); err != nil {
				d.Log().Error("not reloaded, all stays as it was", "error", err)
			}
		}
	}
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
