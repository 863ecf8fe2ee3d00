package search

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"muster"
)

// request is all that an answer depends on besides the indexes.
type request struct {
	Query  muster.Query
	Rights muster.Rights
	Asked  []party
	Others []muster.NodeReport // skipped
}

// party is a node as an answer shows it.
type party struct {
	ID, Slug, Name string
	Down           bool
}

// key is equal for requests that have the same answer while no index changes.
// What only judges an answer is left out: each caller judges for itself.
func (p plan) key(q muster.Query, by muster.Rights) (string, error) {
	o := &q.Options
	o.Nodes, o.Local, o.Cache, o.MinCoverage, o.Require = nil, false, nil, 0, nil
	q.Text, q.Limit = strings.TrimSpace(p.shard.Text), p.limit
	o.TimeoutMs, o.ContentLength, o.Dedupe = int(p.timeout.Milliseconds()), &p.contentLength, &p.dedupe
	o.Operator, o.Language, o.Merge = p.shard.Operator, cmp.Or(o.Language, "en"), cmp.Or(o.Merge, "auto")
	o.Fields, o.Collections = set(o.Fields), set(o.Collections)
	by.Scopes = set(by.Scopes)
	r := request{Query: q, Rights: by}
	for _, m := range slices.Concat(p.members, p.outsiders) {
		r.Asked = append(r.Asked, party{m.node.ID, m.node.Slug, m.node.Name, m.down})
	}
	for _, s := range p.skipped {
		r.Others = append(r.Others, muster.NodeReport{Node: s.Node, Error: s.Error})
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// set is a list without order and repeats.
func set(list []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}
