package search

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"muster"
)

// list is what one node has found so far, in result order.
type list struct {
	hits []muster.ShardHit
	more bool // the node has further hits
}

// byRank is the result order: score descending, collection, ID, node slug.
func byRank(a, b muster.Hit) int {
	return cmp.Or(
		cmp.Compare(b.Score, a.Score),
		cmp.Compare(a.Collection, b.Collection),
		cmp.Compare(a.ID, b.ID),
		cmp.Compare(a.SourceNode, b.SourceNode),
	)
}

// entry is a hit and the list it came from.
type entry struct {
	hit  muster.ShardHit
	from int
}

// merge makes the first limit results of all lists. When a list that has more
// ends before the results are full, the rest would be a guess: then starved
// names all such lists.
func merge(lists []*list, limit int, dedupe bool) (results []muster.Hit, starved []int) {
	var all []entry
	left := make([]int, len(lists))
	for i, l := range lists {
		left[i] = len(l.hits)
		for _, h := range l.hits {
			all = append(all, entry{h, i})
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return byRank(a.hit.Hit, b.hit.Hit) })
	k := kept{results: make([]muster.Hit, 0, min(limit, len(all))), url: map[string]int{}, content: map[string]int{}}
	starved = dry(lists, left)
	for _, e := range all {
		full := len(k.results) == limit
		if !full && len(starved) > 0 || full && !dedupe {
			break
		}
		// Full results still take in their duplicates.
		if joined := dedupe && k.join(e.hit); !joined && !full {
			k.keep(e.hit)
		}
		left[e.from]--
		if left[e.from] == 0 && lists[e.from].more {
			starved = dry(lists, left)
		}
	}
	if len(k.results) == limit {
		starved = nil
	}
	for i := range k.results {
		also := k.results[i].AlsoOn
		slices.Sort(also)
		k.results[i].AlsoOn = slices.Compact(also)
	}
	return k.results, starved
}

// dry returns the lists that have more but nothing left here.
func dry(lists []*list, left []int) (dry []int) {
	for i, l := range lists {
		if l.more && left[i] == 0 {
			dry = append(dry, i)
		}
	}
	return dry
}

// kept are the results so far, with the first of them by URL and by content.
type kept struct {
	results      []muster.Hit
	url, content map[string]int
}

func (k *kept) keep(h muster.ShardHit) {
	hit := h.Hit
	hit.AlsoOn = []string{}
	i := len(k.results)
	k.results = append(k.results, hit)
	if u := canonicalURL(h.URL); u != "" {
		if _, ok := k.url[u]; !ok {
			k.url[u] = i
		}
	}
	if h.ContentKey != "" {
		if _, ok := k.content[h.ContentKey]; !ok {
			k.content[h.ContentKey] = i
		}
	}
}

// join adds h to the first kept hit it duplicates, if there is one.
func (k *kept) join(h muster.ShardHit) bool {
	i, byURL := k.url[canonicalURL(h.URL)]
	j, byContent := k.content[h.ContentKey]
	switch {
	case !byURL && !byContent:
		return false
	case !byURL, byContent && j < i:
		i = j
	}
	if first := &k.results[i]; first.SourceNode != h.SourceNode {
		first.AlsoOn = append(first.AlsoOn, h.SourceNode)
	}
	return true
}

// canonicalURL is the form in which two addresses of one page are equal. It is
// empty for an address without a host: "/about" is another page on each node.
func canonicalURL(text string) string {
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	if u.Host == "" && u.Opaque == "" {
		return ""
	}
	out := *u
	out.Scheme, out.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	out.Host = strings.TrimSuffix(out.Host, ":")
	switch out.Scheme {
	case "http":
		out.Host = strings.TrimSuffix(out.Host, ":80")
	case "https":
		out.Host = strings.TrimSuffix(out.Host, ":443")
	}
	if strings.HasSuffix(u.EscapedPath(), "/") { // not an escaped one
		out.Path, out.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
	}
	out.Fragment, out.RawFragment, out.ForceQuery = "", "", false
	return out.String()
}
