package cluster

import (
	"context"
	"encoding/hex"
	"time"

	"muster"
	"muster/fsm"
)

// bound is a key that is no more than its maker's.
func bound(by muster.Rights, k fsm.KeyCreate) (fsm.KeyCreate, error) {
	targets, filter, ok := by.Confine(k.Targets, k.Filter)
	if !ok {
		return k, muster.Errorf(muster.Forbidden, "the filter lets through what your own key does not")
	}
	k.Targets, k.Filter = targets, filter
	k.MaxRisk, k.ExpiresAt = by.Bound(k.MaxRisk, k.ExpiresAt)
	return k, nil
}

// RotateKey gives a key a new secret, which is in the answer, this once. The old
// one is good for the overlap longer.
func (c *Cluster) RotateKey(ctx context.Context, w muster.Write, id string, overlap time.Duration) (muster.Key, error) {
	plain, body := c.renew(id, overlap)
	return c.renewed(ctx, w, fsm.OpKeyRotate, body, plain, body.Hash)
}

// NodeKey gives the key of a node a new secret, as RotateKey does. With an empty
// keyID it makes a key for a node that has none.
func (c *Cluster) NodeKey(ctx context.Context, w muster.Write, n muster.Node, keyID string, overlap time.Duration) (muster.Key, error) {
	if keyID != "" {
		plain, body := c.renew(keyID, overlap)
		return c.renewed(ctx, w, fsm.OpNodeKey, fsm.NodeKey{NodeID: n.ID, Rotate: &body}, plain, body.Hash)
	}
	id, plain, hash := c.cfg.NewKey()
	create, err := bound(w.By, fsm.KeyCreate{ID: id, Name: n.Name, Hash: hash, Scopes: muster.NodeScopes(), MaxRisk: muster.RiskLow})
	if err != nil {
		return muster.Key{}, err
	}
	return c.renewed(ctx, w, fsm.OpNodeKey, fsm.NodeKey{NodeID: n.ID, Create: &create}, plain, hash)
}

func (c *Cluster) renew(id string, overlap time.Duration) (plain string, body fsm.KeyRotate) {
	plain, hash := c.cfg.RenewKey(id)
	return plain, fsm.KeyRotate{ID: id, Hash: hash, Overlap: overlap}
}

// renewed proposes a new secret. What it shows goes by the secret's hash: a
// repeated call must not show one that an earlier rotation made.
func (c *Cluster) renewed(ctx context.Context, w muster.Write, op fsm.Op, body any, plain string, hash [32]byte) (muster.Key, error) {
	cmd, err := c.command(w, op, body)
	if err != nil {
		return muster.Key{}, err
	}
	c.shown.put(hex.EncodeToString(hash[:]), plain)
	res, err := c.propose(ctx, w.By, cmd)
	if err != nil {
		return muster.Key{}, err
	}
	key, ok := c.reg.Key(res.ID)
	if !ok {
		return muster.Key{}, muster.Errorf(muster.Internal, "key %s is not in the registry", res.ID)
	}
	if shown, known := c.shown.get(hex.EncodeToString(key.Hash[:])); known {
		key.Plain = &shown
	}
	return key, nil
}
