package fsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"muster"
)

// maxDetail is the longest detail of a result that is remembered with its key.
const maxDetail = 16 << 10

// apply is the whole meaning of a command. Refused says that it may have begun:
// the transaction is spoilt then, and the answer not remembered yet.
func (m Machine) apply(t *tables, o order) (res Result, refused bool, err error) {
	if res, seen := m.replay(o.index, o.c); seen {
		return res, false, nil
	}
	res, err = Result{Index: o.index}, o.bad
	if err == nil {
		res.ID, err = applier{t: t, index: o.index, at: o.at, by: o.c.By, detail: &res.Detail}.do(o.body)
	}
	if _, ok := errors.AsType[*muster.Error](err); ok {
		why := RefusalOf(err)
		res.Refused = &why
		return res, true, nil
	}
	if err == nil {
		m.remember(o.c, res)
	}
	return res, false, err
}

// replay answers a command whose key is known. The caller holds mu.
func (r *Registry) replay(index uint64, c Command) (Result, bool) {
	if c.Key == "" {
		return Result{}, false
	}
	seen := r.done.find(c.Key)
	switch {
	case seen == nil, seen.Digest == c.Digest && !seen.At.IsZero() && c.At.After(seen.At):
		return Result{}, false // asked anew after a refusal that was one for then
	case seen.Digest != c.Digest:
		return Result{Index: index, Refused: &Refusal{
			Kind: muster.Conflict, Code: "idempotency_key_reused",
			Message: "this Idempotency-Key was used with another body",
			Hint:    "send the same body, or a new key",
		}}, true
	default:
		return Result{Index: seen.Index, ID: seen.ID, Detail: seen.Detail, Refused: seen.Refused, Replayed: true}, true
	}
}

// remember keeps the result of a keyed command. The caller holds mu.
func (r *Registry) remember(c Command, res Result) {
	if c.Key == "" {
		return
	}
	row := &done{Key: c.Key, Digest: c.Digest, ID: res.ID, Refused: res.Refused, Index: res.Index}
	if len(res.Detail) <= maxDetail {
		row.Detail = res.Detail
	}
	if res.Refused != nil && res.Refused.passing() {
		row.At = c.At
	}
	r.done.keep(row)
}

// applier is one command at work on the tables, or a reader of them.
type applier struct {
	t      *tables
	index  uint64
	at     time.Time
	by     string           // principal
	detail *json.RawMessage // of the result
}

func (a applier) do(body any) (id string, err error) {
	switch b := body.(type) {
	case ClusterInit:
		return a.clusterInit(b), nil
	case NodeJoin:
		return a.nodeJoin(b)
	case NodeRegister:
		return a.nodeEnter(b, muster.StatusActive)
	case NodeOffer:
		return a.nodeOffer(b)
	case NodeObserve:
		a.nodeObserve(b)
	case NodeRemove:
		return a.nodeRemove(b)
	case HealthBatch:
		a.healthBatch(b)
	case NodeReseal:
		a.nodeReseal(b)
	case NodeLeave:
		return a.nodeLeave(b)
	case NodeUpdate:
		return a.nodeUpdate(b)
	case NodeDelete:
		return a.nodeDelete(b)
	case NodeRestore:
		return a.nodeRestore(b)
	case NodesSync:
		return "", a.nodesSync(b)
	case NodesCleanup:
		return "", a.nodesCleanup(b)
	case KeyCreate:
		return a.keyCreate(b)
	case KeyRevoke:
		return a.keyRevoke(b)
	case KeyRotate:
		return a.keyRotate(b)
	case NodeKey:
		return a.nodeKey(b)
	case CatalogSet:
		return a.catalogSet(b)
	case TxBegin:
		return a.txBegin(b)
	case TxClaim:
		return "", a.txClaim(b)
	case TxAdvance:
		return a.txAdvance(b)
	case TxOperate:
		return a.txOperate(b)
	case TxPurge:
		a.txPurge(b)
	case RunKey:
		return b.Job, nil // it is the key that is remembered
	default: // TermOpen: that it is committed is all it says
	}
	return "", nil
}

func (a applier) clusterInit(b ClusterInit) string {
	if a.t.settings != nil {
		return a.t.settings.ClusterID // another leader was first
	}
	a.t.settings = &settings{Row: settingsRow, ClusterID: b.ClusterID, Voters: b.Voters}
	return b.ClusterID
}

func (a applier) nodeJoin(b NodeJoin) (string, error) {
	old := a.t.nodes.row(b.ID)
	if old != nil && !old.Live {
		return "", Removed(old.Name, b.ID)
	}
	if old != nil && !bytes.Equal(old.PublicKey, b.PublicKey) {
		return "", muster.Errorf(muster.Conflict, "node %s is registered with another key", b.ID).
			WithCode("identity_in_use").WithHint("restore its data directory, or start with an empty one to join as a new node")
	}
	holder := a.holder(b.Slug, b.Name, b.ID)
	if holder != nil && holder.ID != b.TakeOver {
		return "", muster.Errorf(muster.Conflict, "the name %s belongs to node %s", b.Name, holder.ID).WithCode("name_in_use").
			WithHint("choose another --name, or remove the old node: muster cluster remove " + holder.Slug)
	}
	if holder != nil && holder.Index != b.HolderIndex {
		return "", muster.Errorf(muster.Unavailable, "node %s, which had the name %s, changed meanwhile", holder.ID, b.Name)
	}
	row := &node{
		ID: b.ID, Live: true, Kind: muster.KindAgent, Desired: muster.StatusActive, Weight: 1, CreatedAt: a.at,
	}
	if old != nil {
		fresh := *old
		row = &fresh
	}
	if holder != nil {
		row.Predecessor = holder.ID
		a.bury(holder)
	}
	row.Name, row.Slug, row.URL, row.Raft = b.Name, b.Slug, b.URL, b.Raft
	row.Capabilities, row.Metadata, row.Version, row.PublicKey = b.Capabilities, b.Metadata, b.Version, b.PublicKey
	row.Observed, row.ObservedAt, row.Left = muster.ObservedUp, a.at, false
	return a.putNode(row), nil
}

// Removed is what a node hears that was removed, or whose name was taken over.
func Removed(name, id string) *muster.Error {
	return muster.Errorf(muster.Forbidden, "node %s (%s) was removed from the cluster", name, id).
		WithCode("removed").WithHint("move its data directory away and start it again: it joins as a new node")
}

// nodeEnter enters an external node with its key.
func (a applier) nodeEnter(b NodeRegister, desired muster.Status) (string, error) {
	if holder := a.holder(b.Slug, b.Registration.Name, b.ID); holder != nil {
		return "", duplicate(holder)
	}
	g := b.Registration
	row := &node{
		ID: b.ID, Name: g.Name, Slug: b.Slug, Live: true, Kind: muster.KindExternal, URL: g.URL,
		Capabilities: g.Capabilities, Metadata: g.Metadata, Version: g.Version, Description: g.Description,
		Weight: 1, ReplicaOf: g.ReplicaOf, Desired: desired, CreatedAt: a.at,
		Sealed: b.Sealed,
	}
	set(&row.Weight, g.Weight)
	a.putNode(row)
	_, err := a.keyCreate(b.Key)
	return row.ID, err
}

func (a applier) nodeObserve(b NodeObserve) {
	for _, seen := range b.Nodes {
		old := a.t.nodes.row(seen.ID)
		if old == nil || !old.Live || old.Kind != muster.KindAgent {
			continue
		}
		row := *old
		row.Documents = seen.Documents
		if row.Observed == seen.Observed {
			a.t.nodes.put(&row) // a count alone is no change of the record
			continue
		}
		row.Observed, row.ObservedAt = seen.Observed, a.at
		a.putNode(&row)
	}
}

func (a applier) nodeRemove(b NodeRemove) (string, error) {
	row := a.holder(b.Slug, "", "")
	if row == nil || row.Kind != muster.KindAgent {
		return "", muster.Errorf(muster.NotFound, "no agent %s", b.Slug).WithHint("muster node list shows them")
	}
	a.bury(row)
	return row.ID, nil
}

func (a applier) keyCreate(b KeyCreate) (string, error) {
	if a.t.keys.row(b.ID) != nil {
		return "", muster.Errorf(muster.Conflict, "key %s exists", b.ID)
	}
	row := &key{
		ID: b.ID, Name: b.Name, Hash: b.Hash, Scopes: b.Scopes, MaxRisk: b.MaxRisk,
		NodeID: b.NodeID, CreatedAt: a.at, ExpiresAt: b.ExpiresAt, Targets: b.Targets, Filter: b.Filter,
	}
	if end := a.at.Add(b.ExpiresIn); b.ExpiresIn > 0 && (row.ExpiresAt == nil || end.Before(*row.ExpiresAt)) {
		row.ExpiresAt = &end
	}
	a.t.keys.put(row)
	return row.ID, nil
}

func (a applier) keyRevoke(b KeyRevoke) (string, error) {
	old := a.t.keys.row(b.ID)
	if old == nil {
		return "", muster.Errorf(muster.NotFound, "no key %s", b.ID)
	}
	if old.RevokedAt != nil && !old.Buried {
		return old.ID, nil
	}
	row := *old
	row.RevokedAt, row.Buried = &a.at, false
	a.t.keys.put(&row)
	return row.ID, nil
}

// holder finds the node in the registry that has a slug or a name, other than
// id.
func (a applier) holder(slug, name, id string) *node {
	for _, n := range append(a.t.nodes.under(bySlug, slug), a.t.nodes.under(byName, folded(name))...) {
		if n.Live && n.ID != id {
			return n
		}
	}
	return nil
}

// bury soft-deletes a node and revokes its keys.
func (a applier) bury(old *node) {
	row := *old
	row.Live, row.DeletedAt, row.Actions = false, &a.at, nil
	a.putNode(&row)
	if len(old.Actions) > 0 {
		a.sweepActions()
	}
	for _, k := range a.t.keys.under(byNode, row.ID) {
		if k.RevokedAt != nil {
			continue
		}
		own := *k
		own.RevokedAt, own.Buried = &a.at, true
		a.t.keys.put(&own)
	}
}

// putNode stores a node that this command changed, and returns its ID.
func (a applier) putNode(row *node) string {
	row.UpdatedAt, row.Index = a.at, a.index
	a.t.nodes.put(row)
	return row.ID
}
