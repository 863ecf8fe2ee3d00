package muster

import "time"

// Registration asks for a node to be entered into the registry.
type Registration struct {
	Name         string       `json:"name"`
	URL          string       `json:"url"`
	Slug         string       `json:"slug,omitempty"` // default: from Name
	Type         NodeType     `json:"type,omitempty"` // child; master is refused
	Capabilities []Capability `json:"capabilities,omitempty"`
	Metadata     Metadata     `json:"metadata,omitempty"`
	Version      string       `json:"version,omitempty"` // default 1.0.0
	Description  string       `json:"description,omitempty"`
	Weight       *int         `json:"weight,omitempty"` // default 1
	Credential   string       `json:"credential,omitempty"`
	Scopes       []string     `json:"scopes,omitempty"` // of the key it gets
	ReplicaOf    string       `json:"replica_of,omitempty"`
}

// Registered is the answer to a Registration. APIKey is shown this once; it is
// nil when the answer repeats an earlier one made elsewhere. So is Credential,
// which is nil, too, when the registration gave one.
type Registered struct {
	Success    bool    `json:"success"`
	Node       Node    `json:"node"`
	APIKey     *string `json:"api_key"`
	Credential *string `json:"credential,omitempty"`
	Hint       string  `json:"hint,omitempty"`
}

// KeySpec asks for a key.
type KeySpec struct {
	Name      string   `json:"name"`
	Scopes    []string `json:"scopes"`
	MaxRisk   Risk     `json:"max_risk,omitempty"`
	ExpiresIn string   `json:"expires_in,omitempty"` // a duration, above 0, at most 10 years
	Targets   string   `json:"targets,omitempty"`    // a Where over the metadata of nodes
	Filter    Metadata `json:"filter,omitempty"`     // of every search: a value, or a list of values, by field
}

// Key is a bearer credential without its secret. Plain is the whole key
// mk_<id>_<secret>, set only in the answer that creates it.
type Key struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Scopes    []string   `json:"scopes"`
	MaxRisk   Risk       `json:"max_risk,omitempty"`
	NodeID    string     `json:"node_id,omitempty"`
	Targets   string     `json:"targets,omitempty"`
	Filter    Metadata   `json:"filter,omitempty"`
	Plain     *string    `json:"key,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`

	// LastUsedAt is when the node that is asked last let the key in.
	LastUsedAt *time.Time `json:"last_used_at,omitempty"`

	Hash   [32]byte       `json:"-"` // SHA-256 of the secret part
	Former []FormerSecret `json:"-"` // those it had before, as long as they are good
}

// FormerSecret is the secret of a key before a rotation, good until a time.
type FormerSecret struct {
	Hash  [32]byte  `json:"hash"`
	Until time.Time `json:"until"`
}

// Rotation asks for a new secret of a key. The old one is good for Overlap
// longer, a duration; empty: it ends at once.
type Rotation struct {
	Overlap string `json:"overlap,omitempty"`
}

// Write names a change so that repeating it changes nothing. Key is empty when
// the caller gave none. Digest is the SHA-256 of the request's body, in hex.
type Write struct {
	By     Rights
	Route  string // method and path pattern
	Key    string // Idempotency-Key
	Digest string
}

// ClusterStatus is the cluster as one node sees it.
type ClusterStatus struct {
	ClusterID    string       `json:"cluster_id"`
	Master       *MasterRef   `json:"master"` // nil while there is none
	Term         uint64       `json:"term"`
	CommitIndex  uint64       `json:"commit_index"`
	AppliedIndex uint64       `json:"applied_index"`
	Quorum       int          `json:"quorum"`   // voters that must be up
	CanLose      int          `json:"can_lose"` // living voters that may still fail
	Peers        []PeerStatus `json:"peers"`
	Version      string       `json:"version"`
	StaleMs      int64        `json:"stale_ms"` // since this node last heard from the master
	// OldSeals is how many credentials of nodes only an earlier secret than this
	// node's first opens. Who drops that secret loses them.
	OldSeals int `json:"old_seals,omitzero"`
}

// Sight is the little of it that goes with every answer.
type Sight struct {
	Self    string        // slug of the node that answers
	Master  string        // slug; empty while there is none
	Applied uint64        // index
	Stale   time.Duration // since this node last heard from the master
}

// MasterRef names the master.
type MasterRef struct {
	Slug string `json:"slug"`
	ID   string `json:"id"`
	URL  string `json:"url"`
}

// PeerStatus is one raft server. LastContactMs and MatchIndex are known to the
// master only.
type PeerStatus struct {
	Slug          string  `json:"slug"`
	ID            string  `json:"id"`
	Role          Role    `json:"role"`
	Alive         bool    `json:"alive"`
	LastContactMs *int64  `json:"last_contact_ms"`
	MatchIndex    *uint64 `json:"match_index,omitempty"`

	// What gossip says of it: where others join through it, and the fingerprints,
	// 8 hex digits each, of the cluster secrets it goes by. The first one speaks.
	Gossip  string   `json:"gossip,omitempty"`
	Secrets []string `json:"secrets,omitempty"`
}

// Joining is what an agent says of itself when it enters the registry, after
// every start.
type Joining struct {
	ID           string       `json:"id"`
	Name         string       `json:"name"`
	URL          string       `json:"url"`
	Raft         string       `json:"raft"` // host:port
	Capabilities []Capability `json:"capabilities"`
	Metadata     Metadata     `json:"metadata"`
	Version      string       `json:"version"`
	PublicKey    []byte       `json:"public_key"` // Ed25519
	ClusterID    string       `json:"cluster_id"` // as gossip told it

	CallID string `json:"call_id,omitempty"` // of the signed call that carries this
	Proof  []byte `json:"proof,omitempty"`   // signature by the key over all of the above and whom it is for
}

// Joined is the master's answer: the registry index at which the node is in.
type Joined struct {
	Index uint64 `json:"index"`
	Slug  string `json:"slug"`
}
