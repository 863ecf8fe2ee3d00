package httpserver

import (
	"cmp"
	"context"
	"slices"
	"time"

	"muster"
	"muster/httpserver/api"
)

// overlap is how long an old secret stays good. Without a body, or without
// saying so in it, it ends at once.
func (r *Request) overlap() (time.Duration, error) {
	var asked struct {
		Overlap *string `json:"overlap"`
	}
	if len(r.Body) > 0 {
		if err := api.Decode(r.Body, &asked); err != nil {
			return 0, err
		}
	}
	if asked.Overlap == nil {
		return 0, nil
	}
	bad := complaints{}
	d := bad.duration("overlap", *asked.Overlap)
	return d, bad.err("the rotation has invalid fields")
}

// rotateKey gives a key a new secret. It is the same key: its name, rights and
// end stay.
func (s *Server) rotateKey(ctx context.Context, r *Request) (any, error) {
	overlap, err := r.overlap()
	if err != nil {
		return nil, err
	}
	for _, k := range s.cfg.Keys() {
		if k.ID != r.Params["id"] {
			continue
		}
		if err := mayHold(r.Rights, k); err != nil {
			return nil, err
		}
	}
	key, err := s.cfg.Cluster.RotateKey(ctx, r.write(), r.Params["id"], overlap)
	return shown(key), err
}

// nodeKey gives the key of a node a new secret, or makes a key for a node that
// has none that is good.
func (s *Server) nodeKey(ctx context.Context, r *Request) (any, error) {
	overlap, err := r.overlap()
	if err != nil {
		return nil, err
	}
	n, err := s.living(r.Params["slug"])
	if err != nil {
		return nil, err
	}
	own, id := s.keyOf(n.ID), ""
	if own != nil {
		id = own.ID
		if err := mayHold(r.Rights, *own); err != nil && !plainNodeKey(*own) {
			return nil, err
		}
	}
	key, err := s.cfg.Cluster.NodeKey(ctx, r.write(), n, id, overlap)
	return shown(key), err
}

// mayHold refuses to show a caller the secret of a key that is more than its
// own.
func mayHold(by muster.Rights, k muster.Key) error {
	if err := exceeds(by, k.Scopes, k.MaxRisk, k.ExpiresAt); err != nil {
		return err
	}
	targets, _, ok := by.Confine(k.Targets, k.Filter)
	free := k.MaxRisk == "" && by.MaxRisk != "" || k.ExpiresAt == nil && by.ExpiresAt != nil ||
		targets != k.Targets || !ok || len(k.Filter) == 0 && len(by.Filter) > 0
	if free {
		return complaints{"id": {"this key may do what yours may not"}}.beyond()
	}
	return nil
}

// plainNodeKey reports whether a key is no more than what every registration
// gives away.
func plainNodeKey(k muster.Key) bool {
	plain := muster.Rights{Principal: "key:" + k.ID, Scopes: muster.NodeScopes()}
	return k.MaxRisk.Level() > 0 && k.MaxRisk.Level() <= muster.RiskLow.Level() &&
		!slices.ContainsFunc(k.Scopes, func(scope string) bool { return !plain.May(scope) })
}

// keyOf is the newest good key of a node, if it has one.
func (s *Server) keyOf(nodeID string) *muster.Key {
	keys := slices.DeleteFunc(slices.Clone(s.cfg.Keys()), func(k muster.Key) bool {
		return k.NodeID != nodeID || k.RevokedAt != nil || k.ExpiresAt != nil && !s.cfg.Now().Before(*k.ExpiresAt)
	})
	if len(keys) == 0 {
		return nil
	}
	newest := slices.MaxFunc(keys, func(a, b muster.Key) int { return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)) })
	return &newest
}

// living finds a node that is not deleted by its slug.
func (s *Server) living(slug string) (muster.Node, error) {
	if n, ok := s.cfg.Cluster.Find(slug); ok {
		return n, nil
	}
	return muster.Node{}, muster.Errorf(muster.NotFound, "no node %s", slug).WithHint("muster node list shows them")
}
