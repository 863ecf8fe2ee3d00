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

// said is what an application told of itself in a ping; what it never told is
// empty.
type said struct {
	Version      string              `json:"version,omitempty"`
	Capabilities []muster.Capability `json:"capabilities,omitempty"`
}

// shown is a node after a ping, and whether something of it changed that
// somebody sets or is told of. What an application says counts when it says it
// anew: saying the same again takes nothing back that an operator set meanwhile.
func (h Health) shown(old *node) (row node, changed bool) {
	row = *old
	row.LastPingAt, row.Failures, row.Average = h.Seen, h.Failures, h.Average
	row.Observed = h.Observed(old.Observed)
	if h.Version != "" && h.Version != old.Said.Version {
		row.Version, row.Said.Version = h.Version, h.Version
	}
	if len(h.Capabilities) > 0 && !slices.Equal(h.Capabilities, old.Said.Capabilities) {
		row.Capabilities, row.Said.Capabilities = h.Capabilities, h.Capabilities
	}
	return row, row.Observed != old.Observed || row.Version != old.Version || !slices.Equal(row.Capabilities, old.Capabilities)
}

// News reports whether a ping changes more of a node than its counts, or the
// application said something anew.
func (r *Registry) News(h Health) bool {
	old := r.now().nodes.row(h.ID)
	if old == nil {
		return false
	}
	row, changed := h.shown(old)
	return changed || row.Said.Version != old.Said.Version || !slices.Equal(row.Said.Capabilities, old.Said.Capabilities)
}

// healthBatch writes down how external nodes are. The index and time of a
// node's last change move only where something changed that somebody set or is
// told of: a write on condition of an index must not lose to a ping.
func (a applier) healthBatch(b HealthBatch) {
	for _, h := range b.Nodes {
		old := a.t.nodes.row(h.ID)
		if old == nil || !old.Live || old.Kind != muster.KindExternal {
			continue
		}
		row, changed := h.shown(old)
		if row.Observed != old.Observed {
			row.ObservedAt = a.at
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
