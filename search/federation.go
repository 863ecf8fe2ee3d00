// Package search asks all nodes at once and makes one ranking of what they
// find, equal to that of one index holding all the documents. It never opens an
// index or a connection itself: both are behind Asker.
package search

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"muster"
)

// Asker reaches one node's index, over the wire or in this process. Errors are
// *muster.Error where a kind is known; the code generation_gone says that the
// pinned generation is no longer kept.
type Asker interface {
	// Pin keeps the index's present generation readable for as long as the
	// longest search, and returns its statistics.
	Pin(ctx context.Context, node muster.Node, q muster.ShardQuery) (muster.ShardStats, error)
	// Search answers a page of hits of a pinned generation.
	Search(ctx context.Context, node muster.Node, s muster.ShardSearch) (muster.ShardHits, error)
}

// Nodes is the registry.
type Nodes interface {
	// Nodes returns a copy of all nodes, deleted ones too.
	Nodes() []muster.Node
}

// Config is what a Federation needs to know.
type Config struct {
	Self        string       // this node's ID
	MaxParallel int          // calls at once in one phase of one search; must be at least 1
	Log         *slog.Logger // nil: no log
	Outside     Outsider     // nil: applications are missing from every answer
	Texts       Texts        // nil: applications' hits are merged by their place

	CacheBytes  uint64        // of answers kept in memory; 0: none are kept, none are shared
	CacheTTL    time.Duration // how long an answer is kept at most; 0 means 15 minutes
	Generations Generations   // needed for a cache
}

// Federation answers queries from all nodes. It is safe for concurrent use.
type Federation struct {
	cfg           Config
	nodes         Nodes
	local, remote Asker
	stopping      chan struct{}
	calls         sync.WaitGroup // searches, and calls that outlive theirs

	cache *cache // nil: no answers are kept

	mu      sync.Mutex
	stopped bool               // guarded by mu
	heard   map[string]last    // by node ID; guarded by mu
	flights map[string]*flight // by flightKey; guarded by mu
}

// New makes a Federation that asks cfg.Self through local and every other node
// through remote. It panics if cfg.MaxParallel is not set: the setting has one
// default, the agent's.
func New(cfg Config, nodes Nodes, local, remote Asker) *Federation {
	if cfg.MaxParallel < 1 {
		panic("search: MaxParallel must be at least 1")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := &Federation{
		cfg: cfg, nodes: nodes, local: local, remote: remote,
		stopping: make(chan struct{}), heard: map[string]last{}, flights: map[string]*flight{},
	}
	if cfg.CacheBytes > 0 && cfg.Generations != nil {
		f.cache = newCache(cfg.CacheBytes, cmp.Or(cfg.CacheTTL, defaultTTL))
	}
	return f
}

// Stop ends the searches under way, each with what it has, refuses new ones and
// waits until the last call to a node has returned or ctx ends.
func (f *Federation) Stop(ctx context.Context) error {
	f.mu.Lock()
	if !f.stopped {
		f.stopped = true
		close(f.stopping)
	}
	f.mu.Unlock()
	done := make(chan struct{})
	go func() {
		f.calls.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// begin counts a search in, so that calls.Wait has something to wait for.
func (f *Federation) begin() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return muster.Errorf(muster.Unavailable, "this node is stopping")
	}
	f.calls.Add(1)
	return nil
}

// Search asks every node in question and returns within the query's timeout, or
// ctx's if that is sooner, with what is there. The query is not changed. A wrong
// query is an Invalid error with Fields. When min_coverage or require is not met,
// both the answer and an Unavailable error with code "coverage" are returned. An
// answer may be shared with other callers: what its lists and maps hold must not
// be changed.
func (f *Federation) Search(ctx context.Context, q muster.Query) (muster.Answer, error) {
	started := time.Now()
	if err := f.begin(); err != nil {
		return muster.Answer{}, err
	}
	defer f.calls.Done()
	p, err := f.plan(q, muster.RightsOf(ctx))
	if err != nil {
		return muster.Answer{}, err
	}
	answer, err := f.find(ctx, p, q)
	if err != nil {
		return muster.Answer{}, err
	}
	answer.Query = q.Text
	answer.TookMs = time.Since(started).Milliseconds()
	return answer, p.enough(answer)
}

// fanOut asks the nodes, in two phases, within the time of the plan.
func (f *Federation) fanOut(ctx context.Context, p plan) muster.Answer {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	s := &run{f: f, plan: p}
	wait := s.askOutside(ctx, p.outsiders, p.limit, len(p.members) > 0)
	s.pin(ctx)
	s.collect(ctx, wait)
	return s.answer()
}

// member is one node that is asked, and what it said.
type member struct {
	node    muster.Node
	asker   Asker
	down    bool // believed down, tried all the same
	docs    uint64
	stats   muster.ShardStats
	pinned  bool
	retried bool // after generation_gone
	took    time.Duration
	err     error // why it is missing, or why its hits end early

	answered bool
	matched  int
	list     list
	own      []muster.Hit // of an application, in its own order
	way      string       // how they were merged
}

// run is one search under way.
type run struct {
	f       *Federation
	plan    plan
	sums    muster.ShardStats
	inexact bool
	unlike  string // how hits of applications were merged; empty: there are none
	hits    []muster.Hit
}

// pin is phase one: it pins a generation on every node and sums the statistics.
// It leaves phase two at least 60 % of the time.
func (s *run) pin(ctx context.Context) {
	began := time.Now()
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)*2/5)
		defer cancel()
	}
	jobs := make([]job[muster.ShardStats], 0, len(s.plan.members))
	for _, m := range s.plan.members {
		asker, node, q := m.asker, m.node, s.plan.shard
		m.err = errNoAnswer
		jobs = append(jobs, job[muster.ShardStats]{m: m, down: m.down, do: func(ctx context.Context) (muster.ShardStats, error) {
			return asker.Pin(ctx, node, q)
		}})
	}
	for _, r := range fan(ctx, s.f, jobs) {
		r.m.took, r.m.err = r.took, r.err
		if r.err == nil && (r.value.IndexID == "" || r.value.ScoringID == "") {
			r.m.err = errNoIndex // it must not pass for an empty index
		}
		if r.m.err == nil {
			r.m.pinned, r.m.stats, r.m.docs = true, r.value, r.value.Docs
		}
	}
	for _, m := range s.plan.members {
		if errors.Is(m.err, errNoAnswer) {
			m.took = time.Since(began)
		}
		m.err = m.believed(m.err)
	}
	s.sum()
}

// sum adds up the statistics of all nodes that score alike.
func (s *run) sum() {
	s.sums = muster.ShardStats{
		ScoringID: s.scoringID(), Tokens: map[string]uint64{}, DF: map[string]map[string]uint64{},
	}
	keys := map[string]bool{}
	for _, m := range s.plan.members {
		if !m.pinned {
			continue
		}
		s.f.remember(m.node.ID, m.stats)
		if m.stats.ScoringID != s.sums.ScoringID {
			m.pinned, m.err = false, errScoring
			continue
		}
		s.sums.Docs += m.stats.Docs
		for field, n := range m.stats.Tokens {
			s.sums.Tokens[field] += n
		}
		for field, terms := range m.stats.DF {
			if s.sums.DF[field] == nil {
				s.sums.DF[field] = make(map[string]uint64, len(terms))
			}
			for term, n := range terms {
				s.sums.DF[field][term] += n
			}
		}
		for _, key := range m.stats.Keys {
			keys[key] = true
		}
		// An empty index has answered already.
		m.answered, m.list.more = m.docs == 0, m.docs > 0
	}
	s.sums.Keys = slices.Sorted(maps.Keys(keys))
}

// scoringID is this node's own, or else that of most nodes.
func (s *run) scoringID() string {
	votes := map[string]int{}
	for _, m := range s.plan.members {
		if !m.pinned {
			continue
		}
		if m.node.ID == s.f.cfg.Self {
			return m.stats.ScoringID
		}
		votes[m.stats.ScoringID]++
	}
	best := ""
	for _, id := range slices.Sorted(maps.Keys(votes)) {
		if votes[id] > votes[best] {
			best = id
		}
	}
	return best
}

// page is one page of a node's hits.
type page struct {
	muster.ShardHits
	size    int
	restart *muster.ShardStats // the generation was pinned anew: earlier pages are void
}

// collect is phase two: it asks for pages until the result is full or nobody
// has more. outside waits for the applications, which are asked meanwhile.
func (s *run) collect(ctx context.Context, outside func()) {
	var short, shortOwn []*member
	for _, m := range s.plan.members {
		if m.list.more {
			short = append(short, m)
		}
	}
	size := s.plan.limit
	for {
		s.fetch(ctx, short, size)
		outside()
		var starved []int
		s.hits, starved = merge(s.lists(), s.plan.limit, s.plan.dedupe)
		if len(starved) == 0 {
			return
		}
		short, shortOwn = short[:0], shortOwn[:0]
		for _, i := range starved {
			if own := i - len(s.plan.members); own >= 0 {
				shortOwn = append(shortOwn, s.plan.outsiders[own])
			} else {
				short = append(short, s.plan.members[i])
			}
		}
		size = maxLimit
		outside = s.askOutside(ctx, shortOwn, size, len(short) > 0)
	}
}

// fetch asks each member for its next page. A member that does not answer has
// no more hits for this search.
func (s *run) fetch(ctx context.Context, members []*member, size int) {
	jobs := make([]job[page], 0, len(members))
	for _, m := range members {
		asker, node, retry := m.asker, m.node, !m.retried
		question := muster.ShardSearch{
			Query: s.plan.shard, Stats: s.sums, Generation: m.stats.Generation, IndexID: m.stats.IndexID,
			From: len(m.list.hits), Size: size, ContentLength: s.plan.contentLength,
		}
		m.list.more, m.err = false, errNoAnswer
		jobs = append(jobs, job[page]{m: m, do: func(ctx context.Context) (page, error) {
			return ask(ctx, asker, node, question, retry)
		}})
	}
	began := time.Now()
	replies := fan(ctx, s.f, jobs)
	for _, r := range replies {
		r.m.took += r.took
		if r.m.err = r.err; r.err == nil {
			s.accept(r.m, r.value)
		}
	}
	for _, m := range members {
		if m.err == nil {
			continue
		}
		s.inexact = true // its statistics count, its documents do not
		if errors.Is(m.err, errNoAnswer) {
			m.took += time.Since(began)
		}
	}
}

// ask gets a page. It pins the node again, once, if its generation is gone.
func ask(ctx context.Context, asker Asker, node muster.Node, question muster.ShardSearch, retry bool) (page, error) {
	hits, err := asker.Search(ctx, node, question)
	if err == nil || !retry || muster.CodeOf(err) != "generation_gone" || ctx.Err() != nil {
		return page{ShardHits: hits, size: question.Size}, err
	}
	stats, err := asker.Pin(ctx, node, question.Query)
	if err != nil {
		return page{}, err
	}
	if stats.ScoringID != question.Stats.ScoringID {
		return page{}, errScoring
	}
	question.Generation, question.IndexID, question.From = stats.Generation, stats.IndexID, 0
	hits, err = asker.Search(ctx, node, question)
	return page{ShardHits: hits, size: question.Size, restart: &stats}, err
}

func (s *run) accept(m *member, p page) {
	if p.restart != nil {
		if p.restart.IndexID != m.stats.IndexID || p.restart.Generation != m.stats.Generation {
			s.inexact = true // new documents under the sums of the old ones
		}
		m.retried, m.stats, m.docs, m.list.hits = true, *p.restart, p.restart.Docs, nil
		s.f.remember(m.node.ID, m.stats)
	}
	m.answered, m.matched = true, max(p.Matched, 0)
	for _, h := range p.Hits[:min(len(p.Hits), p.size)] {
		h.SourceNode, h.SourceNodeName, h.AlsoOn = m.node.Slug, m.node.Name, nil
		if h.Metadata == nil {
			h.Metadata = muster.Metadata{}
		}
		m.list.hits = append(m.list.hits, h)
	}
	m.list.more = len(p.Hits) >= p.size && len(m.list.hits) < m.matched
}

// answer says what was found and who took part.
func (s *run) answer() muster.Answer {
	a := muster.Answer{
		Count: len(s.hits), Results: s.hits, NodesAsked: len(s.plan.members) + len(s.plan.outsiders),
		NodeBreakdown: map[string]int{}, Nodes: slices.Clone(s.plan.skipped), Merge: mergeExact, Coverage: 1,
	}
	for _, h := range s.hits {
		a.NodeBreakdown[h.SourceNode]++
	}
	var asked, there uint64
	for _, m := range slices.Concat(s.plan.members, s.plan.outsiders) {
		asked += m.docs
		if m.answered {
			there += m.docs
			a.NodesSearched++
			a.TotalResults += m.matched
		}
		if m.err != nil {
			a.Partial = true
			s.f.cfg.Log.Debug("node missing from answer", "node", m.node.Slug, "err", m.err)
		}
		report := m.report()
		if len(m.own) > 0 {
			report.Merge = m.way
		}
		a.Nodes = append(a.Nodes, report)
	}
	if asked > 0 {
		a.Coverage = float64(there) / float64(asked)
	}
	switch {
	case s.unlike != "":
		a.Merge = s.unlike
	case s.inexact:
		a.Merge = mergeInexact
	}
	slices.SortFunc(a.Nodes, func(x, y muster.NodeReport) int { return cmp.Compare(x.Node, y.Node) })
	if a.Nodes == nil {
		a.Nodes = []muster.NodeReport{}
	}
	return a
}

func (m *member) report() muster.NodeReport {
	r := muster.NodeReport{
		Node: m.node.Slug, Status: "ok", TookMs: m.took.Milliseconds(), Matched: m.matched,
		Docs: m.docs, Generation: m.stats.Generation,
	}
	switch {
	case m.err != nil && m.answered:
		r.Status = "partial"
	case muster.CodeOf(m.err) == muster.CodeCircuitOpen:
		r.Status = muster.CodeCircuitOpen
	case m.err != nil && timedOut(m.err):
		r.Status = "timed_out"
	case m.err != nil:
		r.Status = "failed"
	case m.matched == 0:
		r.Status = "empty"
	}
	if m.err != nil {
		r.Error = m.err.Error()
	}
	return r
}
