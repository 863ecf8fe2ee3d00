package doctor

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"muster"
	"muster/httpserver/api"
)

// parallel is how many agents are looked at together.
const parallel = 16

// Clocks: signed calls allow 30 s.
const (
	lateClock  = 2 * time.Second
	wrongClock = 30 * time.Second
)

// ways looks at all agents from here, this node's own addresses among them, and
// at what the master knows of external nodes.
func (d *Doctor) ways(ctx context.Context, nodes []muster.Node) []api.Finding {
	found := make([][]api.Finding, len(nodes))
	places := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i, n := range nodes {
		switch {
		case n.DeletedAt != nil || n.Status == muster.StatusInactive:
		case n.Kind == muster.KindAgent:
			wg.Go(func() {
				places <- struct{}{}
				defer func() { <-places }()
				found[i] = d.agent(ctx, n)
			})
		case d.leads(nodes):
			found[i] = []api.Finding{external(n)}
		}
	}
	wg.Wait()
	return slices.Concat(found...)
}

func (d *Doctor) leads(nodes []muster.Node) bool {
	return slices.ContainsFunc(nodes, func(n muster.Node) bool { return n.ID == d.cfg.Self && n.Type == muster.TypeMaster })
}

func external(n muster.Node) api.Finding {
	f := ok("external", "is "+string(n.Status))
	if n.Status == muster.StatusError {
		f = fail("external", fmt.Sprintf("does not answer at %s", n.URL), "start the application; muster node check "+n.URL+" says what it lacks")
	}
	f.Peer = n.Slug
	return f
}

// agent looks at one agent.
func (d *Doctor) agent(ctx context.Context, n muster.Node) []api.Finding {
	peer, known := d.cfg.Peer(n.ID)
	if !known {
		return about(n, fail("alive", "gossip has never seen it since this node started",
			"is its agent running, with a --join address of this cluster? If it is gone for good: muster cluster remove "+n.Slug))
	}
	s := d.see(ctx, peer)
	switch {
	case n.ID == d.cfg.Self:
		return []api.Finding{s.own(peer)}
	case s.http != nil && s.gossip != nil && s.raft != nil:
		return about(n, fail("alive", fmt.Sprintf("answers at none of its ports (http: %v)", s.http),
			"is its agent running, and does a firewall let these two machines talk? If it is gone for good: muster cluster remove "+n.Slug))
	}
	findings := []api.Finding{
		port("http", peer.HTTP, "tcp", s.http), port("gossip", peer.Gossip, "udp and tcp", s.gossip), port("raft", peer.Raft, "tcp", s.raft),
	}
	if s.http == nil {
		findings = append(findings, clock(s.ahead, s.took))
		if !s.ready {
			findings[0] = warn("http", "answers, but is not ready", "it goes on trying by itself: ask it with muster doctor, or look at its log")
		}
	}
	return about(n, findings...)
}

func about(n muster.Node, findings ...api.Finding) []api.Finding {
	for i := range findings {
		findings[i].Peer = n.Slug
	}
	return findings
}

// sight is what was seen of an agent.
type sight struct {
	http, gossip, raft error
	ready              bool
	ahead, took        time.Duration // its clock; the call
}

func (d *Doctor) see(ctx context.Context, p muster.Peer) (s sight) {
	var wg sync.WaitGroup
	wg.Go(func() { s.gossip = d.cfg.Ports.Gossip(ctx, p) })
	wg.Go(func() { s.raft = d.cfg.Ports.Raft(ctx, p) })
	var h api.Health
	sent := time.Now()
	h, s.http = d.cfg.Ports.HTTP(ctx, p)
	s.ready, s.took = h.Ready, time.Since(sent)
	s.ahead = h.Ahead(sent, s.took)
	wg.Wait()
	return s
}

func port(check, addr, protocol string, err error) api.Finding {
	if err != nil {
		return fail(check, fmt.Sprintf("%s does not answer: %v", addr, err),
			fmt.Sprintf("let this node through to %s (%s): a firewall, or an address that only works elsewhere (--advertise-%s there)", addr, protocol, check))
	}
	return ok(check, addr+" answers")
}

// own is whether the addresses that this node tells the others lead to it.
func (s sight) own(p muster.Peer) api.Finding {
	for _, one := range []struct {
		flag, addr string
		err        error
	}{{"http", p.HTTP, s.http}, {"gossip", p.Gossip, s.gossip}, {"raft", p.Raft, s.raft}} {
		if one.err != nil {
			return warn("ports", fmt.Sprintf("%s does not lead back to this node: %v", one.addr, one.err),
				"no matter if the others reach it; if they do not, give the right --advertise-"+one.flag)
		}
	}
	return ok("ports", fmt.Sprintf("%s (http), %s (gossip) and %s (raft) lead here", p.HTTP, p.Gossip, p.Raft))
}

// clock judges by what is certain.
func clock(ahead, took time.Duration) api.Finding {
	off := ahead.Abs() - took/2
	way := "ahead of"
	if ahead < 0 {
		way = "behind"
	}
	says := fmt.Sprintf("its clock is %v %s this node's", ahead.Abs(), way)
	remedy := "set the clocks by NTP (timedatectl set-ntp true)"
	switch {
	case off >= wrongClock:
		return fail("clock", says+": calls between them are refused", remedy)
	case off >= lateClock:
		return warn("clock", says, remedy+"; from 30 s on calls between them are refused")
	default:
		return ok("clock", says)
	}
}
