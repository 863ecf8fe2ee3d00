package fsm

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"muster"
)

// NodeUpdate is the body of OpNodeUpdate: what of a node is to become different.
// Sealed is a new credential; it opens for the node with the ID Owner only.
type NodeUpdate struct {
	Slug   string            `json:"slug"`
	Seen   *uint64           `json:"seen,omitempty"` // the record's index that the caller knows
	Change muster.NodeChange `json:"change"`
	Owner  string            `json:"owner,omitempty"`
	Sealed []byte            `json:"sealed,omitempty"`
}

// NodeDelete is the body of OpNodeDelete: the node is soft-deleted, its name and
// slug are free, and its keys end.
type NodeDelete struct {
	Slug string  `json:"slug"`
	Seen *uint64 `json:"seen,omitempty"`
}

// NodeRestore is the body of OpNodeRestore: the deleted node that had a slug, the
// last one if there are several, or has an ID.
type NodeRestore struct {
	Slug string `json:"slug"`
}

// NodeLeave is the body of OpNodeLeave: an agent goes for good and keeps its
// record. It is no member of raft until it joins again.
type NodeLeave struct {
	ID string `json:"id"`
}

func (b NodeLeave) named() []string   { return []string{b.ID} }
func (b NodeUpdate) named() []string  { return []string{b.Slug} }
func (b NodeDelete) named() []string  { return []string{b.Slug} }
func (b NodeRestore) named() []string { return []string{b.Slug} }

func (a applier) nodeUpdate(b NodeUpdate) (string, error) {
	old, err := a.seen(b.Slug, b.Seen)
	if err != nil {
		return "", err
	}
	row := *old
	row.Capabilities = slices.Clone(old.Capabilities)
	if err := row.change(b.Change); err != nil {
		return "", err
	}
	if holder := a.holder(row.Slug, row.Name, row.ID); holder != nil {
		return "", duplicate(holder)
	}
	switch {
	case len(b.Sealed) == 0:
	case row.Kind != muster.KindExternal:
		return "", muster.FieldError("credential", "an agent has none: nodes know each other by their keys")
	case row.ID != b.Owner:
		return "", muster.Errorf(muster.Conflict, "another node is called %s since", b.Slug).WithCode("moved").WithHint("look at it again, then decide anew")
	default:
		row.Sealed = b.Sealed
	}
	if same(old, &row) && len(b.Sealed) == 0 {
		return row.ID, nil
	}
	return a.putNode(&row), nil
}

func (a applier) nodeDelete(b NodeDelete) (string, error) {
	row, err := a.seen(b.Slug, b.Seen)
	if err != nil {
		return "", err
	}
	a.bury(row)
	return row.ID, nil
}

func (a applier) nodeRestore(b NodeRestore) (string, error) {
	old := a.deleted(b.Slug)
	if old == nil {
		return "", muster.Errorf(muster.NotFound, "no deleted node %s", b.Slug).WithHint("muster node list --deleted shows them")
	}
	if holder := a.holder(old.Slug, old.Name, old.ID); holder != nil {
		return "", duplicate(holder).WithHint("rename or remove that one first: muster node update " + holder.Slug + " --name …")
	}
	row := *old
	row.Live, row.DeletedAt, row.Predecessor = true, nil, ""
	a.putNode(&row)
	for _, k := range a.t.keys.under(byNode, row.ID) {
		if !k.Buried {
			continue
		}
		own := *k
		own.RevokedAt, own.Buried = nil, false
		a.t.keys.put(&own)
	}
	return row.ID, nil
}

func (a applier) nodeLeave(b NodeLeave) (string, error) {
	old := a.t.nodes.row(b.ID)
	if old == nil || !old.Live || old.Kind != muster.KindAgent {
		return "", muster.Errorf(muster.NotFound, "no agent %s", b.ID)
	}
	row := *old
	row.Left, row.Observed, row.ObservedAt, row.Actions = true, muster.ObservedLeft, a.at, nil
	a.putNode(&row)
	a.sweepActions()
	return row.ID, nil
}

// seen finds the node that has a slug, if its record is the one that the caller
// knows.
func (a applier) seen(slug string, index *uint64) (*node, error) {
	n := a.holder(slug, "", "")
	switch {
	case n == nil:
		return nil, muster.Errorf(muster.NotFound, "no node %s", slug).WithHint("muster node list shows them")
	case index != nil && *index != n.Index:
		return nil, muster.Errorf(muster.Conflict, "node %s has changed: its index is %d, not %d", slug, n.Index, *index).
			WithCode("moved").WithHint("look at it again, then decide anew")
	default:
		return n, nil
	}
}

// deleted finds the last deleted node that had a slug, or the one with an ID. Of
// those that one entry deleted it is the youngest: IDs begin with the time.
func (a applier) deleted(slug string) (last *node) {
	for _, n := range a.t.nodes.under(bySlug, slug) {
		if !n.Live && (last == nil || n.Index >= last.Index) {
			last = n
		}
	}
	if n := a.t.nodes.row(slug); last == nil && n != nil && !n.Live {
		return n
	}
	return last
}

func duplicate(holder *node) *muster.Error {
	return muster.Errorf(muster.Conflict, "the name or slug is taken by node %s (%s)", holder.Name, holder.Slug).
		WithCode("duplicate").WithHint("choose another name, or give a slug of its own")
}

// change makes a row different. What an agent says of itself at every start is
// not an operator's to change.
func (n *node) change(c muster.NodeChange) error {
	own := map[string]bool{
		"name": c.Name != nil, "slug": c.Slug != nil, "url": c.URL != nil, "capabilities": c.Capabilities != nil,
		"metadata": c.Metadata != nil, "version": c.Version != nil,
	}
	bad := map[string][]string{}
	for field, given := range own {
		if given && n.Kind == muster.KindAgent {
			bad[field] = []string{"an agent says this of itself: change its settings and restart it"}
		}
	}
	if len(bad) > 0 {
		return &muster.Error{Kind: muster.Invalid, Message: "node " + n.Slug + " is an agent", Fields: bad}
	}
	set(&n.Name, c.Name)
	set(&n.Slug, c.Slug)
	set(&n.URL, c.URL)
	set(&n.Capabilities, c.Capabilities)
	set(&n.Version, c.Version)
	set(&n.Description, c.Description)
	set(&n.Weight, c.Weight)
	set(&n.ReplicaOf, c.ReplicaOf)
	set(&n.Desired, c.Status)
	n.Metadata = merged(n.Metadata, c.Metadata)
	if raw, err := json.Marshal(n.Metadata); c.Metadata != nil && (err != nil || len(raw) > muster.MaxMetadata) {
		return muster.FieldError("metadata", "would be over 16 KiB with what is there")
	}
	return nil
}

func set[T any](field, to *T) {
	if to != nil {
		*field = *to
	}
}

// merged lays changes over metadata; null removes a key (RFC 7396, but values
// are replaced whole).
func merged(old, changes muster.Metadata) muster.Metadata {
	if changes == nil {
		return old
	}
	fresh := muster.Metadata{}
	maps.Copy(fresh, old)
	maps.Copy(fresh, changes)
	for key, value := range changes {
		if strings.TrimSpace(string(value)) == "null" {
			delete(fresh, key)
		}
	}
	return fresh
}

// same reports whether nothing differs that an operator can set. What is quick to
// compare comes first: this runs for every change, on every node.
func same(old, fresh *node) bool {
	return old.Description == fresh.Description && old.Desired == fresh.Desired && old.Weight == fresh.Weight && old.Version == fresh.Version &&
		old.URL == fresh.URL && old.Name == fresh.Name && len(differences(old, fresh)) == 0
}

// differences lists, by field, what an operator can set and is not the same.
func differences(old, fresh *node) map[string]muster.FieldChange {
	out := map[string]muster.FieldChange{}
	from, to := old.settable(), fresh.settable()
	for field, before := range from {
		a, errA := json.Marshal(before)
		b, errB := json.Marshal(to[field])
		if errA != nil || errB != nil || string(a) != string(b) {
			out[field] = muster.FieldChange{From: a, To: b}
		}
	}
	return out
}

func (n *node) settable() map[string]any {
	v := n.view()
	return map[string]any{
		"name": v.Name, "slug": v.Slug, "url": v.URL, "capabilities": slices.Sorted(slices.Values(v.Capabilities)),
		"metadata": v.Metadata, "version": v.Version, "description": v.Description, "weight": v.Weight,
		"replica_of": v.ReplicaOf, "status": v.Desired,
	}
}
