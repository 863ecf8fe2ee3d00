package cluster

import (
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	holdLimit  = 5 * time.Minute        // how long entries wait for a peer that does not answer
	storePause = 250 * time.Millisecond // before entries go again to a peer that could not keep them
)

// contacts wraps the transport to note, from the answers to heartbeats, when
// each follower was last heard and how far its log reaches.
//
// It also keeps raft from waiting too long. After every failure raft waits twice
// as long until it sends entries again, at last for ten seconds, and a follower
// that is back, or has room on its disk again, would know nothing new until then.
// So entries for a peer that does not answer wait here until a heartbeat gets
// through (heartbeats never wait for more than a quarter of a second), and a peer
// that answered that it could not keep them gets them again after storePause.
type contacts struct {
	*raft.NetworkTransport

	over  chan struct{} // closed once nothing may wait any more
	beats sync.RWMutex  // held while a heartbeat of another node is looked at

	mu     sync.Mutex
	seen   map[raft.ServerID]contact       // guarded by mu
	silent map[raft.ServerID]chan struct{} // guarded by mu: by peer whose last answer failed to come; closed when one comes
	ended  bool                            // guarded by mu
	deaf   bool                            // guarded by beats
}

type contact struct {
	at      time.Time
	lastLog uint64
}

func newContacts(t *raft.NetworkTransport) *contacts {
	return &contacts{
		NetworkTransport: t, over: make(chan struct{}),
		seen: map[raft.ServerID]contact{}, silent: map[raft.ServerID]chan struct{}{},
	}
}

// AppendEntries sends entries or a heartbeat and notes the answer.
func (c *contacts) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	beat := len(args.Entries) == 0 && args.PrevLogEntry == 0 && args.LeaderCommitIndex == 0
	if !beat {
		c.hold(id)
	}
	err := c.NetworkTransport.AppendEntries(id, target, args, resp)
	c.note(id, err)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.seen[id] = contact{at: time.Now(), lastLog: resp.LastLog}
	c.mu.Unlock()
	if len(args.Entries) > 0 && !resp.Success && !resp.NoRetryBackoff && resp.Term == args.Term {
		c.pause()
		resp.NoRetryBackoff = true
	}
	return nil
}

// InstallSnapshot waits for a peer as entries do.
func (c *contacts) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	c.hold(id)
	err := c.NetworkTransport.InstallSnapshot(id, target, args, resp, data)
	c.note(id, err)
	return err
}

// SetHeartbeatHandler has raft look at heartbeats until quiet: it would go on
// with those that are under way when its stores close.
func (c *contacts) SetHeartbeatHandler(look func(raft.RPC)) {
	c.NetworkTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		c.beats.RLock()
		defer c.beats.RUnlock()
		if c.deaf {
			rpc.Respond(nil, raft.ErrRaftShutdown)
			return
		}
		look(rpc)
	})
}

// quiet returns when no heartbeat is looked at, and has none looked at any more.
func (c *contacts) quiet() {
	c.beats.Lock()
	defer c.beats.Unlock()
	c.deaf = true
}

// note keeps in mind whether a peer answers.
func (c *contacts) note(id raft.ServerID, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch back, silent := c.silent[id]; {
	case err != nil && !silent:
		c.silent[id] = make(chan struct{})
	case err == nil && silent:
		close(back)
		delete(c.silent, id)
	}
}

// hold waits while a peer does not answer.
func (c *contacts) hold(id raft.ServerID) {
	c.mu.Lock()
	back, silent := c.silent[id]
	c.mu.Unlock()
	if !silent {
		return
	}
	limit := time.NewTimer(holdLimit)
	defer limit.Stop()
	select {
	case <-back:
	case <-limit.C:
	case <-c.over:
	}
}

func (c *contacts) pause() {
	wait := time.NewTimer(storePause)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-c.over:
	}
}

func (c *contacts) of(id string) (contact, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, ok := c.seen[raft.ServerID(id)]
	return seen, ok
}

// forget drops what an earlier term learned, and lets go what waits.
func (c *contacts) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.seen)
	for id := range c.silent {
		c.releaseLocked(id)
	}
}

// release lets go what waits for a peer that is no longer a member.
func (c *contacts) release(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.releaseLocked(raft.ServerID(id))
}

func (c *contacts) releaseLocked(id raft.ServerID) {
	if back, silent := c.silent[id]; silent {
		close(back)
		delete(c.silent, id)
	}
}

// end lets go all that waits, now and later.
func (c *contacts) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.ended = true
		close(c.over)
	}
}
