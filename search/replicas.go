package search

import (
	"cmp"
	"slices"

	"muster"
)

// rrfRank is the constant of reciprocal rank fusion (Cormack, Clarke and
// Büttcher, SIGIR 2009).
const rrfRank = 60

// groups are the applications that hold the same documents, by replica_of, in
// the order of the first of each.
func groups(outsiders []*member) (out [][]*member) {
	origin := func(m *member) string { return cmp.Or(m.node.ReplicaOf, m.node.Slug) }
	for _, m := range outsiders {
		i := slices.IndexFunc(out, func(g []*member) bool { return origin(g[0]) == origin(m) })
		if i < 0 {
			out = append(out, []*member{m})
			continue
		}
		out[i] = append(out[i], m)
	}
	return out
}

// fused is a copy of lists of the same documents that are one source: a document
// is worth the sum of 1/(60+n) over the lists in which it is the nth, and its
// hits score 1/n by its place among all. Copies score alike, so that they meet
// as duplicates.
func fused(lists []*list) []*list {
	worth, names := map[string]float64{}, []string{}
	for _, l := range lists {
		for i, h := range l.hits {
			name := sameDocument(h)
			if _, seen := worth[name]; !seen {
				names = append(names, name)
			}
			worth[name] += 1 / float64(rrfRank+i+1)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(worth[b], worth[a]), cmp.Compare(a, b))
	})
	place := map[string]int{}
	for i, name := range names {
		place[name] = i + 1
	}
	out := make([]*list, len(lists))
	for i, l := range lists {
		out[i] = &list{hits: slices.Clone(l.hits), more: l.more}
		for j := range out[i].hits {
			out[i].hits[j].Score = 1 / float64(place[sameDocument(l.hits[j])])
		}
		slices.SortStableFunc(out[i].hits, func(a, b muster.ShardHit) int { return byRank(a.Hit, b.Hit) })
	}
	return out
}

// sameDocument names a document alike on each node that has it.
func sameDocument(h muster.ShardHit) string {
	return cmp.Or(canonicalURL(h.URL), h.Collection+"\x00"+h.ID)
}
