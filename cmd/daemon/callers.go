package daemon

import (
	"strings"
	"time"

	"muster"
	"muster/fsm"
)

// callers knows from this node's own copy of the registry whose rights hold.
type callers struct{ reg *fsm.Registry }

// Allowed is nil while the key that somebody called with is good. Operators and
// nodes have none.
func (c callers) Allowed(by muster.Rights) error {
	id, ok := strings.CutPrefix(by.Principal, "key:")
	if !ok {
		return nil
	}
	key, known := c.reg.Key(id)
	if !known {
		return badKey()
	}
	return c.good(key)
}

func badKey() *muster.Error { return muster.Errorf(muster.Unauthorized, "Invalid API key") }

// ended are the callers whose keys are known to hold no more: another node may know
// a new one that is not known here yet.
type ended struct{ callers }

// Allowed is nil for a key that is not known to be revoked, expired or its node's.
func (c ended) Allowed(by muster.Rights) error {
	if id, ok := strings.CutPrefix(by.Principal, "key:"); ok {
		if _, known := c.reg.Key(id); !known {
			return nil
		}
	}
	return c.callers.Allowed(by)
}

// good is nil if a key is not revoked, has not expired and belongs to no node
// that is not active.
func (c callers) good(key muster.Key) error {
	if key.RevokedAt != nil {
		return badKey()
	}
	if key.ExpiresAt != nil && time.Now().After(*key.ExpiresAt) {
		return badKey().WithHint("the key has expired")
	}
	if key.NodeID == "" {
		return nil
	}
	if n, ok := c.reg.Node(key.NodeID); ok && n.Status != muster.StatusActive {
		return muster.Errorf(muster.Forbidden, "Node is not active").WithCode("node_" + string(n.Status))
	}
	return nil
}
