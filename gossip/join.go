package gossip

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"muster"
)

const (
	joinPause     = time.Second
	joinPauseMax  = 10 * time.Second
	joinCall      = 5 * time.Second
	rejoinEvery   = 30 * time.Second
	rewriteEvery  = time.Hour
	forgetFailed  = 72 * time.Hour
	reportJoining = time.Minute
)

// keepJoining tries all known addresses until a peer is met, then whatever is
// lost: memberlist forgets the dead and never looks for them again.
func (p *Pool) keepJoining(ctx context.Context) {
	wait, reported := joinPause, time.Time{}
	for {
		if lost := p.wanted(); len(lost) > 0 {
			failed := p.join(ctx, lost)
			if alone := p.alone(); alone && len(failed) > 0 && time.Since(reported) >= reportJoining {
				p.log.Warn("nobody found to join yet, trying on", "failed", strings.Join(failed, "; "))
				reported = time.Now()
			}
		}
		p.tried.give()
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

// firstLine is the first cause in one line: memberlist wraps several as a list
// under a heading.
func firstLine(err error) string {
	if inner := errors.Unwrap(err); inner != nil && strings.Contains(err.Error(), "\n") {
		err = inner
	}
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

// forget drops peers and addresses where nobody was seen for long. Peers that
// are alive are seen now, though nothing changes about them.
func (p *Pool) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.peers, func(_ string, peer muster.Peer) bool {
		return peer.State != muster.PeerAlive && time.Since(peer.Since) > forgetFailed
	})
	for _, peer := range p.peers {
		if peer.State == muster.PeerAlive {
			p.sawAtLocked(peer.Gossip)
		}
	}
	maps.DeleteFunc(p.known, func(_ string, seen time.Time) bool { return time.Since(seen) > forgetFailed })
}

// sawAtLocked notes that somebody is at an address, and has it written down now
// and then.
func (p *Pool) sawAtLocked(addr string) {
	if before := p.known[addr]; time.Since(before) < rewriteEvery {
		return
	}
	p.known[addr] = time.Now()
	p.newsLocked(nil)
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
