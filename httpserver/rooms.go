package httpserver

import (
	"context"
	"time"

	"muster"
	"muster/httpserver/api"
)

// Auth tells who a caller is. Its errors are of kind Unauthorized.
type Auth interface {
	Key(ctx context.Context, plain string) (muster.Rights, error)

	// Call checks a signed call; key is its Idempotency-Key. It asks for the body
	// only when all else holds, so that nobody makes a node read for nothing; an
	// error of body is returned as it is.
	Call(token, method, path, key string, body func(Caller) ([]byte, error)) (Caller, error)
}

// Caller is who signed a call.
type Caller struct {
	Rights muster.Rights
	Node   string // ID of the node that signed: one of this cluster, or one that joins; empty: none
	CallID string // no other call has it
}

// Cluster is the registry and the raft member, as far as routes need them.
type Cluster interface {
	Writer
	Curation
	Registry
	Reader
	Membership
}

// Registry is this node's copy of the registry.
type Registry interface {
	Nodes() []muster.Node
	Node(id string) (muster.Node, bool)
	Sight() muster.Sight
}

// Writer changes the registry, wherever the master is.
type Writer interface {
	Renewer
	Register(ctx context.Context, w muster.Write, g muster.Registration) (muster.Registered, error)
	CreateKey(ctx context.Context, w muster.Write, spec muster.KeySpec) (muster.Key, error)
	RevokeKey(ctx context.Context, w muster.Write, id string) error
	RemovePeer(ctx context.Context, w muster.Write, slug string) error
}

// Renewer changes the secrets of keys.
type Renewer interface {
	RotateKey(ctx context.Context, w muster.Write, id string, overlap time.Duration) (muster.Key, error)
	NodeKey(ctx context.Context, w muster.Write, n muster.Node, keyID string, overlap time.Duration) (muster.Key, error)
}

// Reader says how far this node's copy is.
type Reader interface {
	Status() muster.ClusterStatus
	OldSeals() int // credentials that a secret about to go has sealed
	WaitIndex(ctx context.Context, index uint64) error
	Linearize(ctx context.Context) error
	Level(ctx context.Context) // waits a moment where this copy is known to lack something
}

// Members serves the calls of other nodes.
type Members interface {
	Join(ctx context.Context, j muster.Joining) (muster.Joined, error)
	Apply(ctx context.Context, from string, commands []byte) ([]byte, error)
	ReadIndex(ctx context.Context) (uint64, error)
}

// Documents is this node's index, for those who put things in.
type Documents interface {
	Add(ctx context.Context, ndjson []byte) (muster.Indexed, error)
	Get(ctx context.Context, collection, id string) (muster.Document, error)
	Delete(ctx context.Context, collection string, ids []string) (int, error)
}

// Engine is this node's index as a whole.
type Engine interface {
	Stats(ctx context.Context) (muster.IndexStats, error)
	Rebuild(ctx context.Context) error
	DeleteCollection(ctx context.Context, collection string) (int, error)
}

// Shard is this node's part of a federated search.
type Shard interface {
	Pin(ctx context.Context, q muster.ShardQuery) (muster.ShardStats, error)
	Search(ctx context.Context, s muster.ShardSearch) (muster.ShardHits, error)
}

// Searcher asks all nodes. It may return an answer and an error: what was
// found, and that it is less than was demanded.
type Searcher interface {
	Search(ctx context.Context, q muster.Query) (muster.Answer, error)
}

// Forwarder sends a request on to the node that is to do it, once.
type Forwarder interface {
	Forward(ctx context.Context, to muster.Node, by muster.Rights, r api.Request) (api.Response, error)
}

// Actions are those of this node. Admit says why an execution would be refused,
// Execute always returns what became of it; the end of its ctx kills it. Both
// check the rights.
type Actions interface {
	Infos() []muster.ActionInfo
	Admit(by muster.Rights, e muster.Execution) error
	Execute(ctx context.Context, by muster.Rights, e muster.Execution) muster.Result
}

// Catalog is the actions of all nodes. Missing are the slugs of those that did
// not answer.
type Catalog interface {
	Catalog(ctx context.Context) (all []muster.ActionInfo, missing []string)
}

// Runner runs an action on many nodes, as a job. A run with the ID of a job that
// is known is that one.
type Runner interface {
	// Run waits for the end of the job, or of ctx: then the job goes on.
	Run(ctx context.Context, by muster.Rights, r muster.Run) (muster.Job, error)

	// Begin does not wait at all.
	Begin(ctx context.Context, by muster.Rights, r muster.Run) (muster.Job, error)

	// Judge says why a run would be refused, and does nothing.
	Judge(by muster.Rights, r muster.Run) error
}

// Txs makes transactions, and hands on what operators say of them.
type Txs interface {
	PlanTx(ctx context.Context, by muster.Rights, p muster.TxPlan) (muster.Tx, error)
	BeginTx(ctx context.Context, w muster.Write, t muster.Tx) (muster.Tx, error)
	OperateTx(ctx context.Context, w muster.Write, id string, o muster.TxOrder) (muster.Tx, error)
}

// Book is this node's copy of the transactions.
type Book interface {
	Txs() []muster.Tx // the newest first
	Tx(id string) (muster.Tx, bool)
	Changed() <-chan struct{} // closed at the next change
}
