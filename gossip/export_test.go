package gossip

import (
	"bytes"
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// Kill ends a pool as a SIGKILL would: without a goodbye.
func Kill(p *Pool) error {
	p.stopped.Do(func() {})
	p.cancel()
	p.wg.Wait()
	return p.list.Shutdown()
}

// Encoded is what a peer with these facts tells.
func Encoded(f Facts) []byte { return f.encode() }

// Leaves has memberlist report a death.
func Leaves(p *Pool, n *memberlist.Node) { (&delegate{pool: p}).NotifyLeave(n) }

// Merges asks, as memberlist does, whether a pool with these nodes may come in.
func Merges(p *Pool, nodes ...*memberlist.Node) error { return (&delegate{pool: p}).NotifyMerge(nodes) }

// KnownAfter ages all known addresses, as if nothing had happened for so long,
// has the pool forget what is too old, and lists what is left.
func KnownAfter(p *Pool, age time.Duration) []string {
	p.mu.Lock()
	for addr, seen := range p.known {
		p.known[addr] = seen.Add(-age)
	}
	p.mu.Unlock()
	p.forget()
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.known))
}

// KeepTelling runs the rhythm in which changes are told.
func KeepTelling(ctx context.Context, changed <-chan struct{}, always func() bool, tell func()) {
	rhythm{changed, always, tell}.keep(ctx)
}

func longest() Facts {
	return Facts{
		Name: strings.Repeat("n", maxName), ClusterID: "01a211a1-5664-729f-9c97-7a65fe614b9f", Promise: "01a211a1-5664-729f-9c97-7a65fe614ba0",
		IndexID: "0a7e62a5-1f0a-4d2e-9a57-3c1f0c6f9d11",
		Raft:    strings.Repeat("r", maxAddr), HTTP: strings.Repeat("h", maxAddr), Started: math.MaxInt64, Stateless: true, Restarting: true, Leaving: true,
		Expect: 255, Generation: math.MaxUint64, Documents: math.MaxUint64, TLS: true, Secrets: [2]uint32{math.MaxUint32, 1},
	}
}

func FuzzFacts(f *testing.F) {
	f.Add(longest().encode())
	f.Add(append(Facts{Name: "shop", Expect: 3}.encode(), "of a later version"...))
	f.Add([]byte{factsVersion})
	f.Add(append([]byte{factsVersion, 0, 3, 1, 1, 1}, bytes.Repeat([]byte{255}, 600)...)) // names of 255 bytes
	f.Fuzz(func(t *testing.T, b []byte) {
		facts, err := decodeFacts(b)
		if err != nil {
			return
		}
		raw := facts.encode()
		if len(raw) > maxFacts {
			t.Fatalf("%d bytes: %+v", len(raw), facts)
		}
		again, err := decodeFacts(raw)
		if err != nil {
			t.Fatalf("not understood again: %+v", facts)
		}
		if facts.check() == nil && len(facts.Name) <= maxName && again != facts {
			t.Fatalf("changed:\n%+v\n%+v", facts, again)
		}
	})
}

func TestFactsArriveAsTheyWereSaid(t *testing.T) {
	for _, facts := range []Facts{{}, longest(), {Name: strings.Repeat("ü", 31), Raft: "[2001:db8::1234:5678:9abc:def0]:65535", Leaving: true}} {
		got, err := decodeFacts(facts.encode())
		if err != nil || got != facts {
			t.Errorf("%v\n%+v\n%+v", err, got, facts)
		}
		later, err := decodeFacts(append(facts.encode(), 1, 2, 3))
		if err != nil || later != facts {
			t.Errorf("with more after it: %v\n%+v", err, later)
		}
	}
	if got, err := decodeFacts(Facts{Name: strings.Repeat("ü", 40)}.encode()); err != nil || got.Name != strings.Repeat("ü", 31) {
		t.Errorf("not cut between letters: %q %v", got.Name, err)
	}
}

func TestTheLongestFactsFit(t *testing.T) {
	facts := longest()
	if size := len(facts.encode()); size > maxFacts || size < maxFacts-1 || size > memberlist.MetaMaxSize { // Started has 63 bits, not 64
		t.Errorf("%d bytes, said to be %d at most", size, maxFacts)
	}
	facts.Name, facts.Raft, facts.HTTP = strings.Repeat("n", 1000), strings.Repeat("r", 1000), strings.Repeat("h", 1000)
	if size := len(facts.encode()); size > maxFacts {
		t.Errorf("%d bytes of what is too long, said to be %d at most", size, maxFacts)
	}
}

func TestNoCutOfTheFactsIsTakenForThem(t *testing.T) {
	raw := longest().encode()
	for size := range raw {
		if _, err := decodeFacts(raw[:size]); err == nil {
			t.Errorf("%d bytes of %d pass", size, len(raw))
		}
	}
	raw[0]++
	if _, err := decodeFacts(raw); err == nil {
		t.Error("another version passes")
	}
}
