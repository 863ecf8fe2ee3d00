package fsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"muster"

	memdb "github.com/hashicorp/go-memdb"
)

// dedupeWindow is how many idempotency keys are remembered.
const dedupeWindow = 10_000

// maxDetail is the longest detail of a result that is remembered with its key.
const maxDetail = 16 << 10

// apply is the whole meaning of a command. Refused says that it may have begun:
// the transaction is spoilt then, and the answer not remembered yet.
func (r *Registry) apply(txn *memdb.Txn, index uint64, c Command) (res Result, refused bool, err error) {
	body, err := c.decode()
	if errors.Is(err, errNotUnderstood) {
		return Result{}, false, fmt.Errorf("log entry %d has %w", index, err)
	}
	if res, seen := replay(txn, index, c); seen {
		return res, false, nil
	}
	res = Result{Index: index}
	if err == nil {
		res.ID, err = applier{txn: txn, index: index, at: c.At, by: c.By, detail: &res.Detail}.do(body)
	}
	if _, ok := errors.AsType[*muster.Error](err); ok {
		why := RefusalOf(err)
		res.Refused = &why
		return res, true, nil
	}
	if err == nil {
		err = r.remember(txn, c, res)
	}
	return res, false, err
}

// replay answers a command whose key is known.
func replay(txn *memdb.Txn, index uint64, c Command) (Result, bool) {
	if c.Key == "" {
		return Result{}, false
	}
	seen := first[done](txn, tableDone, "id", c.Key)
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

// remember keeps the result of a keyed command, and forgets the oldest.
func (r *Registry) remember(txn *memdb.Txn, c Command, res Result) error {
	if c.Key == "" {
		return nil
	}
	row := &done{Key: c.Key, Digest: c.Digest, ID: res.ID, Refused: res.Refused, Index: res.Index, Order: fmt.Sprintf("%020d", res.Index)}
	if len(res.Detail) <= maxDetail {
		row.Detail = res.Detail
	}
	if res.Refused != nil && res.Refused.passing() {
		row.At = c.At
	}
	again := first[done](txn, tableDone, "id", c.Key) != nil
	if err := txn.Insert(tableDone, row); err != nil {
		return fmt.Errorf("remember key: %w", err)
	}
	if again {
		return nil
	}
	if r.kept < dedupeWindow {
		r.kept++
		return nil
	}
	oldest, err := txn.First(tableDone, "order")
	if err != nil {
		return fmt.Errorf("find oldest key: %w", err)
	}
	if err := txn.Delete(tableDone, oldest); err != nil {
		return fmt.Errorf("forget oldest key: %w", err)
	}
	return nil
}

// applier is one command at work in one transaction.
type applier struct {
	txn    *memdb.Txn
	index  uint64
	at     time.Time
	by     string           // principal
	detail *json.RawMessage // of the result
}

func (a applier) do(body any) (id string, err error) {
	switch b := body.(type) {
	case ClusterInit:
		return a.clusterInit(b)
	case NodeJoin:
		return a.nodeJoin(b)
	case NodeRegister:
		return a.nodeEnter(b, muster.StatusActive)
	case NodeOffer:
		return a.nodeOffer(b)
	case NodeObserve:
		return "", a.nodeObserve(b)
	case NodeRemove:
		return a.nodeRemove(b)
	case HealthBatch:
		return "", a.healthBatch(b)
	case NodeReseal:
		return "", a.nodeReseal(b)
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
		return "", a.txPurge(b)
	case RunKey:
		return b.Job, nil // it is the key that is remembered
	default: // TermOpen: that it is committed is all it says
		return "", nil
	}
}

func (a applier) clusterInit(b ClusterInit) (string, error) {
	if row := first[settings](a.txn, tableSettings, "id", settingsRow); row != nil {
		return row.ClusterID, nil // another leader was first
	}
	row := &settings{Row: settingsRow, ClusterID: b.ClusterID, Voters: b.Voters}
	return b.ClusterID, a.put(tableSettings, row)
}

func (a applier) nodeJoin(b NodeJoin) (string, error) {
	old := first[node](a.txn, tableNodes, "id", b.ID)
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
		if err := a.bury(holder); err != nil {
			return "", err
		}
	}
	row.Name, row.Slug, row.URL, row.Raft = b.Name, b.Slug, b.URL, b.Raft
	row.Capabilities, row.Metadata, row.Version, row.PublicKey = b.Capabilities, b.Metadata, b.Version, b.PublicKey
	row.Observed, row.ObservedAt, row.Left = muster.ObservedUp, a.at, false
	return row.ID, a.putNode(row)
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
	if err := a.putNode(row); err != nil {
		return "", err
	}
	if _, err := a.keyCreate(b.Key); err != nil {
		return "", err
	}
	return row.ID, nil
}

func (a applier) nodeObserve(b NodeObserve) error {
	for _, seen := range b.Nodes {
		old := first[node](a.txn, tableNodes, "id", seen.ID)
		if old == nil || !old.Live || old.Kind != muster.KindAgent {
			continue
		}
		row := *old
		row.Documents = seen.Documents
		put := func(row *node) error { return a.put(tableNodes, row) } // a count alone is no change of the record
		if row.Observed != seen.Observed {
			row.Observed, row.ObservedAt = seen.Observed, a.at
			put = a.putNode
		}
		if err := put(&row); err != nil {
			return err
		}
	}
	return nil
}

func (a applier) nodeRemove(b NodeRemove) (string, error) {
	row := a.holder(b.Slug, "", "")
	if row == nil || row.Kind != muster.KindAgent {
		return "", muster.Errorf(muster.NotFound, "no agent %s", b.Slug).WithHint("muster node list shows them")
	}
	return row.ID, a.bury(row)
}

func (a applier) keyCreate(b KeyCreate) (string, error) {
	if first[key](a.txn, tableKeys, "id", b.ID) != nil {
		return "", muster.Errorf(muster.Conflict, "key %s exists", b.ID)
	}
	row := &key{
		ID: b.ID, Name: b.Name, Hash: b.Hash, Scopes: b.Scopes, MaxRisk: b.MaxRisk,
		NodeID: b.NodeID, CreatedAt: a.at, ExpiresAt: b.ExpiresAt, Targets: b.Targets, Filter: b.Filter,
	}
	return row.ID, a.put(tableKeys, row)
}

func (a applier) keyRevoke(b KeyRevoke) (string, error) {
	old := first[key](a.txn, tableKeys, "id", b.ID)
	if old == nil {
		return "", muster.Errorf(muster.NotFound, "no key %s", b.ID)
	}
	if old.RevokedAt != nil && !old.Buried {
		return old.ID, nil
	}
	row := *old
	row.RevokedAt, row.Buried = &a.at, false
	return row.ID, a.put(tableKeys, &row)
}

// holder finds the node in the registry that has a slug or a name, other than
// id.
func (a applier) holder(slug, name, id string) *node {
	for _, n := range append(a.rows("slug", slug), a.rows("name", folded(name))...) {
		if n.Live && n.ID != id {
			return n
		}
	}
	return nil
}

// rows lists the nodes that an index has under some words.
func (a applier) rows(index string, words ...any) (out []*node) {
	it, err := a.txn.Get(tableNodes, index, words...)
	if err != nil {
		return nil
	}
	for raw := it.Next(); raw != nil; raw = it.Next() {
		if n, ok := raw.(*node); ok {
			out = append(out, n)
		}
	}
	return out
}

// bury soft-deletes a node and revokes its keys.
func (a applier) bury(old *node) error {
	row := *old
	row.Live, row.DeletedAt, row.Actions = false, &a.at, nil
	if err := a.putNode(&row); err != nil {
		return err
	}
	if err := a.sweepActions(); err != nil {
		return err
	}
	for _, k := range a.keysOf(row.ID) {
		if k.RevokedAt != nil {
			continue
		}
		own := *k
		own.RevokedAt, own.Buried = &a.at, true
		if err := a.put(tableKeys, &own); err != nil {
			return err
		}
	}
	return nil
}

// keysOf lists the keys that belong to a node.
func (a applier) keysOf(id string) (out []*key) {
	it, err := a.txn.Get(tableKeys, "node", id)
	if err != nil {
		return nil
	}
	for raw := it.Next(); raw != nil; raw = it.Next() {
		if k, ok := raw.(*key); ok {
			out = append(out, k)
		}
	}
	return out
}

func (a applier) putNode(row *node) error {
	row.UpdatedAt, row.Index = a.at, a.index
	return a.put(tableNodes, row)
}

func (a applier) put(table string, row any) error {
	if err := a.txn.Insert(table, row); err != nil {
		return fmt.Errorf("write %s: %w", table, err)
	}
	return nil
}
