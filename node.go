package muster

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Capability is a free word that says what a node can do. Search and Actions
// gate the work.
type Capability string

// Valid reports whether it has the form of a slug.
func (c Capability) Valid() bool { return ValidSlug(string(c)) }

// ValidSlug reports whether a word has 1 to 63 lower-case letters, digits and
// single dashes between them.
func ValidSlug(word string) bool {
	odd := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }
	return len(word) <= 63 && !strings.ContainsFunc(word, odd) && !slices.Contains(strings.Split(word, "-"), "")
}

// Capabilities that muster itself looks at.
const (
	CapSearch  Capability = "search"
	CapActions Capability = "actions"
)

// Status is what an operator or a client is told about a node.
type Status string

// The statuses. StatusError is never stored: it follows from what was observed.
const (
	StatusActive      Status = "active"
	StatusInactive    Status = "inactive"
	StatusMaintenance Status = "maintenance"
	StatusError       Status = "error"
)

// Observed is the machine's word about a node, beside the operator's.
type Observed string

// What can be observed of a node.
const (
	ObservedUp         Observed = "up"
	ObservedDown       Observed = "down"
	ObservedLeft       Observed = "left"
	ObservedRestarting Observed = "restarting"
)

// StatusOf joins the operator's word and the machine's. Any desired status but
// active stands; an active node is what it is observed to be.
func StatusOf(desired Status, observed Observed) Status {
	if desired != StatusActive {
		return desired
	}
	switch observed {
	case ObservedDown:
		return StatusError
	case ObservedLeft:
		return StatusInactive
	case ObservedUp, ObservedRestarting:
		return StatusActive
	default:
		return StatusActive
	}
}

// Color is the traffic light of a status: green, gray, yellow or red.
func (s Status) Color() string {
	switch s {
	case StatusActive:
		return "green"
	case StatusMaintenance:
		return "yellow"
	case StatusError:
		return "red"
	case StatusInactive:
		return "gray"
	default:
		return "gray"
	}
}

// NodeType is the part a node plays: the elected master, or a child.
type NodeType string

// The node types.
const (
	TypeMaster NodeType = "master"
	TypeChild  NodeType = "child"
)

// NodeKind says whether muster runs on the node.
type NodeKind string

// The node kinds.
const (
	KindAgent    NodeKind = "agent"    // runs muster agent
	KindExternal NodeKind = "external" // any web application, known by its URL
)

// Role is an agent's part in raft.
type Role string

// The roles.
const (
	RoleVoter   Role = "voter"
	RoleStandby Role = "standby"
)

// Metadata is a free JSON object. Values stay as they were written, so that
// numbers keep their digits.
type Metadata map[string]json.RawMessage

// Text returns a value as text: a string without its quotes, anything else as
// it is written. ok is false when the key is absent.
func (m Metadata) Text(key string) (text string, ok bool) {
	raw, ok := m[key]
	if !ok {
		return "", false
	}
	if err := json.Unmarshal(raw, &text); err == nil {
		return text, true
	}
	return string(raw), true
}

// Node is one member of the registry, as everybody sees it.
type Node struct {
	ID              string       `json:"id"`
	Name            string       `json:"name"`
	Slug            string       `json:"slug"`
	Type            NodeType     `json:"type"`
	Kind            NodeKind     `json:"kind"`
	URL             string       `json:"url"`
	Capabilities    []Capability `json:"capabilities"`
	Metadata        Metadata     `json:"metadata"`
	Version         string       `json:"version"`
	Status          Status       `json:"status"`
	StatusColor     string       `json:"status_color"`
	Healthy         bool         `json:"is_healthy"`
	Description     string       `json:"description"`
	Weight          int          `json:"weight"`
	ReplicaOf       string       `json:"replica_of,omitempty"`
	LastPingAt      *time.Time   `json:"last_ping_at"`
	PingFailures    int          `json:"ping_failures"`
	AvgResponseTime *float64     `json:"avg_response_time"` // milliseconds
	Role            *Role        `json:"role"`              // nil for external nodes
	CreatedAt       time.Time    `json:"created_at"`
	UpdatedAt       time.Time    `json:"updated_at"`
	DeletedAt       *time.Time   `json:"deleted_at,omitempty"`
	Index           uint64       `json:"index"` // registry index of the last change

	Desired   Status   `json:"-"` // the operator's word
	Observed  Observed `json:"-"`
	Left      bool     `json:"-"` // an agent that left for good, until it joins again
	PublicKey []byte   `json:"-"` // Ed25519, 32 bytes; agents only
	Documents uint64   `json:"-"` // last known number of documents in its index
}

// DeadPingFailures is the count that a death by gossip stands for, and from
// which on a node is not healthy.
const DeadPingFailures = 3

// Can reports whether the node has the capability.
func (n Node) Can(c Capability) bool { return slices.Contains(n.Capabilities, c) }
