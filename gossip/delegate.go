package gossip

import (
	"bytes"
	"fmt"
	"log"
	"log/slog"
	"regexp"
	"sync"
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
	return d.pool.facts.encode()
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
	state := muster.PeerFailed
	if f, err := decodeFacts(n.Meta); err == nil && f.Restarting {
		state = muster.PeerRestarting
	} else if err == nil && f.Leaving {
		state = muster.PeerLeft
	}
	d.note(n, state)
}

func (d *delegate) note(n *memberlist.Node, state muster.PeerState) {
	f, err := decodeFacts(n.Meta)
	if err != nil {
		d.pool.log.Warn("peer is ignored", "id", n.Name, "at", n.Address(), "error", err)
		return
	}
	peer := peerOf(n.Name, n.Address(), f)
	peer.State = state
	d.pool.saw(peer)
}

// NotifyAlive keeps out peers of another cluster.
func (d *delegate) NotifyAlive(n *memberlist.Node) error { return d.judge(n) }

// NotifyMerge is asked on both sides before two pools exchange their lists.
func (d *delegate) NotifyMerge(nodes []*memberlist.Node) error {
	for _, n := range nodes {
		if err := d.judge(n); err != nil {
			return err
		}
	}
	return nil
}

// judge refuses a peer of another cluster, and one whose ID a living peer (or
// this node) has at another address: the copy of a machine must not be mixed up
// with the machine.
func (d *delegate) judge(n *memberlist.Node) error {
	f, err := decodeFacts(n.Meta)
	if err != nil {
		return fmt.Errorf("peer %s: %w", n.Name, err)
	}
	p := d.pool
	p.mu.Lock()
	own, known, addr := p.facts.ClusterID, p.peers[n.Name], p.addr
	p.mu.Unlock()
	if own != "" && f.ClusterID != "" && own != f.ClusterID {
		return fmt.Errorf("peer %s is of cluster %s, this is %s", n.Name, f.ClusterID, own)
	}
	if n.State != memberlist.StateAlive {
		return nil
	}
	if n.Name == p.cfg.ID && addr != "" && n.Address() != addr {
		peer := peerOf(n.Name, n.Address(), f)
		peer.State = muster.PeerAlive
		if p.joining.Load() > 0 {
			select {
			case p.conflict <- peer:
			default:
			}
		}
		return fmt.Errorf("the ID %s of this node is in use at %s", n.Name, n.Address())
	}
	if known.State == muster.PeerAlive && known.Gossip != n.Address() {
		return fmt.Errorf("the ID %s is in use at %s", n.Name, known.Gossip)
	}
	return nil
}

// AckPayload and NotifyPingComplete measure the round trip.
func (*delegate) AckPayload() []byte { return nil }

func (d *delegate) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, _ []byte) {
	d.pool.mu.Lock()
	defer d.pool.mu.Unlock()
	if peer, ok := d.pool.peers[n.Name]; ok {
		peer.RTT = rtt
		d.pool.peers[n.Name] = peer
	}
}

// libraryLog carries memberlist's log into slog: a message of one shape at
// most once a minute, since a dead peer would fill the disk.
type libraryLog struct {
	to   *slog.Logger
	mu   sync.Mutex
	last map[string]time.Time // guarded by mu
}

func newLibraryLog(to *slog.Logger) *log.Logger {
	return log.New(&libraryLog{to: to, last: map[string]time.Time{}}, "", 0)
}

const quiet = time.Minute

// Write takes one line.
func (l *libraryLog) Write(line []byte) (int, error) {
	size := len(line)
	line = bytes.TrimSpace(line)
	if rest, ok := bytes.CutPrefix(line, []byte("[ERR] ")); ok {
		if l.due(rest) {
			l.to.Warn("memberlist reports", "what", string(rest))
		}
		return size, nil
	}
	l.to.Debug("memberlist reports", "what", string(line))
	return size, nil
}

func (l *libraryLog) due(line []byte) bool {
	shape := string(regexp.MustCompile(`[0-9a-f]*[0-9][0-9a-f]*`).ReplaceAll(line, []byte("N")))
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.last[shape]) < quiet {
		return false
	}
	l.last[shape] = time.Now()
	return true
}
