package search

import (
	"maps"
	"slices"

	"muster"
)

// Generations knows how far the indexes of nodes are, without asking them.
type Generations interface {
	// Generation returns the state of a node's index as it was last heard of, of
	// this node's own as it is now. The index ID is empty if nothing is known, or
	// if it may be outdated because the node is not up.
	Generation(nodeID string) (indexID string, generation uint64)
}

// mark is one state of one index. The zero mark is a state that is not known.
type mark struct {
	indexID    string
	generation uint64
}

// last is what a node said when it last answered.
type last struct {
	mark
	docs uint64
}

// remember keeps what a node says of its index: how many documents count when
// it does not answer, and which state kept answers must not be older than.
func (f *Federation) remember(id string, stats muster.ShardStats) {
	f.mu.Lock()
	defer f.mu.Unlock()
	heard := last{mark{stats.IndexID, stats.Generation}, stats.Docs}
	if before := f.heard[id]; before.indexID == heard.indexID {
		heard.generation = max(heard.generation, before.generation) // answers overtake each other
	}
	f.heard[id] = heard
}

// known returns the number of documents a node was last seen with.
func (f *Federation) known(n muster.Node) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if heard, ok := f.heard[n.ID]; ok {
		return heard.docs
	}
	return n.Documents
}

// forget drops what is remembered of nodes that are gone from the registry.
func (f *Federation) forget(nodes []muster.Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.heard, func(id string, _ last) bool {
		return !slices.ContainsFunc(nodes, func(n muster.Node) bool { return n.ID == id && n.DeletedAt == nil })
	})
}

// marks returns the newest state known of each member's index.
func (f *Federation) marks(members []*member) []mark {
	now := make([]mark, len(members))
	for i, m := range members {
		now[i].indexID, now[i].generation = f.cfg.Generations.Generation(m.node.ID)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, m := range members {
		if heard, ok := f.heard[m.node.ID]; ok && m.node.ID != f.cfg.Self {
			now[i] = now[i].with(heard.mark)
		}
	}
	return now
}

// with joins what is told of an index with what it said itself. Of one index
// the higher generation is the newer one. Of two nobody can say which of them is
// there now, until both agree.
func (told mark) with(said mark) mark {
	if told.indexID != said.indexID {
		return mark{}
	}
	told.generation = max(told.generation, said.generation)
	return told
}
