package main

import (
	"context"
	"fmt"
)

type clusterLeaveCmd struct{}

// Run has one node leave.
func (c *clusterLeaveCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	if err := client.Leave(ctx); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(io.err, "It has left and stops. Started again, it joins again.")
	return nil
}

type clusterTransferCmd struct {
	To string `arg:"" optional:"" help:"The slug of a voter; without it, the one that is the furthest."`
}

// Run makes another node the master.
func (c *clusterTransferCmd) Run(ctx context.Context, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	return client.Transfer(ctx, c.To)
}
