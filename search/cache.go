package search

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/maypok86/otter/v2"

	"muster"
)

const (
	partialTTL = time.Second // of answers that are not whole, or not exact
	sweepEvery = time.Minute
)

// saved is an answer that is kept. Nobody changes what is in it.
type saved struct {
	text    string
	answer  muster.Answer
	ids     []string // of the nodes asked
	marks   []mark   // by node: the state that answered, or else the last one known before
	there   []bool   // by node: its mark is the state that answered
	created time.Time
	expires time.Time
	hits    atomic.Uint64
}

// fresh reports whether a new search could not find more: no node's index has
// gone on since, and no node that was missing has been heard of.
func (s *saved) fresh(now []mark) bool {
	for i, was := range s.marks {
		switch {
		case !s.there[i] && now[i] != was:
			return false
		case s.there[i] && (now[i].indexID != was.indexID || now[i].generation > was.generation):
			return false
		}
	}
	return true
}

// cache keeps answers by the key of their request, up to a number of bytes.
// Those that are not asked for give way first.
type cache struct {
	ttl     time.Duration
	limit   uint64
	answers *otter.Cache[string, *saved]

	hits, misses, shared, stale atomic.Uint64

	mu    sync.Mutex
	swept time.Time // guarded by mu
}

func newCache(limit uint64, ttl time.Duration) *cache {
	return &cache{ttl: ttl, limit: limit, answers: otter.Must(&otter.Options[string, *saved]{
		MaximumWeight: limit,
		Weigher:       func(key string, s *saved) uint32 { return uint32(min(uint64(len(key))+s.size(), math.MaxUint32)) }, //nolint:gosec // it fits
		Executor:      func(do func()) { do() },                                                                            // no goroutines of its own
	})}
}

// load returns the answer to a request, and drops one that is out of date.
func (c *cache) load(key string, now []mark) (muster.Answer, bool) {
	s, ok := c.answers.GetIfPresent(key)
	if !ok {
		return muster.Answer{}, false
	}
	if time.Now().After(s.expires) || !s.fresh(now) {
		c.stale.Add(1)
		c.answers.Invalidate(key)
		return muster.Answer{}, false
	}
	s.hits.Add(1)
	c.hits.Add(1)
	a := s.answer
	a.Cached = true
	return a, true
}

// store keeps an answer with the states it is of. before is what was known of
// the members when they were asked.
func (c *cache) store(key, text string, a muster.Answer, members []*member, before []mark) {
	now := time.Now()
	s := &saved{text: text, answer: a, marks: slices.Clone(before), created: now}
	whole := !a.Partial && a.Merge == mergeExact && a.NodesAsked == len(members) // applications tell no generations
	for i, m := range members {
		there := m.answered && m.err == nil && m.stats.IndexID != ""
		if there {
			s.marks[i] = mark{m.stats.IndexID, m.stats.Generation}
		}
		s.ids, s.there = append(s.ids, m.node.ID), append(s.there, there)
		whole = whole && there
	}
	ttl := c.ttl
	if !whole {
		ttl = min(ttl, partialTTL)
	}
	s.expires = now.Add(ttl)
	c.answers.Set(key, s)
	c.sweep(now)
}

// sweep gives back, once in a while, the memory of what has expired.
func (c *cache) sweep(now time.Time) {
	c.mu.Lock()
	due := now.Sub(c.swept) >= sweepEvery
	if due {
		c.swept = now
	}
	c.mu.Unlock()
	if !due {
		return
	}
	for key, s := range c.answers.All() {
		if now.After(s.expires) {
			c.answers.Invalidate(key)
		}
	}
}

// size is about how many bytes of memory an answer holds.
func (s *saved) size() uint64 {
	const each = 80 // of a small allocation or a map's cell, with what it costs besides
	n := int(unsafe.Sizeof(*s)) + len(s.text)
	for i := range s.ids {
		n += each + len(s.ids[i]) + len(s.marks[i].indexID) + int(unsafe.Sizeof(mark{}))
	}
	for _, r := range s.answer.Nodes {
		n += int(unsafe.Sizeof(r)) + each + len(r.Error)
	}
	for _, h := range s.answer.Results {
		n += int(unsafe.Sizeof(h)) + 2*each
		n += len(h.ID) + len(h.Title) + len(h.Content) + len(h.URL) + len(h.Collection)
		for _, slug := range h.AlsoOn {
			n += each + len(slug)
		}
		for key, value := range h.Metadata {
			n += 2*each + len(key) + len(value)
		}
	}
	return uint64(n) //nolint:gosec // not negative
}

// Cached describes the answers kept at this node, at most limit of them with a
// hash above after, by hash; a limit of 0 gives the counts alone. There are none
// without a cache.
func (f *Federation) Cached(after string, limit int) muster.SearchCache {
	state := muster.SearchCache{Entries: []muster.CachedAnswer{}}
	c := f.cache
	if c == nil {
		return state
	}
	now := time.Now()
	for key, s := range c.answers.All() {
		if now.After(s.expires) {
			continue
		}
		state.Total++
		if key > after && limit > 0 {
			state.Entries = append(state.Entries, muster.CachedAnswer{
				QueryHash: key, Query: s.text, NodeIDs: s.ids, CreatedAt: s.created, ExpiresAt: s.expires,
				Hits: s.hits.Load(), Bytes: uint64(len(key)) + s.size(),
			})
		}
	}
	slices.SortFunc(state.Entries, func(a, b muster.CachedAnswer) int { return cmp.Compare(a.QueryHash, b.QueryHash) })
	if len(state.Entries) > limit {
		state.Entries = state.Entries[:limit]
		state.Cursor = state.Entries[limit-1].QueryHash
	}
	state.Bytes, state.MaxBytes = c.answers.WeightedSize(), c.limit
	state.Hits, state.Misses, state.Shared, state.Stale = c.hits.Load(), c.misses.Load(), c.shared.Load(), c.stale.Load()
	return state
}

// FlushCache forgets all answers kept at this node and returns how many there
// were.
func (f *Federation) FlushCache() (n int) {
	if f.cache == nil {
		return 0
	}
	for key := range f.cache.answers.Keys() {
		if _, there := f.cache.answers.Invalidate(key); there {
			n++
		}
	}
	return n
}
