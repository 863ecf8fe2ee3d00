// Package fsm is the registry as a replicated value: nodes, keys and settings,
// changed only by commands from the raft log. It reads no clock, draws no
// random number and never touches the network: time comes in with the entry,
// IDs and secrets' hashes with the command, so that every copy becomes the same.
package fsm

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"muster"

	jsonv1 "github.com/go-json-experiment/json/v1"
	"golang.org/x/text/unicode/norm"
)

// commandVersion is the version of the command encoding this program writes
// and the newest it understands.
const commandVersion = 3

// Op names what a command does.
type Op string

// The operations.
const (
	OpClusterInit  Op = "cluster.init"
	OpTermOpen     Op = "term.open"
	OpNodeJoin     Op = "node.join"
	OpNodeRegister Op = "node.register"
	OpNodeObserve  Op = "node.observe"
	OpNodeRemove   Op = "node.remove"
	OpHealthBatch  Op = "health.batch"
	OpNodeReseal   Op = "node.reseal"
	OpNodeLeave    Op = "node.leave"
	OpNodeUpdate   Op = "node.update"
	OpNodeDelete   Op = "node.delete"
	OpNodeRestore  Op = "node.restore"
	OpNodesSync    Op = "nodes.sync"
	OpNodesCleanup Op = "nodes.cleanup"
	OpKeyCreate    Op = "key.create"
	OpKeyRevoke    Op = "key.revoke"
	OpKeyRotate    Op = "key.rotate"
	OpNodeKey      Op = "node.key"
	OpNodeOffer    Op = "node.offer"
	OpCatalogSet   Op = "catalog.set"
	OpTxBegin      Op = "tx.begin"
	OpTxClaim      Op = "tx.claim"
	OpTxAdvance    Op = "tx.advance"
	OpTxOperate    Op = "tx.operator"
	OpTxPurge      Op = "tx.purge"
	OpRunKey       Op = "run.key"
)

// Scope is what the caller of a command must hold; checked where it enters and
// again at the master. Those with the scope node are the master's own.
func (o Op) Scope() string {
	switch o {
	case OpNodeRegister, OpNodeKey, OpNodeUpdate, OpNodeDelete, OpNodeRestore, OpNodesSync, OpNodesCleanup:
		return muster.ScopeRegistry
	case OpNodeOffer:
		return muster.ScopePublic // it opens nothing until an operator says so
	case OpRunKey:
		return muster.ScopeAny // the node asked has judged the run; the key is the caller's own
	case OpKeyCreate, OpKeyRevoke, OpKeyRotate, OpNodeRemove, OpNodeLeave:
		return muster.ScopeAdmin
	case OpTxBegin, OpTxOperate:
		return muster.ScopeTx
	case OpCatalogSet, OpClusterInit, OpTermOpen, OpNodeJoin, OpNodeObserve, OpHealthBatch, OpNodeReseal, OpTxClaim, OpTxAdvance, OpTxPurge:
		return muster.ScopeNode
	default:
		return muster.ScopeNode
	}
}

// Command is one entry of the log. Key and Digest make it idempotent: a second
// command with the same Key and Digest changes nothing and gets the first
// one's result; another Digest is a conflict. At is the proposer's clock: it tells
// an earlier command with the same Key from a later one. What a command does goes by
// the time of its entry, see Stamp.
type Command struct {
	V      int             `json:"v"`
	Op     Op              `json:"op"`
	Key    string          `json:"key,omitempty"`
	Digest string          `json:"digest,omitempty"`
	At     time.Time       `json:"at"`
	By     string          `json:"by"`
	Body   json.RawMessage `json:"body"`
}

// NewCommand encodes a command of this program's version.
func NewCommand(op Op, at time.Time, by string, body any) (Command, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return Command{}, muster.Errorf(muster.Internal, "encode %s: %w", op, err)
	}
	return Command{V: commandVersion, Op: op, At: at.UTC(), By: by, Body: raw}, nil
}

// Result is what a command did. ID names the node or key concerned; Replayed
// says that an earlier command with the same key had done it already. Detail is
// what a command did to several nodes, or would have done when it is refused.
type Result struct {
	Index    uint64          `json:"index"`
	ID       string          `json:"id,omitempty"`
	Detail   json.RawMessage `json:"detail,omitempty"`
	Replayed bool            `json:"replayed,omitempty"`
	Refused  *Refusal        `json:"refused,omitempty"`
}

// Refusal is an error in the form it has on the wire between nodes.
type Refusal struct {
	Kind    muster.Kind         `json:"kind"`
	Code    string              `json:"code,omitempty"`
	Message string              `json:"message"`
	Hint    string              `json:"hint,omitempty"`
	Fields  map[string][]string `json:"fields,omitempty"`
}

// passing reports whether the same request may be granted later though nothing in
// it changed. Its key stands for the refusal only as long as it is the same
// command that comes again, not a later one.
func (f Refusal) passing() bool { return f.Kind == muster.Limited || f.Code == codeLocked }

// Err returns the refusal as an error, or nil.
func (r Result) Err() error {
	if r.Refused == nil {
		return nil
	}
	f := r.Refused
	return &muster.Error{Kind: f.Kind, Code: f.Code, Message: f.Message, Hint: f.Hint, Fields: f.Fields}
}

// RefusalOf is an error in that form.
func RefusalOf(err error) Refusal {
	if e, ok := errors.AsType[*muster.Error](err); ok {
		return Refusal{Kind: e.Kind, Code: e.Code, Message: e.Message, Hint: e.Hint, Fields: e.Fields}
	}
	return Refusal{Kind: muster.Internal, Message: err.Error()}
}

// Decode reads an encoded command and checks it, so that nothing gets into the
// log that the copies could not apply. Its errors are Malformed, Invalid, or
// Unsupported for a version or an operation this program does not know.
func Decode(raw []byte) (Command, error) {
	var all []Command // as it will be read among others: nothing in it may be nested any deeper
	err := jsonv1.Unmarshal(joined([][]byte{raw}), &all)
	if err != nil || len(all) != 1 {
		return Command{}, muster.Errorf(muster.Malformed, "command: %w", cmp.Or(err, errors.New("it is not one")))
	}
	c := all[0]
	_, err = c.decode()
	if errors.Is(err, errNotUnderstood) {
		return c, muster.Errorf(muster.Unsupported, "%w", err).WithHint("run the same version of muster on all nodes")
	}
	return c, err
}

// errNotUnderstood marks an entry that a newer program wrote. Going on without
// it would make this copy differ from the others.
var errNotUnderstood = errors.New("not understood")

// decode reads the body: one of the types below.
func (c Command) decode() (any, error) {
	if c.V < 1 || c.V > commandVersion {
		return nil, fmt.Errorf("command version %d, this program knows up to %d: start a newer muster: %w", c.V, commandVersion, errNotUnderstood)
	}
	switch c.Op {
	case OpClusterInit:
		return body[ClusterInit](c)
	case OpTermOpen:
		return body[TermOpen](c)
	case OpNodeJoin:
		return body[NodeJoin](c)
	case OpNodeRegister:
		return body[NodeRegister](c)
	case OpNodeOffer:
		return body[NodeOffer](c)
	case OpNodeObserve:
		return body[NodeObserve](c)
	case OpNodeRemove:
		return body[NodeRemove](c)
	case OpHealthBatch:
		return body[HealthBatch](c)
	case OpNodeReseal:
		return body[NodeReseal](c)
	case OpNodeLeave:
		return body[NodeLeave](c)
	case OpNodeUpdate:
		return body[NodeUpdate](c)
	case OpNodeDelete:
		return body[NodeDelete](c)
	case OpNodeRestore:
		return body[NodeRestore](c)
	case OpNodesSync:
		return body[NodesSync](c)
	case OpNodesCleanup:
		return body[NodesCleanup](c)
	case OpKeyCreate:
		return body[KeyCreate](c)
	case OpKeyRevoke:
		return body[KeyRevoke](c)
	case OpKeyRotate:
		return body[KeyRotate](c)
	case OpCatalogSet:
		return body[CatalogSet](c)
	case OpNodeKey:
		return body[NodeKey](c)
	case OpTxBegin:
		if err := TxFits(c.Body); err != nil {
			return nil, err
		}
		return body[TxBegin](c)
	case OpTxClaim:
		return body[TxClaim](c)
	case OpTxAdvance:
		return body[TxAdvance](c)
	case OpTxOperate:
		return body[TxOperate](c)
	case OpTxPurge:
		return body[TxPurge](c)
	case OpRunKey:
		return body[RunKey](c)
	default:
		return nil, fmt.Errorf("operation %q, which this program does not know: start a newer muster: %w", c.Op, errNotUnderstood)
	}
}

// body reads a body that says which of its fields may not be empty.
func body[T interface{ named() []string }](c Command) (any, error) {
	var b T
	if err := jsonv1.Unmarshal(c.Body, &b); err != nil {
		return nil, muster.Errorf(muster.Malformed, "body of %s: %w", c.Op, err)
	}
	if slices.Contains(b.named(), "") {
		return nil, muster.Errorf(muster.Invalid, "body of %s: an ID or a slug is empty", c.Op)
	}
	return b, nil
}

// TermOpen is the body of OpTermOpen: a new leader's first entry.
type TermOpen struct{}

// ClusterInit is the body of OpClusterInit: the first leader's words.
type ClusterInit struct {
	ClusterID string `json:"cluster_id"`
	Voters    int    `json:"voters"`
}

// NodeJoin is the body of OpNodeJoin. TakeOver names the dead holder of the
// name, if the master found one, and HolderIndex is the index of what it knew of
// it: if the holder's record changed since, it may have come back.
type NodeJoin struct {
	muster.Joining
	Slug        string `json:"slug"`
	TakeOver    string `json:"take_over,omitempty"`
	HolderIndex uint64 `json:"holder_index,omitempty"`
}

// NodeRegister is the body of OpNodeRegister: an external node, its key, and the
// credential it is called with, sealed.
type NodeRegister struct {
	ID           string              `json:"id"`
	Slug         string              `json:"slug"`
	Registration muster.Registration `json:"registration"`
	Key          KeyCreate           `json:"key"`
	Sealed       []byte              `json:"sealed,omitempty"`
}

// NodeObserve is the body of OpNodeObserve: what the master saw of agents.
type NodeObserve struct {
	Nodes []Observation `json:"nodes"`
}

// Observation is one change in what is seen of an agent.
type Observation struct {
	ID        string          `json:"id"`
	Observed  muster.Observed `json:"observed"`
	Documents uint64          `json:"documents"`
}

// NodeRemove is the body of OpNodeRemove: the slug of an agent.
type NodeRemove struct {
	Slug string `json:"slug"`
}

// KeyCreate is the body of OpKeyCreate.
type KeyCreate struct {
	ID        string      `json:"id"`
	Name      string      `json:"name"`
	Hash      [32]byte    `json:"hash"`
	Scopes    []string    `json:"scopes"`
	MaxRisk   muster.Risk `json:"max_risk,omitempty"`
	NodeID    string      `json:"node_id,omitempty"`
	ExpiresAt *time.Time  `json:"expires_at,omitempty"` // of the two ends, the earlier holds

	ExpiresIn time.Duration   `json:"expires_in,omitempty"` // from the entry's time; 0: no such end
	Targets   string          `json:"targets,omitempty"`
	Filter    muster.Metadata `json:"filter,omitempty"`
}

// KeyRevoke is the body of OpKeyRevoke.
type KeyRevoke struct {
	ID string `json:"id"`
}

func (TermOpen) named() []string       { return nil }
func (b ClusterInit) named() []string  { return []string{b.ClusterID} }
func (b NodeJoin) named() []string     { return []string{b.ID, b.Slug, b.Name} }
func (b NodeRegister) named() []string { return []string{b.ID, b.Slug, b.Key.ID} }
func (NodeObserve) named() []string    { return nil }
func (b NodeRemove) named() []string   { return []string{b.Slug} }
func (b KeyCreate) named() []string    { return []string{b.ID} }
func (b KeyRevoke) named() []string    { return []string{b.ID} }

// maxSlug is the longest slug, that of a DNS label.
const maxSlug = 63

// Slug makes a slug from a name: lower case, accents dropped, runs of anything
// but Latin letters and digits as one dash. It is empty when nothing is left.
func Slug(name string) string {
	var b strings.Builder
	dash := false
	for _, r := range norm.NFKD.String(strings.ToLower(name)) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			if dash && b.Len() > 0 {
				b.WriteByte('-')
			}
			dash = false
			b.WriteRune(r)
		case unicode.Is(unicode.Mn, r):
		default:
			dash = true
		}
	}
	s := b.String()
	if len(s) > maxSlug {
		s = s[:maxSlug]
	}
	return strings.TrimRight(s, "-")
}
