// Package cluster is one raft member: its stores and transport, how it enters
// a cluster, what it does while it leads, and how writes reach the master from
// anywhere. It never speaks HTTP: what has to go to another node's HTTP server
// goes through Wire.
package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"muster"
	"muster/fsm"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// Peers is what gossip knows.
type Peers interface {
	Peers() []muster.Peer
	Peer(id string) (muster.Peer, bool)
}

// Wire reaches another agent's HTTP server.
type Wire interface {
	// Apply sends encoded commands to the master, for Cluster.Apply.
	Apply(ctx context.Context, to muster.Peer, commands []byte) ([]byte, error)
	// Join asks a node, which must be the master, to enter this one.
	Join(ctx context.Context, to muster.Peer, j muster.Joining) (muster.Joined, error)
	// ReadIndex asks the master for an index that covers all acknowledged writes.
	ReadIndex(ctx context.Context, to muster.Peer) (uint64, error)
}

// Prober tells whether the agent at a base URL answers with a node ID.
type Prober interface {
	Holds(ctx context.Context, url, id string) bool
}

// Vault seals the credentials of external nodes.
type Vault interface {
	Seal(owner, text string) ([]byte, error)
	Open(owner string, sealed []byte) (string, error)
	// Fresh reports whether the present secret sealed it.
	Fresh(sealed []byte) bool
}

// Config says who this member is and where it lives.
type Config struct {
	Dir      string // data directory; raft's files go into raft/ below it
	Bind     string // host:port of the raft listener
	Self     muster.Joining
	Voters   int  // wanted voters, if this node founds the cluster
	Expect   int  // found with this many others; 0: not
	Founding bool // no join address was given: found alone

	ServerTLS *tls.Config
	ClientTLS func(peerID string) *tls.Config
	Trusts    func(*x509.Certificate) bool // whether a peer's certificate holds now; nil: if it held at the handshake
	NewKey    func() (id, plain string, hash [32]byte)
	RenewKey  func(id string) (plain string, hash [32]byte)
	NewID     func() string
	CheckJoin func(muster.Joining) error // the joiner's proof that it has its key
	Promise   func(nodeID string)        // tells all others whom this node lets found the cluster

	Reign         func(ctx context.Context)          // what else the master does, until ctx ends; nil: nothing
	Opening       func(t muster.Tx) []muster.TxEvent // what the driver here would say first of a transaction; nil: nothing
	Vault         Vault
	NewCredential func() string                                                  // for calls to an external node
	Ping          func(ctx context.Context, n muster.Node) (muster.Vital, error) // an error: it is not well
	PingEvery     time.Duration                                                  // external nodes, by the master

	Log     *slog.Logger
	RaftLog hclog.Logger
}

// Cluster is this node's membership.
type Cluster struct {
	cfg   Config
	reg   *fsm.Registry
	peers Peers
	wire  Wire
	probe Prober
	log   *slog.Logger

	raft   *raft.Raft
	trans  *contacts
	stream *stream
	store  *raftboltdb.BoltStore
	logs   *keeper

	forwards gather[forwarded] // to the master
	readers  gather[reader]    // who ask how far the master is
	tellers  tellers
	notes    gather[noted] // of transactions, to the log

	shown   secrets   // keys, by the ID of the key or its node
	made    secrets   // credentials, by node ID
	refused complaint // of the one lead loop
	started time.Time
	leading atomic.Pointer[time.Time] // since when, nil while this node does not lead
	pulse   atomic.Pointer[pulse]     // nil while this node does not lead
	termed  atomic.Uint64             // the term this node opened as leader
	entered chan struct{}             // closed once this node is in the registry
	left    chan struct{}             // closed once this node left for good
	fatal   chan error                // at most one: why the node cannot go on
	cancel  context.CancelCauseFunc

	mu     sync.Mutex
	closed bool // guarded by mu: nothing new is begun in the background
	wg     sync.WaitGroup
}

var errStopped = errors.New("cluster member stopped")

// The raft timing: failover within about a second without any shortcut.
const (
	heartbeatTimeout = 500 * time.Millisecond
	electionTimeout  = 500 * time.Millisecond
	leaseTimeout     = 250 * time.Millisecond
	boltOpenTimeout  = 2 * time.Second
	snapshotsKept    = 2
	metricsEvery     = 5 * time.Second // what bbolt counts
)

// New makes a member; Start brings it up.
func New(cfg Config, reg *fsm.Registry, peers Peers, wire Wire, probe Prober) *Cluster {
	c := &Cluster{
		cfg: cfg, reg: reg, peers: peers, wire: wire, probe: probe, log: cfg.Log,
		entered: make(chan struct{}), left: make(chan struct{}), fatal: make(chan error, 1), cancel: func(error) {},
	}
	c.forwards = gather[forwarded]{do: c.forward, run: c.background, lost: c.unsent, full: tooMuch, most: forwardsAtOnce, linger: grace}
	c.readers = gather[reader]{do: c.confirm, run: c.background, lost: func(r reader) { r.done <- confirmed{err: errStopping()} }, most: 1}
	c.notes = gather[noted]{do: c.writeNotes, run: c.background, lost: func(n noted) { n.done <- applied{err: errStopping()} }, full: manyNotes, most: 1, pause: breath}
	c.tellers = tellers{by: map[string]*gather[committed]{}, make: func() *gather[committed] {
		return &gather[committed]{do: c.tellCommitted, run: c.background, lost: func(committed) {}, most: 1}
	}}
	return c
}

// Start opens the stores, starts raft and goes on entering the cluster in the
// background. Gossip must be up.
func (c *Cluster) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			c.cancel(err)
			err = errors.Join(err, c.close())
		}
	}()
	dir := filepath.Join(c.cfg.Dir, "raft")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	c.store, err = raftboltdb.New(raftboltdb.Options{
		Path:        filepath.Join(dir, "log.db"),
		BoltOptions: &bbolt.Options{Timeout: boltOpenTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
	})
	if err != nil {
		return fmt.Errorf("open log in %s: %w", dir, err)
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, c.cfg.RaftLog)
	if err != nil {
		return fmt.Errorf("open snapshots in %s: %w", dir, err)
	}
	c.stream, err = listen(c.cfg)
	if err != nil {
		return err
	}
	c.trans = newContacts(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		ServerAddressProvider: targets{self: c.cfg.Self, peers: c.peers, reg: c.reg},
		Stream:                c.stream, MaxPool: 3, Timeout: 2 * time.Second, Logger: c.cfg.RaftLog,
	}))
	loop, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	c.cancel = cancel
	c.logs = &keeper{LogStore: c.store, back: func() { c.background(func() { c.catchUp(loop) }) }}
	cache, err := raft.NewLogCache(cachedEntries, c.logs)
	if err != nil {
		return fmt.Errorf("make log cache: %w", err)
	}
	stateful, err := raft.HasExistingState(cache, c.store, snapshots)
	if err != nil {
		return fmt.Errorf("read raft state in %s: %w", dir, err)
	}
	c.raft, err = raft.NewRaft(c.raftConfig(), fsm.Machine{Registry: c.reg}, cache, c.store, snapshots, c.trans)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	c.started = time.Now()
	c.wg.Go(func() { c.watchLead(loop) })
	c.wg.Go(func() { c.store.RunMetrics(loop, metricsEvery) })
	c.wg.Go(func() { c.enter(loop, stateful) })
	return nil
}

func (c *Cluster) raftConfig() *raft.Config {
	cfg := raft.DefaultConfig()
	cfg.LocalID = raft.ServerID(c.cfg.Self.ID)
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = heartbeatTimeout, electionTimeout, leaseTimeout
	cfg.ShutdownOnRemove = false
	cfg.NoLegacyTelemetry = true
	cfg.BatchApplyCh = true // what comes together is written together
	cfg.TrailingLogs, cfg.SnapshotThreshold, cfg.MaxAppendEntries = keptEntries, snapshotAfter, sentEntries
	cfg.Logger = c.cfg.RaftLog
	return cfg
}

// HandOver gives leadership to another voter, if this node has it and there is
// one. The node goes on as a follower.
func (c *Cluster) HandOver(ctx context.Context) error {
	if c.raft.State() != raft.Leader || !c.othersVote() {
		return nil
	}
	if err := c.Transfer(ctx, ""); err != nil {
		c.log.Warn("hand leadership over", "error", err) // the others elect one without it
	}
	return nil
}

// Stop ends the loops and waits for what is under way, then shuts raft down:
// raft leaves entries unanswered that wait for the FSM when it does. The end of
// ctx ends the wait.
func (c *Cluster) Stop(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel(errStopped)
	if c.trans != nil {
		c.trans.end()
	}
	ended := make(chan struct{})
	go func() {
		c.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	return c.close()
}

// background runs what may outlive the call that began it. It is false once the
// member stops.
func (c *Cluster) background(do func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.wg.Go(do)
	}
	return !c.closed
}

func (c *Cluster) othersVote() bool {
	for _, s := range c.servers() {
		if s.Suffrage == raft.Voter && string(s.ID) != c.cfg.Self.ID {
			return true
		}
	}
	return false
}

// close takes down what Start raised, also after a failed start. What is set
// stays set: a late reader gets the error of what is shut down, not a nil.
func (c *Cluster) close() (err error) {
	if c.raft != nil {
		c.trans.end()
		c.trans.quiet()
		err = errors.Join(err, c.raft.Shutdown().Error())
	}
	switch {
	case c.trans != nil:
		err = errors.Join(err, c.trans.Close())
		c.trans.CloseStreams() // Close leaves idle ones open
	case c.stream != nil:
		err = errors.Join(err, c.stream.Close())
	}
	if c.store != nil {
		err = errors.Join(err, c.store.Close())
	}
	return err
}

// Entered is closed once this node is in the registry and its copy shows it.
func (c *Cluster) Entered() <-chan struct{} { return c.entered }

// Fatal gives the reason why this node cannot be part of the cluster, once.
func (c *Cluster) Fatal() <-chan error { return c.fatal }
