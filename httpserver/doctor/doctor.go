// Package doctor looks for what is wrong with a node and with its way to the
// others, and says what to do about it. It never mends anything.
package doctor

import (
	"context"
	"slices"
	"time"

	"muster"
	"muster/httpserver/api"
)

// lookTime is how long a node may look at the others.
const lookTime = 3 * time.Second

// Cluster is the registry and the raft member, as this node sees them.
type Cluster interface {
	Nodes() []muster.Node
	Status() muster.ClusterStatus
}

// Ports reaches another agent's three ports. Each call ends with its context.
type Ports interface {
	// HTTP fails unless the node itself answers, not another one.
	HTTP(ctx context.Context, p muster.Peer) (api.Health, error)
	Gossip(ctx context.Context, p muster.Peer) error
	Raft(ctx context.Context, p muster.Peer) error
}

// Config says what to look at.
type Config struct {
	Self    string // ID of this node
	Cluster Cluster
	Ports   Ports
	Peer    func(id string) (muster.Peer, bool) // where gossip has a node, this one, too
	Voters  func() int                          // wanted; 0 while that is not agreed

	Secret   string // its file; empty: it came from the environment
	Identity string // the file of this node's key
	Dir      string // the data directory
	Free     func(dir string) (bytes uint64, err error)
}

// Doctor looks at one node.
type Doctor struct{ cfg Config }

// New makes a doctor.
func New(cfg Config) *Doctor { return &Doctor{cfg} }

// Examine looks at everything once, and at the other agents from here.
func (d *Doctor) Examine(ctx context.Context) []api.Finding {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	nodes, status := d.cfg.Cluster.Nodes(), d.cfg.Cluster.Status()
	all := slices.Concat(d.place(), d.raft(nodes, status), d.ways(ctx, nodes))
	for i := range all {
		all[i].Node = d.slug(nodes)
	}
	return all
}

func (d *Doctor) slug(nodes []muster.Node) string {
	for _, n := range nodes {
		if n.ID == d.cfg.Self {
			return n.Slug
		}
	}
	return d.cfg.Self // it has not entered yet
}

func ok(check, finding string) api.Finding {
	return api.Finding{Check: check, Status: api.FindingOK, Finding: finding}
}

func warn(check, finding, remedy string) api.Finding {
	return api.Finding{Check: check, Status: api.FindingWarn, Finding: finding, Remedy: remedy}
}

func fail(check, finding, remedy string) api.Finding {
	return api.Finding{Check: check, Status: api.FindingFail, Finding: finding, Remedy: remedy}
}
