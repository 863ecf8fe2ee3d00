package daemon

import (
	"sync"
	"time"

	"muster"
	"muster/cluster/trust"
)

// holds reports whether a hash is that of a key's secret, or of one it had
// before a rotation that is still good. Each is compared in constant time, and
// all of them, so that the time tells nothing of any.
func holds(key muster.Key, hash [32]byte, now time.Time) bool {
	ok := trust.SameHash(key.Hash, hash)
	for _, former := range key.Former {
		same := trust.SameHash(former.Hash, hash)
		ok = ok || same && now.Before(former.Until)
	}
	return ok
}

// uses are when this node last let each key in, since it started. They stay
// here: a write to the log for every call would cost more than the call.
type uses struct {
	mu   sync.Mutex
	last map[string]time.Time // guarded by mu; by the key's ID
}

func (u *uses) saw(id string, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = map[string]time.Time{}
	}
	u.last[id] = now.UTC()
}

// keys are those of the registry, with when this node last saw each.
func (d *Daemon) keys() []muster.Key {
	keys := d.reg.Keys()
	d.uses.mu.Lock()
	defer d.uses.mu.Unlock()
	for i, k := range keys {
		if last, ok := d.uses.last[k.ID]; ok {
			keys[i].LastUsedAt = &last
		}
	}
	return keys
}
