package muster

import "encoding/json"

// NodeChange says what of a node's record is to become different; what is nil
// stays.
type NodeChange struct {
	Name         *string       `json:"name,omitzero"`
	Slug         *string       `json:"slug,omitzero"`
	Type         *NodeType     `json:"type,omitzero"` // child; the cluster elects the master
	URL          *string       `json:"url,omitzero"`
	Capabilities *[]Capability `json:"capabilities,omitzero"`
	Metadata     Metadata      `json:"metadata,omitzero"` // keys to set; null removes one
	Version      *string       `json:"version,omitzero"`
	Description  *string       `json:"description,omitzero"`
	Weight       *int          `json:"weight,omitzero"`
	ReplicaOf    *string       `json:"replica_of,omitzero"`
	Status       *Status       `json:"status,omitzero"` // active, inactive or maintenance
}

// MaxMetadata is the most that a node's metadata may be, in bytes of JSON.
const MaxMetadata = 16 << 10

// Edit names a node and the state of its record that the caller has seen:
// another index is a Conflict. Seen is nil when the caller does not care.
// Credential is what muster sends from then on when it calls the node, an
// external one; nil leaves it as it is.
type Edit struct {
	Slug       string
	Seen       *uint64
	Credential *string
}

// Sync is the state that external nodes are to have. What a row does not
// mention stays, or gets its default at creation; metadata is replaced whole.
// With Prune, external nodes that have no row become inactive. Agents are never
// touched.
type Sync struct {
	Rows    []SyncRow
	Invalid []SyncFault // rows that could not be read
	Prune   bool
}

// SyncRow is one node of a Sync.
type SyncRow struct {
	Row    int        `json:"row"` // from 1, as the caller counts
	ID     string     `json:"id"`  // of the node, if it is made
	Change NodeChange `json:"node"`
}

// SyncPlan is what a Sync does or did. With an invalid row nothing is written.
type SyncPlan struct {
	Create    []SyncNode  `json:"create"`
	Update    []SyncNode  `json:"update"`
	Unchanged []SyncNode  `json:"unchanged"`
	Invalid   []SyncFault `json:"invalid"`
	Applied   bool        `json:"applied"`
}

// SyncNode is a node as a plan names it.
type SyncNode struct {
	ID      string                 `json:"id,omitempty"` // unknown before it is made
	Slug    string                 `json:"slug"`
	Name    string                 `json:"name"`
	Changes map[string]FieldChange `json:"changes,omitempty"`
	Pruned  bool                   `json:"pruned,omitempty"` // it has no row
}

// FieldChange is a field's value before and after.
type FieldChange struct {
	From json.RawMessage `json:"from"`
	To   json.RawMessage `json:"to"`
}

// SyncFault says what is wrong with a row, and what to do.
type SyncFault struct {
	Row        int    `json:"row"`
	Slug       string `json:"slug,omitempty"`
	Reason     string `json:"reason"`
	Suggestion string `json:"suggestion"`
}

// Cleanup asks which external nodes nobody needs: those of a status without a
// sign of life for so many days, and those deleted longer ago than that.
type Cleanup struct {
	Days     int      `json:"days"`
	Statuses []Status `json:"statuses"`
}

// CleanupPlan is what a Cleanup does or did: nodes that are soft-deleted, and
// deleted ones whose records are removed for good.
type CleanupPlan struct {
	Delete  []CleanupNode `json:"delete"`
	Purge   []CleanupNode `json:"purge"`
	Applied bool          `json:"applied"`
}

// CleanupNode is a node as a CleanupPlan names it.
type CleanupNode struct {
	ID       string `json:"id"`
	Slug     string `json:"slug"`
	Name     string `json:"name"`
	Status   Status `json:"status"`
	LastSign string `json:"last_sign"` // RFC 3339: of life; of its deletion if it is deleted
}
