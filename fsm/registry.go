package fsm

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"muster"
)

// node is a node as it is stored. A row is never changed: every write stores a
// fresh copy.
type node struct {
	ID           string              `json:"id"`
	Name         string              `json:"name"`
	Slug         string              `json:"slug"`
	Live         bool                `json:"live"` // false once soft-deleted
	Kind         muster.NodeKind     `json:"kind"`
	URL          string              `json:"url"`
	Raft         string              `json:"raft,omitempty"`
	Capabilities []muster.Capability `json:"capabilities"`
	Metadata     muster.Metadata     `json:"metadata"`
	Version      string              `json:"version"`
	Description  string              `json:"description,omitempty"`
	Weight       int                 `json:"weight"`
	ReplicaOf    string              `json:"replica_of,omitempty"`
	Desired      muster.Status       `json:"desired"`
	Observed     muster.Observed     `json:"observed,omitempty"`
	ObservedAt   time.Time           `json:"observed_at,omitzero"`
	LastPingAt   *time.Time          `json:"last_ping_at,omitempty"` // last sign of life of an external node
	Failures     int                 `json:"failures,omitempty"`     // pings of it that failed in a row
	Average      *float64            `json:"average,omitempty"`      // milliseconds until it answers
	Left         bool                `json:"left,omitempty"`         // for good, until it joins again
	Documents    uint64              `json:"documents,omitempty"`
	PublicKey    []byte              `json:"public_key,omitempty"`
	Predecessor  string              `json:"predecessor,omitempty"` // the dead node whose name it took over
	Sealed       []byte              `json:"sealed,omitempty"`      // the credential of an external node
	Actions      []string            `json:"actions,omitempty"`     // digests of what it offers, in order
	Said         said                `json:"said,omitzero"`         // what an application last told of itself
	CreatedAt    time.Time           `json:"created_at"`
	UpdatedAt    time.Time           `json:"updated_at"`
	DeletedAt    *time.Time          `json:"deleted_at,omitempty"`
	Index        uint64              `json:"index"`
}

// key is a bearer credential as it is stored.
type key struct {
	ID        string      `json:"id"`
	Name      string      `json:"name"`
	Hash      [32]byte    `json:"hash"`
	Scopes    []string    `json:"scopes"`
	MaxRisk   muster.Risk `json:"max_risk,omitempty"`
	NodeID    string      `json:"node_id,omitempty"`
	CreatedAt time.Time   `json:"created_at"`
	ExpiresAt *time.Time  `json:"expires_at,omitempty"`
	RevokedAt *time.Time  `json:"revoked_at,omitempty"`

	Targets string                `json:"targets,omitempty"`
	Filter  muster.Metadata       `json:"filter,omitempty"`
	Former  []muster.FormerSecret `json:"former,omitempty"`
	Buried  bool                  `json:"buried,omitempty"` // revoked with its node, and given back with it
}

// done remembers the result of a command by its idempotency key.
type done struct {
	Key     string          `json:"key"`
	Digest  string          `json:"digest"`
	ID      string          `json:"id,omitempty"`
	Detail  json.RawMessage `json:"detail,omitempty"`
	Refused *Refusal        `json:"refused,omitempty"`
	At      time.Time       `json:"at,omitzero"` // of the command, if it was refused for now
	Index   uint64          `json:"index"`
	Order   string          `json:"order"` // Index with leading zeros; in snapshots only, where earlier programs look for it

	place  uint64 // among all that were ever kept
	former *done  // that had the key before, while this one can be taken back
}

// settings is what the cluster agreed on, one row.
type settings struct {
	Row       string `json:"row"` // always "cluster"
	ClusterID string `json:"cluster_id"`
	Voters    int    `json:"voters"`
}

const (
	tableNodes    = "nodes"
	tableKeys     = "keys"
	tableDone     = "done"
	tableSettings = "settings"
	tableActions  = "actions"
	tableTxs      = "txs"
	settingsRow   = "cluster"
)

// Registry is one copy of the replicated state. Reads come from memory and
// never block writes.
type Registry struct {
	rows  atomic.Pointer[tables] // written under mu
	index atomic.Uint64          // of the last entry applied; written under mu

	mu      sync.Mutex
	done    answers       // guarded by mu
	changed chan struct{} // guarded by mu; closed and replaced when index moves
	waiting []waiter      // guarded by mu; for an index that is not there yet
	broken  error         // guarded by mu; set when an entry could not be understood
	stop    chan struct{} // closed when broken is set
}

// New returns an empty registry.
func New() *Registry {
	r := &Registry{changed: make(chan struct{}), stop: make(chan struct{}), done: newAnswers()}
	r.rows.Store(newTables())
	return r
}

// Index returns the index of the last entry applied here.
func (r *Registry) Index() uint64 { return r.index.Load() }

// Changed returns a channel that is closed at the next change.
func (r *Registry) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Broken returns a channel that is closed when this copy met an entry it does
// not understand and stopped; Err then says which.
func (r *Registry) Broken() <-chan struct{} { return r.stop }

// Err says why the registry stopped, or nil.
func (r *Registry) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken
}

// WaitIndex waits until this copy has seen an index. It returns a Timeout
// error when ctx ends before.
func (r *Registry) WaitIndex(ctx context.Context, index uint64) error {
	if r.index.Load() >= index {
		return nil
	}
	r.mu.Lock()
	have := r.index.Load()
	w := waiter{index, make(chan struct{})}
	if have < index {
		r.waiting = append(r.waiting, w)
	}
	r.mu.Unlock()
	if have >= index {
		return nil
	}
	select {
	case <-w.seen:
		return nil
	case <-ctx.Done():
		r.mu.Lock()
		have = r.index.Load()
		r.waiting = slices.DeleteFunc(r.waiting, func(other waiter) bool { return other == w })
		r.mu.Unlock()
		return muster.Errorf(muster.Timeout, "this node has seen index %d, not yet %d", have, index).
			WithHint("ask again later, or ask another node")
	}
}

// waiter waits for an index. Each is woken by its own, not by every entry: a
// follower has as many as there are writers at it.
type waiter struct {
	index uint64
	seen  chan struct{} // closed once it is there
}

// wakeLocked tells everybody how far the index is now.
func (r *Registry) wakeLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
	have := r.index.Load()
	r.waiting = slices.DeleteFunc(r.waiting, func(w waiter) bool {
		if w.index <= have {
			close(w.seen)
		}
		return w.index <= have
	})
}

// now is the tables as they are now.
func (r *Registry) now() *tables { return r.rows.Load() }

// Nodes returns all nodes, soft-deleted ones included, by slug. Status and
// health are as stored: the caller lays fresher views over them.
func (r *Registry) Nodes() []muster.Node {
	t := r.now()
	nodes := make([]muster.Node, 0, t.nodes.rows.Len())
	for _, row := range t.nodes.from(bySlug, "") {
		nodes = append(nodes, row.view())
	}
	return nodes
}

// NodeIDs returns the IDs of all nodes, soft-deleted ones included.
func (r *Registry) NodeIDs() map[string]bool {
	t := r.now()
	ids := make(map[string]bool, t.nodes.rows.Len())
	for row := range t.nodes.all() {
		ids[row.ID] = true
	}
	return ids
}

// Agents are the nodes of that kind, by ID, soft-deleted ones included. The
// master looks at them ten times a second, whatever else there is.
func (r *Registry) Agents() []muster.Node {
	return views(r.now().nodes.under(byKind, string(muster.KindAgent)))
}

// Externals are the living external nodes that are wanted by their ID.
func (r *Registry) Externals(wanted func(id string) bool) []muster.Node {
	var nodes []muster.Node
	for row := range r.now().nodes.all() {
		if row.Kind == muster.KindExternal && row.Live && wanted(row.ID) {
			nodes = append(nodes, row.view())
		}
	}
	return nodes
}

// Node returns a node by its ID, soft-deleted or not.
func (r *Registry) Node(id string) (muster.Node, bool) {
	row := r.now().nodes.row(id)
	if row == nil {
		return muster.Node{}, false
	}
	return row.view(), true
}

// Slug returns the slug of the node with an ID; empty: there is none.
func (r *Registry) Slug(id string) string {
	if row := r.now().nodes.row(id); row != nil {
		return row.Slug
	}
	return ""
}

// Find returns the node that has a slug and is not deleted.
func (r *Registry) Find(slug string) (muster.Node, bool) {
	for _, row := range r.now().nodes.under(bySlug, slug) {
		if row.Live {
			return row.view(), true
		}
	}
	return muster.Node{}, false
}

// Capable returns the nodes with a capability, soft-deleted ones included.
func (r *Registry) Capable(c muster.Capability) []muster.Node {
	return views(r.now().nodes.under(byCapability, string(c)))
}

// Answered returns the result of a command with this one's idempotency key, if
// it was applied here.
func (r *Registry) Answered(c Command) (Result, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.replay(r.index.Load(), c)
}

// Succession returns, by node ID, the dead node whose name each living agent
// took over.
func (r *Registry) Succession() map[string]string {
	heirs := map[string]string{}
	for _, row := range r.now().nodes.under(byKind, string(muster.KindAgent)) {
		if row.Live && row.Predecessor != "" {
			heirs[row.ID] = row.Predecessor
		}
	}
	return heirs
}

// RaftAddress returns an agent's raft address as it last registered it.
func (r *Registry) RaftAddress(id string) (string, bool) {
	row := r.now().nodes.row(id)
	if row == nil || row.Raft == "" {
		return "", false
	}
	return row.Raft, true
}

// Keys returns all keys, revoked ones included, by ID.
func (r *Registry) Keys() []muster.Key {
	t := r.now()
	keys := make([]muster.Key, 0, t.keys.rows.Len())
	for row := range t.keys.all() {
		keys = append(keys, row.view())
	}
	return keys
}

// Key returns a key by its ID, revoked or not.
func (r *Registry) Key(id string) (muster.Key, bool) {
	row := r.now().keys.row(id)
	if row == nil {
		return muster.Key{}, false
	}
	return row.view(), true
}

// ClusterID returns the cluster's UUID, empty before the first leader wrote it.
func (r *Registry) ClusterID() string { return r.settings().ClusterID }

// Voters returns the agreed number of voters, 0 before it was written.
func (r *Registry) Voters() int { return r.settings().Voters }

func (r *Registry) settings() settings {
	if row := r.now().settings; row != nil {
		return *row
	}
	return settings{}
}

// view is the node as everybody sees it, without what only a clock can tell.
func (n *node) view() muster.Node {
	status := muster.StatusOf(n.Desired, n.Observed)
	v := muster.Node{
		ID: n.ID, Name: n.Name, Slug: n.Slug, Type: muster.TypeChild, Kind: n.Kind, URL: n.URL,
		Capabilities: n.Capabilities, Metadata: n.Metadata, Version: n.Version,
		Status: status, StatusColor: status.Color(), Description: n.Description, Weight: n.Weight,
		ReplicaOf: n.ReplicaOf, CreatedAt: n.CreatedAt, UpdatedAt: n.UpdatedAt, DeletedAt: n.DeletedAt,
		Index: n.Index, Desired: n.Desired, Observed: n.Observed, PublicKey: n.PublicKey, Documents: n.Documents,
		LastPingAt: n.LastPingAt, Left: n.Left,
	}
	if v.Metadata == nil {
		v.Metadata = muster.Metadata{}
	}
	if n.Observed == muster.ObservedDown {
		v.PingFailures = muster.DeadPingFailures
	}
	if n.Kind == muster.KindExternal {
		v.Sealed, v.PingFailures, v.AvgResponseTime = n.Sealed, n.Failures, n.Average
	}
	return v
}

func (k *key) view() muster.Key {
	return muster.Key{
		ID: k.ID, Name: k.Name, Scopes: k.Scopes, MaxRisk: k.MaxRisk, NodeID: k.NodeID,
		CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt, RevokedAt: k.RevokedAt, Hash: k.Hash,
		Targets: k.Targets, Filter: k.Filter, Former: k.Former,
	}
}
