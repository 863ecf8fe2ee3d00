package actions

import (
	"cmp"
	"maps"
	"slices"

	"muster"
)

// Merge makes one catalog of the lists of many nodes, by slug. An action of the
// same digest is one row that names its nodes; other versions of it are rows of
// their own. Rows are in order of name, version and digest.
func Merge(lists map[string][]muster.ActionInfo) []muster.ActionInfo {
	type key struct{ action, digest string }
	rows := map[key]muster.ActionInfo{}
	for _, slug := range slices.Sorted(maps.Keys(lists)) {
		for _, info := range lists[slug] {
			k := key{info.Action, info.Digest}
			row, known := rows[k]
			if !known {
				row = info
				row.Nodes = []string{}
			}
			if !slices.Contains(row.Nodes, slug) {
				row.Nodes = append(row.Nodes, slug)
			}
			rows[k] = row
		}
	}
	all := slices.AppendSeq(make([]muster.ActionInfo, 0, len(rows)), maps.Values(rows))
	slices.SortFunc(all, func(a, b muster.ActionInfo) int {
		return cmp.Or(cmp.Compare(a.Action, b.Action), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Digest, b.Digest))
	})
	return all
}
