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
	"syscall"
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
	peers map[string]muster.Peer // guarded by mu; all ever seen, by ID

	conflict chan muster.Peer
	joined   chan struct{}
	found    sync.Once
	changed  chan struct{} // facts to tell
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	stopped  sync.Once
}

// New makes a pool; Start opens it.
func New(cfg Config) *Pool {
	return &Pool{
		cfg: cfg, log: cfg.Log.With("part", "gossip"), facts: cfg.Facts, peers: map[string]muster.Peer{},
		conflict: make(chan muster.Peer, 1), joined: make(chan struct{}), changed: make(chan struct{}, 1),
		cancel: func() {},
	}
}

// Start listens and goes on joining in the background until it meets a peer,
// and later whenever one is lost.
func (p *Pool) Start(ctx context.Context) error {
	conf, err := p.settings()
	if err != nil {
		return err
	}
	p.list, err = memberlist.Create(conf)
	switch {
	case err != nil && (errors.Is(err, syscall.EADDRINUSE) || strings.Contains(err.Error(), syscall.EADDRINUSE.Error())):
		return muster.Errorf(muster.Unavailable, "gossip port %s is taken by another program", p.cfg.Bind).
			WithHint("stop it, or choose another port with --gossip or --port")
	case err != nil:
		return fmt.Errorf("open gossip on %s: %w", p.cfg.Bind, err)
	}
	loop, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel = cancel
	p.wg.Go(func() { p.keepJoining(loop) })
	p.wg.Go(func() { p.keepTelling(loop) })
	return nil
}

func (p *Pool) settings() (*memberlist.Config, error) {
	conf := memberlist.DefaultLANConfig()
	switch p.cfg.Profile {
	case "quick":
		conf.ProbeInterval, conf.ProbeTimeout = 500*time.Millisecond, 250*time.Millisecond
		conf.GossipInterval, conf.SuspicionMult, conf.TCPTimeout = 100*time.Millisecond, 4, 5*time.Second
	case "wan":
		conf = memberlist.DefaultWANConfig()
	}
	var err error
	if conf.BindAddr, conf.BindPort, err = hostPort(p.cfg.Bind); err != nil {
		return nil, err
	}
	conf.AdvertiseAddr, conf.AdvertisePort = conf.BindAddr, conf.BindPort
	if p.cfg.Advertise != "" {
		if conf.AdvertiseAddr, conf.AdvertisePort, err = hostPort(p.cfg.Advertise); err != nil {
			return nil, err
		}
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
		err = p.list.UpdateNode(leaveTimeout)
		err = errors.Join(err, p.list.Leave(leaveTimeout), p.list.Shutdown())
	})
	return err
}

// Addr is the address this pool is found at.
func (p *Pool) Addr() string { return p.list.LocalNode().Address() }

// Joined is closed once another living peer was seen.
func (p *Pool) Joined() <-chan struct{} { return p.joined }

// Conflict gives a living peer that has this node's ID at another address.
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
	self := peerOf(p.cfg.ID, p.cfg.Advertise, p.facts)
	self.State, self.Since = muster.PeerAlive, time.Now()
	return self
}

func peerOf(id, addr string, f Facts) muster.Peer {
	return muster.Peer{
		ID: id, Name: f.Name, ClusterID: f.ClusterID, Gossip: addr, Raft: f.Raft, HTTP: f.HTTP,
		Stateless: f.Stateless, Expect: f.Expect, Generation: f.Generation, Documents: f.Documents,
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

func (p *Pool) keepTelling(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
		}
		if err := p.list.UpdateNode(leaveTimeout); err != nil {
			p.log.Debug("tell facts", "error", err)
		}
		if !pause(ctx, factsEvery) {
			return
		}
	}
}

// keepJoining tries all known addresses until a peer is met, then whatever is
// lost: memberlist forgets the dead and never looks for them again.
func (p *Pool) keepJoining(ctx context.Context) {
	wait, reported := joinPause, time.Time{}
	for {
		if lost := p.wanted(); len(lost) > 0 {
			failed := p.join(lost)
			if alone := p.alone(); alone && len(failed) > 0 && time.Since(reported) >= reportJoining {
				p.log.Warn("nobody found to join yet, trying on", "failed", strings.Join(failed, "; "))
				reported = time.Now()
			}
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
	kept := p.kept()
	p.mu.Lock()
	defer p.mu.Unlock()
	want := map[string]bool{}
	for _, addr := range slices.Concat(p.cfg.Join, kept) {
		want[addr] = true
	}
	for _, peer := range p.peers {
		want[peer.Gossip] = peer.State != muster.PeerAlive && peer.State != muster.PeerLeft
	}
	want[p.cfg.Bind], want[p.cfg.Advertise] = false, false
	maps.DeleteFunc(want, func(_ string, yes bool) bool { return !yes })
	return slices.Sorted(maps.Keys(want))
}

// join tries each address on its own and in parallel, so that a dead name
// holds up no other. It returns what failed.
func (p *Pool) join(addrs []string) (failed []string) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, addr := range addrs {
		wg.Go(func() {
			if err := p.joinOne(addr); err != nil {
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

func (p *Pool) joinOne(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), joinCall)
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
}

// saw notes what was seen of a peer, says so once, and keeps the addresses.
func (p *Pool) saw(peer muster.Peer) {
	if peer.ID == p.cfg.ID {
		return
	}
	p.mu.Lock()
	before, known := p.peers[peer.ID]
	peer.RTT = before.RTT
	peer.Since = before.Since
	if before.State != peer.State {
		peer.Since = time.Now()
	}
	p.peers[peer.ID] = peer
	p.replaceLocked(peer)
	p.mu.Unlock()
	if peer.State == muster.PeerAlive {
		p.found.Do(func() { close(p.joined) })
	}
	if known && before.State == peer.State && before.Gossip == peer.Gossip {
		return
	}
	p.log.Info("peer changed", "peer", peer.Name, "id", peer.ID, "state", string(peer.State), "at", peer.Gossip)
	p.keep()
}

// replaceLocked notes the death of whoever was at a living peer's address
// before: a node that lost its disk comes back there under another ID, long
// before the old one's silence is noticed.
func (p *Pool) replaceLocked(peer muster.Peer) {
	for id, old := range p.peers {
		if peer.State == muster.PeerAlive && id != peer.ID && old.Gossip == peer.Gossip && old.State == muster.PeerAlive {
			old.State, old.Since = muster.PeerFailed, time.Now()
			p.peers[id] = old
			p.log.Info("peer was replaced", "peer", old.Name, "id", id, "by", peer.ID, "at", peer.Gossip)
		}
	}
}

// keep writes the known addresses down for the next start.
func (p *Pool) keep() {
	if p.cfg.PeersFile == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var addrs []string
	for _, peer := range p.peers {
		addrs = append(addrs, peer.Gossip)
	}
	slices.Sort(addrs)
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

func (p *Pool) kept() (addrs []string) {
	raw, err := os.ReadFile(p.cfg.PeersFile)
	if err != nil || json.Unmarshal(raw, &addrs) != nil {
		return nil // a missing or damaged list only means that --join has to do
	}
	return addrs
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
