package gossip

import (
	"context"
	"log/slog"
	"maps"
	"time"

	"muster"
)

// saw notes what was seen of a peer. It runs under memberlist's locks: logging
// and writing are left to keepNotes.
func (p *Pool) saw(peer muster.Peer) {
	if peer.ID == p.cfg.ID {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before, known := p.peers[peer.ID]
	peer.RTT = before.RTT
	peer.Since, peer.Seen = before.Since, before.Seen
	if peer.State == muster.PeerAlive {
		peer.Seen = time.Now()
	}
	if before.State != peer.State {
		peer.Since = time.Now()
	}
	p.peers[peer.ID] = peer
	p.known[peer.Gossip] = time.Now()
	p.replaceLocked(peer)
	if peer.State == muster.PeerAlive {
		p.joined.give()
		p.tried.give()
	}
	if known && before.State == peer.State && before.Gossip == peer.Gossip {
		return
	}
	if before.Gossip != "" && before.Gossip != peer.Gossip {
		delete(p.known, before.Gossip)
	}
	p.noteLocked(peer)
}

func (p *Pool) noteLocked(peer muster.Peer) {
	p.newsLocked(func(log *slog.Logger) {
		log.Info("peer changed", "peer", peer.Name, "id", peer.ID, "state", string(peer.State), "at", peer.Gossip)
	})
}

// complain notes that a peer is not understood, once a minute.
func (p *Pool) complain(id, at string, err error) {
	if !p.odd.due(id) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.newsLocked(func(log *slog.Logger) { log.Warn("peer is ignored", "id", id, "at", at, "error", err) })
}

// newsLocked leaves something to be logged, if tell is not nil, and the known
// addresses to be written down.
func (p *Pool) newsLocked(tell func(*slog.Logger)) {
	if tell != nil {
		p.news = append(p.news, tell)
	}
	select {
	case p.noted <- struct{}{}:
	default:
	}
}

// lost notes that a peer is gone, by its memberlist name alone: what it told
// last may be beyond this version.
func (p *Pool) lost(id string, state muster.PeerState) {
	peer, known := p.Peer(id)
	if !known {
		return
	}
	peer.State = state
	p.saw(peer)
}

// keepNotes logs each change once and keeps the known addresses on disk.
func (p *Pool) keepNotes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.noted:
		}
		p.mu.Lock()
		news, addrs := p.news, maps.Clone(p.known)
		p.news = nil
		p.mu.Unlock()
		for _, tell := range news {
			tell(p.log)
		}
		p.keep(addrs)
	}
}

// replaceLocked notes the death of whoever was at a living peer's address
// before: a node that lost its disk comes back there under another ID, long
// before the old one's silence is noticed.
func (p *Pool) replaceLocked(peer muster.Peer) {
	for id, old := range p.peers {
		if peer.State == muster.PeerAlive && id != peer.ID && old.Gossip == peer.Gossip && old.State == muster.PeerAlive {
			old.State, old.Since = muster.PeerFailed, time.Now()
			p.peers[id] = old
			p.noteLocked(old)
		}
	}
}
