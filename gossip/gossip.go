// Package gossip notices which peers are alive and where they are. It never
// decides what that means: it reports, and the cluster decides.
package gossip

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"muster"

	"github.com/hashicorp/memberlist"
)

// Config says who this peer is and whom it looks for.
type Config struct {
	ID        string
	Bind      string   // host:port
	Advertise string   // host:port, empty: as bound
	Join      []string // host:port of members
	Keys      [][]byte // the first speaks, all are understood
	PeersFile string   // known peers' addresses, kept for the next start
	Facts     Facts
	Profile   string // lan, quick or wan
	Log       *slog.Logger
}

const (
	joinPause     = time.Second
	joinPauseMax  = 10 * time.Second
	joinCall      = 5 * time.Second
	rejoinEvery   = 30 * time.Second
	factsEvery    = 500 * time.Millisecond
	factsAgain    = 2 * time.Second
	leaveTimeout  = time.Second
	reclaimAfter  = time.Second
	forgetFailed  = 72 * time.Hour
	reportJoining = time.Minute
)

// Pool is this node's place in the gossip.
type Pool struct {
	cfg  Config
	log  *slog.Logger
	list *memberlist.Memberlist

	mu    sync.Mutex
	facts Facts                  // guarded by mu
	addr  string                 // guarded by mu; where others find this pool, once it is open
	peers map[string]muster.Peer // guarded by mu; all ever seen, by ID
	known map[string]time.Time   // guarded by mu; gossip addresses and when somebody was last seen there
	news  []muster.Peer          // guarded by mu; changes to be logged

	conflict chan muster.Peer
	joined   chan struct{}
	found    sync.Once
	tried    chan struct{} // closed after the first round of joining
	joining  atomic.Int32  // own joins under way
	changed  chan struct{} // facts to tell
	noted    chan struct{} // something to log and to write down
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	stopped  sync.Once
}

// New makes a pool; Start opens it.
func New(cfg Config) *Pool {
	return &Pool{
		cfg: cfg, log: cfg.Log.With("part", "gossip"), facts: cfg.Facts, peers: map[string]muster.Peer{}, known: map[string]time.Time{},
		conflict: make(chan muster.Peer, 1), joined: make(chan struct{}), tried: make(chan struct{}),
		changed: make(chan struct{}, 1), noted: make(chan struct{}, 1), cancel: func() {},
	}
}

// Start listens and goes on joining in the background until it meets a peer,
// and later whenever one is lost.
func (p *Pool) Start(ctx context.Context) error {
	loop, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel = cancel
	conf, err := p.settings(loop)
	if err != nil {
		return err
	}
	if p.list, err = memberlist.Create(conf); err != nil {
		return errors.Join(fmt.Errorf("open gossip on %s: %w", p.cfg.Bind, err), conf.Transport.Shutdown())
	}
	p.mu.Lock()
	p.addr = p.list.LocalNode().Address()
	p.mu.Unlock()
	p.recall()
	p.wg.Go(func() { p.keepJoining(loop) })
	p.wg.Go(func() { p.keepTelling(loop) })
	p.wg.Go(func() { p.keepNotes(loop) })
	return nil
}

func (p *Pool) settings(loop context.Context) (*memberlist.Config, error) {
	conf := memberlist.DefaultLANConfig()
	switch p.cfg.Profile {
	case "quick":
		conf.ProbeInterval, conf.ProbeTimeout = 500*time.Millisecond, 250*time.Millisecond
		conf.GossipInterval, conf.SuspicionMult, conf.TCPTimeout = 100*time.Millisecond, 4, 5*time.Second
	case "wan":
		conf = memberlist.DefaultWANConfig()
	}
	if len(p.cfg.Keys) == 0 {
		return nil, errors.New("gossip has no key")
	}
	var err error
	if conf.BindAddr, conf.BindPort, err = hostPort(p.cfg.Bind); err != nil {
		return nil, err
	}
	conf.AdvertisePort = conf.BindPort
	if p.cfg.Advertise != "" {
		if conf.AdvertiseAddr, conf.AdvertisePort, err = hostPort(p.cfg.Advertise); err != nil {
			return nil, err
		}
	}
	if conf.Transport, err = p.listen(loop, conf); err != nil {
		return nil, err
	}
	conf.Name, conf.DeadNodeReclaimTime = p.cfg.ID, reclaimAfter
	d := &delegate{pool: p}
	conf.Delegate, conf.Events, conf.Merge, conf.Alive, conf.Ping = d, d, d, d, d
	conf.LogOutput, conf.Logger = nil, newLibraryLog(p.log)
	if conf.Keyring, err = memberlist.NewKeyring(p.cfg.Keys, p.cfg.Keys[0]); err != nil {
		return nil, fmt.Errorf("gossip keys: %w", err)
	}
	return conf, nil
}

func hostPort(addr string) (string, int, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("gossip address %q: %w", addr, err)
	}
	port, err := strconv.Atoi(text)
	if host == "localhost" {
		host = "127.0.0.1"
	}
	return host, port, err
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

// Tried is closed once every known address was tried, or a peer was met: until
// then nobody can know whether this node's ID is in use elsewhere.
func (p *Pool) Tried() <-chan struct{} { return p.tried }

// Joined is closed once another living peer was seen.
func (p *Pool) Joined() <-chan struct{} { return p.joined }

// Conflict gives a living peer that has this node's ID at another address, as
// found while joining: it was there first.
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
		Stateless: f.Stateless, Expect: f.Expect, Promise: f.Promise, Generation: f.Generation, Documents: f.Documents,
	}
}

// SetFacts changes what this node tells. The first change after half a second
// of quiet goes out at once, later ones together.
func (p *Pool) SetFacts(change func(*Facts)) {
	p.mu.Lock()
	change(&p.facts)
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// keepTelling tells changed facts. memberlist drops an update silently when it
// refutes a suspicion at the same moment, so one that was not seen to go out is
// told again; and while nodes wait for each other to found a cluster, nothing
// else would repeat what a lost packet carried.
func (p *Pool) keepTelling(ctx context.Context) {
	again := time.NewTicker(factsAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
		case <-again.C:
			if !p.stateless() {
				continue
			}
		}
		if err := p.list.UpdateNode(leaveTimeout); err != nil {
			p.log.Debug("tell facts", "error", err)
			p.SetFacts(func(*Facts) {})
		}
		if !pause(ctx, factsEvery) {
			return
		}
	}
}

func (p *Pool) stateless() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.facts.Stateless
}

// keepJoining tries all known addresses until a peer is met, then whatever is
// lost: memberlist forgets the dead and never looks for them again.
func (p *Pool) keepJoining(ctx context.Context) {
	wait, reported, first := joinPause, time.Time{}, true
	for {
		if lost := p.wanted(); len(lost) > 0 {
			failed := p.join(ctx, lost)
			if alone := p.alone(); alone && len(failed) > 0 && time.Since(reported) >= reportJoining {
				p.log.Warn("nobody found to join yet, trying on", "failed", strings.Join(failed, "; "))
				reported = time.Now()
			}
		}
		if first {
			close(p.tried)
			first = false
		}
		p.forget()
		if p.alone() {
			wait = min(wait*3/2, joinPauseMax)
		} else {
			wait = rejoinEvery
		}
		if !pause(ctx, wait/2+rand.N(wait/2)) {
			return
		}
	}
}

// wanted lists addresses at which nobody alive is known.
func (p *Pool) wanted() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	want := map[string]bool{}
	for _, addr := range p.cfg.Join {
		want[addr] = true
	}
	for addr := range p.known {
		want[addr] = true
	}
	for _, peer := range p.peers {
		want[peer.Gossip] = peer.State != muster.PeerAlive && peer.State != muster.PeerLeft
	}
	want[p.cfg.Bind], want[p.addr] = false, false
	maps.DeleteFunc(want, func(_ string, yes bool) bool { return !yes })
	return slices.Sorted(maps.Keys(want))
}

// join tries each address on its own and in parallel, so that a dead name
// holds up no other. It returns what failed.
func (p *Pool) join(ctx context.Context, addrs []string) (failed []string) {
	p.joining.Add(1)
	defer p.joining.Add(-1)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, addr := range addrs {
		wg.Go(func() {
			if err := p.joinOne(ctx, addr); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, addr+": "+firstLine(err))
			}
		})
	}
	wg.Wait()
	slices.Sort(failed)
	return failed
}

func (p *Pool) joinOne(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, joinCall)
	defer cancel()
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return err
	}
	for _, ip := range ips {
		if _, err = p.list.Join([]string{net.JoinHostPort(ip, port)}); err == nil {
			return nil
		}
	}
	return err
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	return line
}

func (p *Pool) alone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, peer := range p.peers {
		if peer.ID != p.cfg.ID && peer.State == muster.PeerAlive {
			return false
		}
	}
	return true
}

func (p *Pool) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.peers, func(_ string, peer muster.Peer) bool {
		return peer.State != muster.PeerAlive && time.Since(peer.Since) > forgetFailed
	})
	maps.DeleteFunc(p.known, func(_ string, seen time.Time) bool { return time.Since(seen) > forgetFailed })
}

// saw notes what was seen of a peer. It runs under memberlist's locks: logging
// and writing are left to keepNotes.
func (p *Pool) saw(peer muster.Peer) {
	if peer.ID == p.cfg.ID {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before, known := p.peers[peer.ID]
	peer.RTT = before.RTT
	peer.Since = before.Since
	if before.State != peer.State {
		peer.Since = time.Now()
	}
	p.peers[peer.ID] = peer
	p.known[peer.Gossip] = time.Now()
	p.replaceLocked(peer)
	if peer.State == muster.PeerAlive {
		p.found.Do(func() { close(p.joined) })
	}
	if known && before.State == peer.State && before.Gossip == peer.Gossip {
		return
	}
	if before.Gossip != "" && before.Gossip != peer.Gossip {
		delete(p.known, before.Gossip)
	}
	p.noteLocked(peer)
}

func (p *Pool) noteLocked(peer muster.Peer) {
	p.news = append(p.news, peer)
	select {
	case p.noted <- struct{}{}:
	default:
	}
}

// keepNotes logs each change once and keeps the known addresses on disk.
func (p *Pool) keepNotes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.noted:
		}
		p.mu.Lock()
		news, addrs := p.news, maps.Clone(p.known)
		p.news = nil
		p.mu.Unlock()
		for _, peer := range news {
			p.log.Info("peer changed", "peer", peer.Name, "id", peer.ID, "state", string(peer.State), "at", peer.Gossip)
		}
		p.keep(addrs)
	}
}

// replaceLocked notes the death of whoever was at a living peer's address
// before: a node that lost its disk comes back there under another ID, long
// before the old one's silence is noticed.
func (p *Pool) replaceLocked(peer muster.Peer) {
	for id, old := range p.peers {
		if peer.State == muster.PeerAlive && id != peer.ID && old.Gossip == peer.Gossip && old.State == muster.PeerAlive {
			old.State, old.Since = muster.PeerFailed, time.Now()
			p.peers[id] = old
			p.noteLocked(old)
		}
	}
}

// keep writes the known addresses down for the next start. The list is a help
// for joining, no more: losing it costs nothing that --join does not give.
func (p *Pool) keep(addrs map[string]time.Time) {
	if p.cfg.PeersFile == "" {
		return
	}
	raw, err := json.Marshal(addrs)
	if err == nil {
		err = os.WriteFile(p.cfg.PeersFile+".new", raw, 0o600)
	}
	if err == nil {
		err = os.Rename(p.cfg.PeersFile+".new", p.cfg.PeersFile)
	}
	if err != nil {
		p.log.Warn("keep peers", "error", err)
	}
}

// recall reads the addresses that an earlier run knew.
func (p *Pool) recall() {
	raw, err := os.ReadFile(p.cfg.PeersFile)
	if err != nil {
		return
	}
	var addrs map[string]time.Time
	if err := json.Unmarshal(raw, &addrs); err != nil {
		p.log.Warn("known peers cannot be read, going by --join alone", "error", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.Copy(p.known, addrs)
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
