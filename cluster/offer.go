package cluster

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"muster"
	"muster/fsm"
)

// maxOffer is about how many bytes of descriptions go into one log entry.
const maxOffer = 256 << 10

// Offer has the registry say which actions this node offers. It does nothing
// where the registry says so already. Descriptions that it has are not sent again.
func (c *Cluster) Offer(ctx context.Context, infos []muster.ActionInfo) error {
	body := fsm.CatalogSet{Node: c.cfg.Self.ID, Digests: []string{}}
	for _, info := range infos {
		body.Digests = append(body.Digests, info.Digest)
	}
	slices.Sort(body.Digests)
	body.Digests = slices.Compact(body.Digests)
	if slices.Equal(c.reg.Offered(body.Node), body.Digests) {
		return nil
	}
	size := 0
	for _, info := range infos {
		if c.reg.Described(info.Digest) {
			continue
		}
		bytes := len(info.Params) + len(info.Result) + len(info.Title)
		if size > 0 && size+bytes > maxOffer {
			if err := c.offer(ctx, body); err != nil {
				return err
			}
			body.Actions, size = nil, 0
		}
		info.Nodes = nil
		body.Actions, size = append(body.Actions, info), size+bytes
	}
	return c.offer(ctx, body)
}

func (c *Cluster) offer(ctx context.Context, body fsm.CatalogSet) error {
	cmd, err := fsm.NewCommand(fsm.OpCatalogSet, time.Now(), c.self().Principal, body)
	if err != nil {
		return err
	}
	_, err = c.propose(ctx, c.self(), cmd)
	return err
}

// offers reports whether a command is a node's word on its own actions, which is
// the one command of a node that the master takes from others.
func offers(cmd fsm.Command, from string) (bool, error) {
	if cmd.Op != fsm.OpCatalogSet {
		return false, nil
	}
	var body fsm.CatalogSet
	if err := json.Unmarshal(cmd.Body, &body); err != nil {
		return false, muster.Errorf(muster.Malformed, "body of %s: %w", cmd.Op, err)
	}
	if body.Node != from {
		return false, muster.Errorf(muster.Forbidden, "node %s cannot say what node %s offers", from, body.Node)
	}
	return true, nil
}
