package search

import (
	"context"
	"errors"
	"slices"
	"time"

	"muster"
)

// Outsider asks an application's own search. The error's code circuit_open says
// that it was not asked, because it failed too often.
type Outsider interface {
	Ask(ctx context.Context, node muster.Node, q muster.OwnQuery) (muster.OwnHits, error)
}

// Texts scores texts of hits that no index of ours holds, as if one did, and
// cuts their content. The order stays.
type Texts interface {
	Score(q muster.ShardQuery, sums muster.ShardStats, hits []muster.Hit, contentLength int) ([]muster.ShardHit, error)
}

// How hits of unlike sources come into one order.
const (
	mergeExact      = "exact"
	mergeInexact    = "inexact"
	mergeRescore    = "rescore"     // their text is scored with the summed statistics
	mergeRoundRobin = "round_robin" // by their place in their own order
	mergeRRF        = "rrf"         // by their places in rankings of the same documents
)

// ownContent is how many characters of content an application is asked for: as
// much as makes a score, not a whole book.
const ownContent = 4000

const errNoOutside = reason("this node cannot ask applications")

// question is what an application is asked.
func (p plan) question(size int) muster.OwnQuery {
	q := muster.OwnQuery{Query: p.shard.Text, Limit: size, Options: muster.OwnOptions{
		Fields: p.shard.Fields, Collections: p.shard.Collections, ContentLength: ownContent,
	}}
	if p.shard.Operator != "or" {
		q.Options.Operator = p.shard.Operator
	}
	return q
}

// askOutside begins to ask applications for their best hits, in parallel to all
// else. wait returns when they have answered or ctx ended; those believed to be
// down are given downGrace only, if anybody else was asked.
func (s *run) askOutside(ctx context.Context, members []*member, size int, others bool) (wait func()) {
	var up, down []job[muster.OwnHits]
	question := s.plan.question(size)
	for _, m := range members {
		node, outside := m.node, s.f.cfg.Outside
		m.err, m.list.more = errNoAnswer, false
		j := job[muster.OwnHits]{m: m, do: func(ctx context.Context) (muster.OwnHits, error) {
			return askOne(ctx, outside, node, question)
		}}
		if m.down {
			down = append(down, j)
		} else {
			up = append(up, j)
		}
	}
	began := time.Now()
	brief, giveUp := context.WithCancel(ctx)
	fromUp, fromDown := make(chan []reply[muster.OwnHits], 1), make(chan []reply[muster.OwnHits], 1)
	s.f.calls.Go(func() { fromUp <- fan(ctx, s.f, up) })
	s.f.calls.Go(func() { fromDown <- fan(brief, s.f, down) })
	return func() {
		s.hear(<-fromUp, size)
		if others || len(up) > 0 {
			timer := time.AfterFunc(downGrace-time.Since(began), giveUp)
			defer timer.Stop()
		}
		s.hear(<-fromDown, size)
		giveUp()
		for _, m := range members {
			if errors.Is(m.err, errNoAnswer) {
				m.took += time.Since(began)
			}
			m.err = m.believed(m.err)
		}
	}
}

// askOne asks one application. An error after the deadline is that it passed.
func askOne(ctx context.Context, outside Outsider, node muster.Node, q muster.OwnQuery) (muster.OwnHits, error) {
	if outside == nil {
		return muster.OwnHits{}, errNoOutside
	}
	hits, err := outside.Ask(ctx, node, q)
	if err != nil && ctx.Err() != nil {
		err = errNoAnswer
	}
	return hits, err
}

// hear takes in what applications answered.
func (s *run) hear(replies []reply[muster.OwnHits], size int) {
	for _, r := range replies {
		r.m.took += r.took
		if r.m.err = r.err; r.err == nil {
			s.takeOwn(r.m, r.value, size)
		}
	}
}

// takeOwn keeps the hits of an application that are in the collections asked
// for. One that does not say how many documents it has counts for none.
func (s *run) takeOwn(m *member, got muster.OwnHits, size int) {
	if got.Documents != nil {
		m.docs = *got.Documents
		s.f.remember(m.node.ID, muster.ShardStats{Docs: m.docs})
	}
	got.Hits = got.Hits[:min(len(got.Hits), size)]
	m.answered, m.matched = true, max(got.Matched, len(got.Hits))
	m.list.more = len(got.Hits) == size && size < maxLimit && m.matched > size
	in := s.plan.shard.Collections
	m.own = slices.DeleteFunc(slices.Clone(got.Hits), func(h muster.Hit) bool {
		return len(in) > 0 && !slices.Contains(in, h.Collection)
	})
	for i := range m.own {
		h := &m.own[i]
		h.SourceNode, h.SourceNodeName, h.AlsoOn = m.node.Slug, m.node.Name, nil
	}
}

// rank scores what applications found and says how: by the text, if documents
// of ours give statistics to score it with, else by its place.
func (s *run) rank() {
	s.unlike = ""
	for _, m := range s.plan.outsiders {
		if m.list.hits = nil; len(m.own) == 0 {
			continue
		}
		scored, err := s.score(m.own)
		if err != nil {
			s.f.cfg.Log.Debug("text of hits cannot be scored", "node", m.node.Slug, "err", err)
		}
		if err != nil || s.sums.Docs == 0 || oneOf(s.plan.merge, mergeRoundRobin, mergeRRF) {
			s.unlike = mergeRoundRobin
		} else if s.unlike == "" {
			s.unlike = mergeRescore
		}
		m.list.hits = scored
	}
	if s.unlike != mergeRescore {
		return
	}
	for _, m := range s.plan.outsiders {
		slices.SortStableFunc(m.list.hits, func(a, b muster.ShardHit) int { return byRank(a.Hit, b.Hit) })
	}
}

func (s *run) score(own []muster.Hit) ([]muster.ShardHit, error) {
	if s.f.cfg.Texts == nil {
		return bare(own), errNoIndex
	}
	scored, err := s.f.cfg.Texts.Score(s.plan.shard, s.sums, own, s.plan.contentLength)
	if err != nil {
		return bare(own), err
	}
	return scored, nil
}

// bare are hits as they came.
func bare(own []muster.Hit) []muster.ShardHit {
	out := make([]muster.ShardHit, 0, len(own))
	for _, h := range own {
		out = append(out, muster.ShardHit{Hit: h})
	}
	return out
}

// lists are all lists in one order that can be merged: that of scores, or that
// of places, where the agents' ranking is one source and each application one.
func (s *run) lists() []*list {
	s.rank()
	agents, own := listsOf(s.plan.members), listsOf(s.plan.outsiders)
	for _, m := range s.plan.outsiders {
		m.way = s.unlike
	}
	if s.unlike == mergeRoundRobin {
		agents, own = placed(agents), s.inTurn(agents)
	}
	return slices.Concat(agents, own)
}

// inTurn are the applications' lists by place: replicas of one another are one
// source, whose rankings are fused. If there is no other source, that is all.
func (s *run) inTurn(agents []*list) []*list {
	byMember, sources := map[*member]*list{}, 0
	for _, l := range agents {
		sources += min(len(l.hits), 1)
	}
	fusion := false
	for _, group := range groups(s.plan.outsiders) {
		lists := listsOf(group)
		found := slices.ContainsFunc(lists, func(l *list) bool { return len(l.hits) > 0 })
		if found {
			sources++
		}
		if len(group) > 1 {
			lists, fusion = fused(lists), true
		} else {
			lists = placed(lists)
		}
		for i, m := range group {
			byMember[m] = lists[i]
			if len(group) > 1 {
				m.way = mergeRRF
			}
		}
	}
	if sources == 1 && fusion {
		s.unlike = mergeRRF
	}
	own := make([]*list, 0, len(byMember))
	for _, m := range s.plan.outsiders {
		own = append(own, byMember[m])
	}
	return own
}

func listsOf(members []*member) []*list {
	lists := make([]*list, 0, len(members))
	for _, m := range members {
		lists = append(lists, &m.list)
	}
	return lists
}

// placed is a copy of lists that are one source: the score of a hit is 1/n for
// the nth of the source.
func placed(lists []*list) []*list {
	type spot struct{ list, hit int }
	var spots []spot
	out := make([]*list, len(lists))
	for i, l := range lists {
		out[i] = &list{hits: slices.Clone(l.hits), more: l.more}
		for j := range l.hits {
			spots = append(spots, spot{i, j})
		}
	}
	if len(lists) > 1 {
		slices.SortStableFunc(spots, func(a, b spot) int {
			return byRank(lists[a.list].hits[a.hit].Hit, lists[b.list].hits[b.hit].Hit)
		})
	}
	for n, at := range spots {
		out[at.list].hits[at.hit].Score = 1 / float64(n+1)
	}
	return out
}

// believed is why a member is missing: one believed down is, unless it was not
// asked at all.
func (m *member) believed(err error) error {
	if m.down && err != nil && muster.CodeOf(err) != muster.CodeCircuitOpen {
		return errDown
	}
	return err
}
