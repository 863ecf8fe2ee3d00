package gossip

import (
	"cmp"
	"fmt"
	"time"

	"muster"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. It runs under memberlist's locks, so it
// never calls back and never waits.
type delegate struct{ pool *Pool }

// NodeMeta gives this node's facts.
func (d *delegate) NodeMeta(int) []byte {
	d.pool.mu.Lock()
	defer d.pool.mu.Unlock()
	return d.pool.facts.padded()
}

func (*delegate) NotifyMsg([]byte)                {}
func (*delegate) GetBroadcasts(_, _ int) [][]byte { return nil }
func (*delegate) LocalState(bool) []byte          { return nil }
func (*delegate) MergeRemoteState([]byte, bool)   {}

// NotifyJoin and NotifyUpdate report a living peer.
func (d *delegate) NotifyJoin(n *memberlist.Node)   { d.note(n, muster.PeerAlive) }
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.note(n, muster.PeerAlive) }

// NotifyLeave cannot tell a goodbye from a death by the node's state, which
// memberlist does not set here: the last facts say it.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	f, err := decodeFacts(n.Meta)
	switch {
	case err != nil:
		d.pool.lost(n.Name, muster.PeerFailed)
	case f.Restarting:
		d.note(n, muster.PeerRestarting)
	case f.Leaving:
		d.note(n, muster.PeerLeft)
	default:
		d.note(n, muster.PeerFailed)
	}
}

func (d *delegate) note(n *memberlist.Node, state muster.PeerState) {
	if n.Name == d.pool.cfg.ID {
		d.pool.took(n.Meta)
		return
	}
	f, err := decodeFacts(n.Meta)
	if err != nil {
		d.pool.complain(n.Name, n.Address(), err)
		return
	}
	peer := peerOf(n.Name, n.Address(), f)
	peer.State = state
	d.pool.saw(peer)
}

// NotifyAlive keeps out peers that are not understood or not of this cluster:
// memberlist goes on without that one.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	f, err := decodeFacts(n.Meta)
	if err != nil {
		d.pool.complain(n.Name, n.Address(), err)
		return fmt.Errorf("peer %s: %w", n.Name, err)
	}
	return d.pool.judge(n, f)
}

// NotifyMerge is asked on both sides before two pools exchange their lists. A
// peer that is not understood is left to NotifyAlive, so that it keeps no others
// apart.
func (d *delegate) NotifyMerge(nodes []*memberlist.Node) error {
	for _, n := range nodes {
		f, err := decodeFacts(n.Meta)
		if err != nil {
			continue
		}
		if err := d.pool.judge(n, f); err != nil {
			return err
		}
	}
	return nil
}

// judge refuses a peer of another cluster, and one whose ID a living peer (or
// this node) has at another address: the copy of a machine must not be mixed up
// with the machine.
func (p *Pool) judge(n *memberlist.Node, f Facts) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if own := p.facts.ClusterID; own != "" && f.ClusterID != "" && own != f.ClusterID {
		return fmt.Errorf("peer %s is of cluster %s, this is %s", n.Name, f.ClusterID, own)
	}
	if n.State != memberlist.StateAlive {
		return nil
	}
	if n.Name == p.cfg.ID && p.addr != "" && n.Address() != p.addr {
		p.meetTwinLocked(n, f)
		return fmt.Errorf("the ID %s of this node is in use at %s", n.Name, n.Address())
	}
	if known := p.peers[n.Name]; known.State == muster.PeerAlive && known.Gossip != n.Address() {
		return fmt.Errorf("the ID %s is in use at %s", n.Name, known.Gossip)
	}
	return nil
}

// meetTwinLocked decides which of two nodes with one ID is the copy: the one
// that started later, or of two that started at once the one with the greater
// address. The copy says so in Conflict; the original looks the copy up, so that
// it learns of the conflict, too.
func (p *Pool) meetTwinLocked(n *memberlist.Node, f Facts) {
	order := cmp.Or(cmp.Compare(f.Started, p.facts.Started), cmp.Compare(n.Address(), p.addr))
	if order > 0 {
		p.known[n.Address()] = time.Now()
		return
	}
	twin := peerOf(n.Name, n.Address(), f)
	twin.State = muster.PeerAlive
	select {
	case p.conflict <- twin:
	default:
	}
}

// AckPayload and NotifyPingComplete measure the round trip.
func (*delegate) AckPayload() []byte { return nil }

func (d *delegate) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, _ []byte) {
	d.pool.mu.Lock()
	defer d.pool.mu.Unlock()
	if peer, ok := d.pool.peers[n.Name]; ok {
		peer.RTT, peer.Seen = rtt, time.Now()
		d.pool.peers[n.Name] = peer
	}
}
