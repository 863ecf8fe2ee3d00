// Package gossip notices which peers are alive and where they are. It never
// decides what that means: it reports, and the cluster decides.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"muster"

	"github.com/hashicorp/memberlist"
)

// Config says who this peer is and whom it looks for.
type Config struct {
	ID        string
	Bind      string   // host:port; a host that is a name must lead to an address
	Advertise string   // host:port, empty: as bound
	Join      []string // host:port of members
	Keys      [][]byte // the first speaks, all are understood
	PeersFile string   // known peers' addresses, kept for the next start
	Facts     Facts
	Profile   string // lan, quick or wan
	Log       *slog.Logger
}

// Pool is this node's place in the gossip.
type Pool struct {
	cfg  Config
	log  *slog.Logger
	list *memberlist.Memberlist
	ring *memberlist.Keyring

	mu    sync.Mutex
	facts Facts                  // guarded by mu
	told  []byte                 // guarded by mu; the facts as memberlist last took them
	addr  string                 // guarded by mu; where others find this pool, once it is open
	peers map[string]muster.Peer // guarded by mu; all ever seen, by ID
	known map[string]time.Time   // guarded by mu; gossip addresses and when somebody was last seen there
	news  []func(*slog.Logger)   // guarded by mu; what is to be logged

	conflict chan muster.Peer
	joined   signal
	tried    signal        // the first round of joining is over
	changed  chan struct{} // facts to tell
	noted    chan struct{} // something to log and to write down
	odd      rarely        // complaints about peers that are not understood
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	stopped  sync.Once
}

// signal is a channel that is closed once.
type signal struct {
	ch   chan struct{}
	once *sync.Once
}

func newSignal() signal { return signal{make(chan struct{}), &sync.Once{}} }

func (s signal) give() { s.once.Do(func() { close(s.ch) }) }

// New makes a pool; Start opens it.
func New(cfg Config) *Pool {
	return &Pool{
		cfg: cfg, log: cfg.Log.With("part", "gossip"), facts: cfg.Facts, peers: map[string]muster.Peer{}, known: map[string]time.Time{},
		conflict: make(chan muster.Peer, 1), joined: newSignal(), tried: newSignal(),
		changed: make(chan struct{}, 1), noted: make(chan struct{}, 1), cancel: func() {},
	}
}

// Start listens and goes on joining in the background until it meets a peer,
// and later whenever one is lost. Settings that cannot work give an error of
// kind Invalid that names the flag, a taken port one of kind Unavailable.
func (p *Pool) Start(ctx context.Context) (err error) {
	loop, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel = cancel
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	conf, err := p.settings(ctx)
	if err != nil {
		return err
	}
	if conf.Transport, err = p.listen(loop, conf); err != nil {
		return err
	}
	if p.facts.Started == 0 {
		p.facts.Started = time.Now().UnixMicro()
	}
	if p.list, err = memberlist.Create(conf); err != nil {
		return errors.Join(fmt.Errorf("open gossip on %s: %w", p.cfg.Bind, err), conf.Transport.Shutdown())
	}
	addr := p.list.LocalNode().Address() // takes memberlist's lock, under which it calls for ours
	p.mu.Lock()
	p.addr = addr
	p.mu.Unlock()
	p.recall()
	p.wg.Go(func() { p.keepJoining(loop) })
	p.wg.Go(func() { p.keepTelling(loop) })
	p.wg.Go(func() { p.keepNotes(loop) })
	return nil
}

// Stop says goodbye and closes. With restarting the others know that this node
// means to come back. A second Stop does nothing.
func (p *Pool) Stop(_ context.Context, restarting bool) (err error) {
	p.stopped.Do(func() {
		p.cancel()
		p.wg.Wait()
		if p.list == nil {
			return
		}
		p.mu.Lock()
		p.facts.Restarting, p.facts.Leaving = restarting, !restarting
		p.mu.Unlock()
		// Goodbyes are a courtesy: those who miss them notice the silence.
		if late := errors.Join(p.list.UpdateNode(leaveTimeout), p.list.Leave(leaveTimeout)); late != nil {
			p.log.Debug("say goodbye", "error", late)
		}
		err = p.list.Shutdown()
	})
	return err
}

// Addr is the address this pool is found at.
func (p *Pool) Addr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// Tried is closed once a peer was met, or every known address was tried: until
// then nobody can know whether this node's ID is in use elsewhere.
func (p *Pool) Tried() <-chan struct{} { return p.tried.ch }

// Joined is closed once another living peer was seen.
func (p *Pool) Joined() <-chan struct{} { return p.joined.ch }

// Conflict gives a living peer that has this node's ID at another address and
// started before it. The one that started first is never told of the other.
func (p *Pool) Conflict() <-chan muster.Peer { return p.conflict }

// Peers lists this node and all peers ever seen, by ID.
func (p *Pool) Peers() []muster.Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []muster.Peer{p.selfLocked()}
	for _, peer := range p.peers {
		if peer.ID != p.cfg.ID {
			out = append(out, peer)
		}
	}
	slices.SortFunc(out, func(a, b muster.Peer) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Peer returns one peer, or this node itself.
func (p *Pool) Peer(id string) (muster.Peer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if id == p.cfg.ID {
		return p.selfLocked(), true
	}
	peer, ok := p.peers[id]
	return peer, ok
}

func (p *Pool) selfLocked() muster.Peer {
	self := peerOf(p.cfg.ID, p.addr, p.facts)
	self.State, self.Since = muster.PeerAlive, time.Now()
	return self
}

func peerOf(id, addr string, f Facts) muster.Peer {
	return muster.Peer{
		ID: id, Name: f.Name, ClusterID: f.ClusterID, Gossip: addr, Raft: f.Raft, HTTP: f.HTTP,
		Stateless: f.Stateless, Expect: f.Expect, Promise: f.Promise,
		IndexID: f.IndexID, Generation: f.Generation, Documents: f.Documents,
		TLS: f.TLS, Secrets: f.Secrets,
	}
}
