package gossip

import (
	"math"
	"strings"
	"testing"
)

// Kill ends a pool as a SIGKILL would: without a goodbye.
func Kill(p *Pool) error {
	p.stopped.Do(func() {})
	p.cancel()
	p.wg.Wait()
	return p.list.Shutdown()
}

func FuzzFacts(f *testing.F) {
	f.Add(Facts{Name: "shop", ClusterID: "01a211a1-5664-729f-9c97-7a65fe614b9f", Promise: "01a211a1-5664-729f-9c97-7a65fe614ba0", Raft: "127.0.0.1:1", HTTP: "127.0.0.1:2", Expect: 3, Documents: 9}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		facts, err := decodeFacts(b)
		if err != nil {
			return
		}
		again, err := decodeFacts(facts.encode())
		if err == nil && len(facts.encode()) > maxFacts {
			t.Fatalf("too long: %+v", again)
		}
	})
}

func TestFactsArriveAsTheyWereSaidAndStaySmall(t *testing.T) {
	facts := Facts{
		Name: strings.Repeat("ü", 40), ClusterID: "01a211a1-5664-729f-9c97-7a65fe614b9f", Promise: "01a211a1-5664-729f-9c97-7a65fe614ba0",
		Raft: "[2001:db8::1234:5678:9abc:def0]:65535", HTTP: "127.0.0.1:7600", Stateless: true, Leaving: true,
		Expect: 7, Generation: math.MaxUint64, Documents: math.MaxUint64,
	}
	raw := facts.encode()
	got, err := decodeFacts(raw)
	facts.Name = strings.Repeat("ü", 31) // cut between letters
	if err != nil || got != facts || len(raw) >= 200 {
		t.Fatalf("%d bytes, %v\n%+v\n%+v", len(raw), err, got, facts)
	}
}
