package daemon

import (
	"muster"
	"muster/gossip"
	"muster/search/index"
)

// generations tells the cache of answers how far each node's index is: this
// node's own as it is now, those of others as gossip has them.
type generations struct {
	self string
	own  *index.Index
	pool *gossip.Pool
}

// Generation returns nothing for a peer that is not up: what it said last is no
// longer so, or soon will not be.
func (g generations) Generation(nodeID string) (indexID string, generation uint64) {
	if nodeID == g.self {
		indexID, generation, err := g.own.Present()
		if err != nil {
			return "", 0
		}
		return indexID, generation
	}
	peer, ok := g.pool.Peer(nodeID)
	if !ok || peer.State != muster.PeerAlive {
		return "", 0
	}
	return peer.IndexID, peer.Generation
}
