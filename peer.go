package muster

import "time"

// PeerState is what gossip thinks of a peer.
type PeerState string

// The peer states.
const (
	PeerAlive      PeerState = "alive"
	PeerFailed     PeerState = "failed"
	PeerLeft       PeerState = "left"       // said goodbye for good
	PeerRestarting PeerState = "restarting" // said it would be back
)

// Peer is an agent as gossip knows it: where it is, not what it is. Truth
// about a node is in the registry only.
type Peer struct {
	ID         string    // node ID, a UUID
	Name       string    // for people; at most 63 bytes
	ClusterID  string    // UUID of the cluster it belongs to; empty while it has none
	Gossip     string    // host:port of gossip
	Raft       string    // host:port of raft
	HTTP       string    // host:port of its HTTP server, for other agents
	TLS        bool      // that server speaks HTTPS
	Stateless  bool      // has no raft state yet
	Expect     int       // its --expect, 0 without
	Promise    string    // while stateless: the ID of the one it lets found the cluster
	IndexID    string    // of its index, a UUID; empty while it is not open
	Generation uint64    // generation of its index
	Documents  uint64    // living documents in its index
	Secrets    [2]uint32 // fingerprints of the cluster secrets it goes by: the one that speaks, and one more; 0: none
	State      PeerState
	Since      time.Time     // when State began, by this node's clock
	Seen       time.Time     // last sign of life, by this node's clock
	RTT        time.Duration // of the last gossip probe; 0 if unknown
}

// BaseURL is where other agents reach its HTTP server; empty if that is not
// known.
func (p Peer) BaseURL() string {
	switch {
	case p.HTTP == "":
		return ""
	case p.TLS:
		return "https://" + p.HTTP
	default:
		return "http://" + p.HTTP
	}
}
