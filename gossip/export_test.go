package gossip

import "testing"

// Kill ends a pool as a SIGKILL would: without a goodbye.
func Kill(p *Pool) error {
	p.stopped.Do(func() {})
	p.cancel()
	p.wg.Wait()
	return p.list.Shutdown()
}

func FuzzFacts(f *testing.F) {
	f.Add(Facts{Name: "shop", ClusterID: "c", Raft: "127.0.0.1:1", HTTP: "127.0.0.1:2", Expect: 3, Documents: 9}.encode())
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
