package fsm

import (
	"slices"
	"time"

	"muster"
)

// maxFormer is how many secrets a key has at most beside its newest; when it
// gets more, the oldest end before their time.
const maxFormer = 4

// KeyRotate is the body of OpKeyRotate: a new secret of a key. The one it has is
// good for the overlap longer, from the entry's time; or, as earlier programs wrote
// it, until a time.
type KeyRotate struct {
	ID      string        `json:"id"`
	Hash    [32]byte      `json:"hash"`
	Overlap time.Duration `json:"overlap,omitempty"`
	Until   time.Time     `json:"until,omitzero"`
}

// NodeKey is the body of OpNodeKey: a new secret of a node's own key, or a key
// for a node that has none.
type NodeKey struct {
	NodeID string     `json:"node_id"`
	Rotate *KeyRotate `json:"rotate,omitempty"`
	Create *KeyCreate `json:"create,omitempty"`
}

func (b KeyRotate) named() []string { return []string{b.ID} }
func (b NodeKey) named() []string   { return []string{b.NodeID} }

func (a applier) keyRotate(b KeyRotate) (string, error) {
	old := a.t.keys.row(b.ID)
	switch {
	case old == nil:
		return "", muster.Errorf(muster.NotFound, "no key %s", b.ID)
	case old.RevokedAt != nil:
		return "", muster.Errorf(muster.Conflict, "key %s was revoked", b.ID).WithHint("make a new one")
	case old.ExpiresAt != nil && !a.at.Before(*old.ExpiresAt):
		return "", muster.Errorf(muster.Conflict, "key %s has expired", b.ID).WithHint("make a new one")
	}
	until := b.Until
	if until.IsZero() {
		until = a.at.Add(b.Overlap)
	}
	row := *old
	row.Former = append(slices.Clone(old.Former), muster.FormerSecret{Hash: old.Hash, Until: until})
	row.Former = slices.DeleteFunc(row.Former, func(f muster.FormerSecret) bool { return !a.at.Before(f.Until) })
	row.Former = row.Former[max(0, len(row.Former)-maxFormer):]
	if len(row.Former) == 0 {
		row.Former = nil // as a snapshot has it
	}
	row.Hash = b.Hash
	a.t.keys.put(&row)
	return row.ID, nil
}

func (a applier) nodeKey(b NodeKey) (string, error) {
	n := a.t.nodes.row(b.NodeID)
	if n == nil || !n.Live {
		return "", muster.Errorf(muster.NotFound, "no node %s", b.NodeID)
	}
	switch {
	case b.Rotate != nil:
		if own := a.t.keys.row(b.Rotate.ID); own != nil && own.NodeID != b.NodeID {
			return "", muster.Errorf(muster.Forbidden, "key %s is not of node %s", b.Rotate.ID, n.Slug)
		}
		return a.keyRotate(*b.Rotate)
	case b.Create != nil:
		create := *b.Create
		create.NodeID = b.NodeID
		return a.keyCreate(create)
	default:
		return "", muster.Errorf(muster.Invalid, "body of %s: neither a key nor a secret", OpNodeKey)
	}
}
