package gossip

import (
	"bytes"
	"fmt"
	"slices"
)

// SetKeys changes the keys of a pool that is open: the first speaks, all are
// understood. Call it when all that listen understand the first.
func (p *Pool) SetKeys(keys [][]byte) error {
	for _, key := range keys {
		if err := p.ring.AddKey(key); err != nil {
			return fmt.Errorf("gossip key: %w", err)
		}
	}
	gone := slices.DeleteFunc(slices.Clone(p.ring.GetKeys()), func(old []byte) bool {
		return slices.ContainsFunc(keys, func(key []byte) bool { return bytes.Equal(old, key) })
	})
	// memberlist shifts what stands behind a removed key while others may read it:
	// the ones to go must be last.
	first := keys[:1]
	if len(gone) > 0 {
		first = keys
	}
	for _, key := range slices.Backward(first) {
		if err := p.ring.UseKey(key); err != nil {
			return fmt.Errorf("gossip key: %w", err)
		}
	}
	for _, key := range slices.Backward(gone) {
		if err := p.ring.RemoveKey(key); err != nil {
			return fmt.Errorf("gossip key: %w", err)
		}
	}
	return nil
}
