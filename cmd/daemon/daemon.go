// Package daemon raises and lowers one node. It is the only room that knows
// all the others by name; it has no rules of its own.
package daemon

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"muster"
	"muster/actions"
	"muster/actions/journal"
	"muster/actions/tx"
	"muster/cluster"
	"muster/cluster/trust"
	"muster/fsm"
	"muster/gossip"
	"muster/httpserver"
	"muster/httpserver/api"
	"muster/httpserver/metrics"
	"muster/httpserver/reqlog"
	"muster/search"
	"muster/search/index"

	"github.com/google/uuid"
)

// Daemon is one running node.
type Daemon struct {
	cfg    Config
	named  bool // the name or the data directory was given, so it stands
	log    *slog.Logger
	ring   *trust.Ring
	certs  *trust.Certificates
	public *pair // nil: none

	secretFile string     // empty: the secret came from the environment
	reloading  sync.Mutex // held while the secret and the certificate are read again
	turn       turn       // guarded by reloading
	id         trust.Identity
	pairs      *trust.Pairs
	reg        *fsm.Registry
	pool       *gossip.Pool
	member     *cluster.Cluster
	fatal      chan error
	defined    []actions.Definition
	executor   atomic.Pointer[actions.Executor] // nil until this node's actions are there
	redefined  chan struct{}                    // has one word when there may be others
	driver     *tx.Driver                       // set before raised is closed
	raised     chan struct{}

	requests   *reqlog.Log
	meters     *metrics.Metrics
	generation atomic.Uint64 // of the index
	documents  atomic.Uint64 // in the index

	uses uses

	undo []step
	wg   sync.WaitGroup
}

// step is one part that is up, and how it goes down.
type step struct {
	name string
	stop func(context.Context) error
}

// New checks the settings. Its errors are of kind Invalid.
func New(cfg Config, logs io.Writer) (*Daemon, error) {
	named := cfg.Name != "" || cfg.DataDir != ""
	cfg, err := cfg.Complete()
	if err != nil {
		return nil, err
	}
	level := slog.LevelInfo
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		return nil, flagError("log-level", "must be debug, info, warn or error")
	}
	opts := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewTextHandler(logs, opts)
	switch cfg.LogFormat {
	case "text":
	case "json":
		handler = slog.NewJSONHandler(logs, opts)
	default:
		return nil, flagError("log-format", "must be text or json")
	}
	return &Daemon{
		cfg: cfg, named: named, log: slog.New(handler), fatal: make(chan error, 4), redefined: make(chan struct{}, 1), raised: make(chan struct{}),
	}, nil
}

// Addr is where the node serves HTTP, as a base URL.
func (d *Daemon) Addr() string { return d.cfg.scheme() + d.cfg.AdvertiseHTTP }

// Gossip is the address that other agents join by.
func (d *Daemon) Gossip() string { return d.pool.Addr() }

// Fatal gives the reason when the node cannot go on.
func (d *Daemon) Fatal() <-chan error { return d.fatal }

// Welcoming is closed once others may join by this node: when it is in a
// cluster, or waits for them to found one.
func (d *Daemon) Welcoming() <-chan struct{} {
	if self, _ := d.pool.Peer(d.id.ID); self.Stateless && self.Expect > 1 {
		now := make(chan struct{})
		close(now)
		return now
	}
	return d.member.Entered()
}

// Left is closed once the node left the cluster for good.
func (d *Daemon) Left() <-chan struct{} { return d.member.Left() }

func (d *Daemon) left() bool {
	if d.member == nil {
		return false
	}
	select {
	case <-d.member.Left():
		return true
	default:
		return false
	}
}

func (d *Daemon) onStop(name string, stop func(context.Context) error) {
	d.undo = append(d.undo, step{name, stop})
}

// Stop takes the node down, in the opposite order it came up. A second Stop
// does nothing.
func (d *Daemon) Stop(ctx context.Context) (err error) {
	for _, s := range slices.Backward(d.undo) {
		if e := s.stop(ctx); e != nil {
			err = errors.Join(err, fmt.Errorf("stop %s: %w", s.name, e))
		}
	}
	d.undo = nil
	return err
}

// Start brings the node up. A failed start goes down the same stairs.
func (d *Daemon) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Stop(ctx))
		}
	}()
	if d.defined, err = d.define(); err != nil {
		return err
	}
	unlock, err := d.openDir()
	if err != nil {
		return err
	}
	d.onStop("data directory", func(context.Context) error { return unlock() })
	d.log = d.log.With("node", d.cfg.Name)
	if err := d.trust(); err != nil {
		return err
	}
	d.reg = fsm.New()
	clusterID, err := readID(d.cfg.DataDir)
	if err != nil {
		return err
	}
	if err := d.startMetrics(); err != nil {
		return err
	}
	if err := d.startGossip(ctx, clusterID); err != nil {
		return err
	}
	if err := d.raise(ctx); err != nil {
		return err
	}
	loop, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.onStop("watchers", func(context.Context) error {
		cancel()
		d.wg.Wait()
		return nil
	})
	d.wg.Go(func() { d.watch(loop) })
	d.wg.Go(func() { d.forget(loop) })
	d.wg.Go(func() { d.announce(loop, clusterID) })
	d.wg.Go(func() { d.offer(loop) })
	d.wg.Go(func() { d.watchFiles(loop) })
	return nil
}

// maxSuffix bounds how many agents of one host go by its name.
const maxSuffix = 99

// openDir opens the data directory. Agents that were not named go by the
// host's name: the second one gets -2, and so on.
func (d *Daemon) openDir() (func() error, error) {
	host, dir := d.cfg.Name, d.cfg.DataDir
	for n := 2; ; n++ {
		unlock, err := openDir(d.cfg.DataDir)
		if err == nil || d.named || muster.CodeOf(err) != codeLocked || n > maxSuffix {
			return unlock, err
		}
		d.cfg.Name, d.cfg.DataDir = fmt.Sprintf("%s-%d", host, n), fmt.Sprintf("%s-%d", dir, n)
	}
}

func (d *Daemon) startGossip(ctx context.Context, clusterID string) error {
	d.pool = gossip.New(gossip.Config{
		ID: d.id.ID, Bind: d.cfg.Gossip, Advertise: d.cfg.AdvertiseGossip, Join: d.cfg.Join, Keys: gossipKeys(d.ring.Secrets()),
		PeersFile: filepath.Join(d.cfg.DataDir, "peers.json"), Profile: d.cfg.Profile, Log: d.log,
		Facts: gossip.Facts{
			Name: d.cfg.Name, ClusterID: clusterID, Raft: d.cfg.AdvertiseRaft, HTTP: d.cfg.AdvertiseHTTP,
			Stateless: clusterID == "", Expect: d.cfg.Expect, TLS: d.cfg.TLS == tlsAuto, Secrets: fingerprints(d.ring.Secrets()),
		},
	})
	if err := d.pool.Start(ctx); err != nil {
		return err
	}
	d.onStop("gossip", func(ctx context.Context) error { return d.pool.Stop(ctx, !d.left()) })
	if clusterID == "" {
		return nil
	}
	// A copy of a machine must find out before its raft speaks for the original.
	select {
	case <-d.pool.Tried():
	case holder := <-d.pool.Conflict():
		return d.judge(ctx, holder)
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case holder := <-d.pool.Conflict():
		return d.judge(ctx, holder)
	default:
		return nil
	}
}

// judge asks the holder of this node's ID, who started before, whether it lives.
// If it does not answer, it is this node's own past: gossip will have it dead
// soon.
func (d *Daemon) judge(ctx context.Context, holder muster.Peer) error {
	dialer := newDialer(d.certs)
	defer dialer.CloseIdleConnections()
	if out := (&wire{http: dialer}); !out.Holds(ctx, holder.BaseURL(), d.id.ID) {
		return nil
	}
	return muster.Errorf(muster.Conflict, "the identity of this node (%s) is in use by a living node, %s at %s: was %s copied from it?",
		d.id.ID, holder.Name, holder.Gossip, d.cfg.DataDir).WithHint("start with an empty --data-dir to join as a new node")
}

// raise starts raft and, before it has found anybody, HTTP: a node answers at
// once, if only that it is not ready.
func (d *Daemon) raise(ctx context.Context) error {
	out, err := d.connect(ctx)
	if err != nil {
		return err
	}
	if err := d.startMember(ctx, out); err != nil {
		return err
	}
	docs, err := index.Open(filepath.Join(d.cfg.DataDir, "index"), index.Options{OnChange: d.changed})
	if err != nil {
		return err
	}
	d.onStop("index", func(context.Context) error { return docs.Close() })
	if stats, err := docs.Stats(ctx); err == nil {
		d.changed(stats.IndexID, stats.Generation, stats.Docs)
	}
	return d.serve(ctx, out, docs)
}

// connect opens the ways to other nodes, and the log that sees all calls.
func (d *Daemon) connect(ctx context.Context) (*wire, error) {
	dialer := newDialer(d.certs)
	if err := d.startRequests(ctx); err != nil {
		return nil, err
	}
	d.onStop("connections", func(context.Context) error {
		dialer.CloseIdleConnections()
		return nil
	})
	abroad := newTransport(d.cfg.loopback())
	d.onStop("connections to applications", func(context.Context) error {
		abroad.CloseIdleConnections()
		return nil
	})
	apps := &outside{vault: trust.Vault(d.ring.Secrets), http: &http.Client{Transport: abroad}, record: d.record, breakers: &api.Breakers{}}
	return &wire{ring: d.ring, id: d.id, pairs: d.pairs, http: dialer, peer: d.pool.Peer, record: d.record, apps: apps}, nil
}

// startMember starts raft.
func (d *Daemon) startMember(ctx context.Context, out *wire) error {
	meta, err := d.cfg.metadata()
	if err != nil {
		return err
	}
	caps := make([]muster.Capability, len(d.cfg.Capabilities))
	for i, c := range d.cfg.Capabilities {
		caps[i] = muster.Capability(c)
	}
	d.member = cluster.New(cluster.Config{
		Dir: d.cfg.DataDir, Bind: d.cfg.Raft, Voters: d.cfg.Voters, Expect: d.cfg.Expect,
		Founding: len(d.cfg.Join) == 0 && d.cfg.Expect <= 1, ServerTLS: d.certs.Mutual(), ClientTLS: d.certs.Client, Trusts: d.ring.Trusts,
		NewKey: trust.NewKey, RenewKey: trust.RenewKey, NewID: newID, Vault: out.apps.vault, NewCredential: trust.NewCredential,
		Ping: out.health, PingEvery: d.cfg.HealthInterval,
		CheckJoin: func(j muster.Joining) error { return trust.CheckJoin(j, d.id.ID, time.Now()) },
		Reign:     d.reign, Opening: d.opening,
		Promise: func(id string) { d.pool.SetFacts(func(f *gossip.Facts) { f.Promise = id }) },
		Log:     d.log, RaftLog: newRaftLog(d.log),
		Self: muster.Joining{
			ID: d.id.ID, Name: d.cfg.Name, URL: d.cfg.URL, Raft: d.cfg.AdvertiseRaft, Capabilities: caps,
			Metadata: meta, Version: muster.Version, PublicKey: d.id.PublicKey(),
		},
	}, d.reg, d.pool, out, out)
	if err := d.member.Start(ctx); err != nil {
		return err
	}
	d.onStop("cluster", d.member.Stop)
	return nil
}

// serve starts what works on the index and the registry, and HTTP before it.
func (d *Daemon) serve(ctx context.Context, out *wire, docs *index.Index) error {
	federation := search.New(search.Config{
		Outside: out.apps, Texts: docs,
		Self: d.id.ID, MaxParallel: d.cfg.MaxParallel, Log: d.log,
		CacheBytes: uint64(d.cfg.CacheSize), CacheTTL: d.cfg.CacheTTL, Generations: generations{d.id.ID, docs, d.pool},
	}, d.member, here{docs}, out)
	d.onStop("search", federation.Stop)
	d.meters.Add(measureCache(federation))
	d.meters.Add(d.measureCircuits(out.apps.breakers))
	book := journal.New(journal.Config{Path: filepath.Join(d.cfg.DataDir, "journal.db"), Over: d.reg.TxOver, Log: d.log})
	if err := book.Start(ctx); err != nil {
		return err
	}
	d.onStop("journal", book.Stop)
	spool, err := actions.OpenSpool(filepath.Join(d.cfg.DataDir, "outputs"))
	if err != nil {
		return err
	}
	executor, err := actions.NewExecutor(actions.ExecutorConfig{
		ID: d.id.ID, Definitions: d.defined, Own: d.cfg.Own, Docs: documents{docs}, Cache: federation, Journal: book, Steps: book, Seal: book.Seal, Spool: spool, Callers: ended{callers{d.reg}}, Log: d.log,
	})
	if err != nil {
		return err
	}
	executor.EndLeft()
	d.executor.Store(executor)
	list := catalog{self: d.id.ID, reg: d.reg, own: executor}
	runner := actions.NewRunner(actions.RunnerConfig{
		Self: d.id.ID, Callers: callers{d.reg}, Jobs: book, Seal: book.Seal, Outcomes: outcomes{d.id.ID, book, out}, Catalog: list, MaxParallel: d.cfg.MaxParallel, Log: d.log,
	}, d.member, executor, out)
	d.driver = tx.NewDriver(tx.Config{Self: d.id.ID, Parallel: d.cfg.MaxParallel, Callers: callers{d.reg}, Log: d.log}, d.member, d.reg, runner)
	close(d.raised)
	planner := tx.Planner{Scout: scout{Runner: runner, self: d.id.ID, own: executor, wire: out, asks: &asks{}, parallel: d.cfg.MaxParallel, journal: book.ID()}, NewID: newID, Misfits: actions.Misfits}
	proxies, err := d.cfg.trusted()
	if err != nil {
		return err
	}
	web := httpserver.New(httpserver.Config{
		Addr: d.cfg.HTTP, TLS: d.serverTLS(), ID: d.id.ID, Name: d.cfg.Name, Auth: d.gate(), Cluster: d.member, Keys: d.keys,
		Search: watched{federation, d.meters}, Cache: federation, Docs: documents{docs}, Engine: docs, Shard: docs, Forward: out,
		Actions: executor, Runner: runner, Jobs: runner, Executions: executor, RunKey: d.member.RunKey, Keyed: d.member.Keyed, Outcome: book.Outcome, EveryJob: everyJob(d.id.ID, d.member, out),
		Catalog: list, Txs: txs{planner, d.member}, Book: d.reg, JournalID: book.ID(),
		Pinger: d.member, Circuits: out.apps.breakers, Distant: !d.cfg.loopback(), Waiting: d.waiting, Record: d.record, Log: d.log,
		Usual: d.cfg.RequestTimeout, Trusted: proxies, Open: d.cfg.OpenRegistration,
		Peer:    func(ip netip.Addr) bool { return isPeer(d.pool, ip) },
		Metrics: d.meters.Text, MetricsOpen: d.cfg.MetricsOpen,
		Doctor:   d.doctor(out).Examine,
		Requests: requests{Log: d.requests, self: d.id.ID, nodes: d.member, wire: out},
	})
	if err := web.Start(ctx); err != nil {
		return err
	}
	d.onStop("http", web.Stop)
	d.onStop("actions", executor.Stop) // while HTTP still says what became of them
	d.onStop("runs", runner.Stop)
	runner.Resume(ctx)
	d.onStop("leadership", d.member.HandOver) // while HTTP still sends writes on to the next master
	return nil
}

// changed tells the others how far this node's index is.
func (d *Daemon) changed(indexID string, generation, docs uint64) {
	d.generation.Store(generation)
	d.documents.Store(docs)
	d.pool.SetFacts(func(f *gossip.Facts) { f.IndexID, f.Generation, f.Documents = indexID, generation, docs })
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

func (d *Daemon) entered() bool {
	select {
	case <-d.member.Entered():
		return true
	default:
		return false
	}
}

// waiting says what the node still waits for before it is ready.
func (d *Daemon) waiting() map[string]string {
	if d.entered() {
		return nil
	}
	why := "waiting for a cluster to join through " + fmt.Sprint(d.cfg.Join)
	if d.member.HasMaster() {
		why = "waiting for the master to enter this node"
	} else if d.cfg.Expect > 1 {
		why = fmt.Sprintf("waiting until %d agents see each other, or for a master", d.cfg.Expect)
	}
	return map[string]string{"cluster": why}
}

// watch passes on why the node cannot go on.
func (d *Daemon) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-d.member.Fatal():
			d.fatal <- err
			return
		case <-d.reg.Broken():
			d.fatal <- d.reg.Err()
			return
		case holder := <-d.pool.Conflict():
			if holder.HTTP == d.cfg.AdvertiseHTTP {
				continue // this node itself would answer
			}
			if err := d.judge(ctx, holder); err != nil {
				d.fatal <- err
				return
			}
		}
	}
}

// announce tells the cluster's ID to the data directory and to gossip, once it
// is known.
func (d *Daemon) announce(ctx context.Context, known string) {
	for {
		changed := d.reg.Changed()
		if id := d.reg.ClusterID(); id != "" && id != known {
			if known != "" {
				d.fatal <- muster.Errorf(muster.Conflict, "data directory %s belongs to cluster %s, but this is cluster %s", d.cfg.DataDir, known, id).
					WithHint("choose another --data-dir, or join the other cluster")
				return
			}
			if err := writeFile(filepath.Join(d.cfg.DataDir, "cluster-id"), id+"\n"); err != nil {
				d.fatal <- err
				return
			}
			known = id
			d.pool.SetFacts(func(f *gossip.Facts) { f.ClusterID, f.Stateless = id, false })
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// gate checks keys against this node's own copy of the registry.
func (d *Daemon) gate() *gate {
	return &gate{reg: d.reg, uses: &d.uses, latest: d.member.Linearize, entered: d.entered, looking: make(chan struct{}, lookLimit), verifier: &trust.Verifier{
		NodeID: d.id.ID, Secrets: d.ring.Secrets, Started: time.Now(), Harmless: harmless, NodeKey: d.nodeKey, Pairs: d.pairs,
	}}
}

// nodeKey is the public key of a registered node.
func (d *Daemon) nodeKey(id string) (ed25519.PublicKey, bool) {
	n, ok := d.reg.Node(id)
	return n.PublicKey, ok && n.DeletedAt == nil && len(n.PublicKey) == ed25519.PublicKeySize
}

// harmless says which signed calls are not remembered: those of searches, and
// those that ask how far the master is, which come by the thousand and only
// read. Who could repeat one has seen its answer.
func harmless(_, path string) bool {
	return path == api.PathPin || path == api.PathShard || path == api.PathReadIndex
}

type gate struct {
	reg      *fsm.Registry
	latest   func(context.Context) error // brings this copy up to the master's
	verifier *trust.Verifier
	entered  func() bool
	uses     *uses
	looking  chan struct{} // bounds how many look again at once
}

const (
	lookLimit = 8
	lookTime  = 500 * time.Millisecond
)

// lookAgain reports whether this copy has caught up with what was done at other
// nodes a moment ago. Callers with made-up keys must not keep the master busy:
// beyond a few at a time nobody waits.
func (g *gate) lookAgain(ctx context.Context) bool {
	select {
	case g.looking <- struct{}{}:
		defer func() { <-g.looking }()
	default:
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	return g.latest(ctx) == nil
}

// find is a key by this copy, if it is good.
func (g *gate) find(id string, hash [32]byte) (muster.Key, error) {
	key, known := g.reg.Key(id)
	if !holds(key, hash, time.Now()) || !known {
		return key, badKey()
	}
	return key, callers{g.reg}.good(key)
}

// Key returns the rights of a bearer key. It may have been made, rotated, or
// given back with its node a moment ago, at another node.
func (g *gate) Key(ctx context.Context, plain string) (muster.Rights, error) {
	id, hash, ok := trust.ParseKey(plain)
	if !ok {
		return muster.Rights{}, badKey()
	}
	key, err := g.find(id, hash)
	if err != nil && g.lookAgain(ctx) {
		key, err = g.find(id, hash)
	}
	if err != nil {
		return muster.Rights{}, err
	}
	g.uses.saw(id, time.Now())
	return muster.Rights{
		Principal: "key:" + id, Scopes: key.Scopes, NodeID: key.NodeID, MaxRisk: key.MaxRisk, ExpiresAt: key.ExpiresAt,
		Targets: key.Targets, Filter: key.Filter,
	}, nil
}
