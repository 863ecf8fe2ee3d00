package fsm

import (
	"slices"
	"time"

	"muster"
)

// HealthBatch is the body of OpHealthBatch: what the master's pings of external
// nodes have shown since the last one.
type HealthBatch struct {
	Nodes []Health `json:"nodes"`
}

// Health is how an external node stands after its last ping: not a change but
// the whole, so that a lost batch is made good by the next. Version and
// Capabilities are empty where the node did not say.
type Health struct {
	ID           string              `json:"id"`
	Failures     int                 `json:"failures"`          // in a row
	Seen         *time.Time          `json:"seen,omitempty"`    // last success, by the master's clock
	Average      *float64            `json:"average,omitempty"` // milliseconds
	Version      string              `json:"version,omitempty"`
	Capabilities []muster.Capability `json:"capabilities,omitempty"`
}

// Observed is what so many failures in a row, after so many before, let see.
func (h Health) Observed(before muster.Observed) muster.Observed {
	switch {
	case h.Failures >= muster.DeadPingFailures:
		return muster.ObservedDown
	case h.Failures == 0 && h.Seen != nil:
		return muster.ObservedUp
	default:
		return before
	}
}

// NodeReseal is the body of OpNodeReseal: the credential of an external node,
// sealed anew. Old is what it replaces: another one meanwhile stays.
type NodeReseal struct {
	ID     string `json:"id"`
	Old    []byte `json:"old"`
	Sealed []byte `json:"sealed"`
}

func (b HealthBatch) named() (ids []string) {
	for _, h := range b.Nodes {
		ids = append(ids, h.ID)
	}
	return ids
}

func (b NodeReseal) named() []string { return []string{b.ID} }

// healthBatch writes down how external nodes are. The index and time of a
// node's last change move only where something changed that somebody set or is
// told of: a write on condition of an index must not lose to a ping.
func (a applier) healthBatch(b HealthBatch) {
	for _, h := range b.Nodes {
		old := a.t.nodes.row(h.ID)
		if old == nil || !old.Live || old.Kind != muster.KindExternal {
			continue
		}
		row := *old
		row.LastPingAt, row.Failures, row.Average = h.Seen, h.Failures, h.Average
		changed := false
		if seen := h.Observed(old.Observed); seen != old.Observed {
			row.Observed, row.ObservedAt, changed = seen, a.at, true
		}
		if h.Version != "" && h.Version != old.Version {
			row.Version, changed = h.Version, true
		}
		if len(h.Capabilities) > 0 && !slices.Equal(h.Capabilities, old.Capabilities) {
			row.Capabilities, changed = h.Capabilities, true
		}
		if changed {
			row.UpdatedAt, row.Index = a.at, a.index
		}
		a.t.nodes.put(&row)
	}
}

func (a applier) nodeReseal(b NodeReseal) {
	old := a.t.nodes.row(b.ID)
	if old == nil || !slices.Equal(old.Sealed, b.Old) {
		return
	}
	row := *old
	row.Sealed = b.Sealed
	a.t.nodes.put(&row)
}
