package cluster

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

const (
	roomLook  = 20 * time.Millisecond  // between two tries while the disk is full
	roomWait  = 200 * time.Millisecond // until the entries are refused
	readWait  = 500 * time.Millisecond // of a read, for room
	levelWait = 5 * time.Second        // of a read, until this copy is level once there is room
)

// keeper is the log on this node's disk. Where there is no room it tries again
// for roomWait before it gives up, so that a node whose disk has room again goes
// on at once. It knows since when this copy may lack what others acknowledged.
type keeper struct {
	raft.LogStore

	back func() // called at the first entry that is kept after one that was not

	mu    sync.Mutex
	since time.Time     // guarded by mu: of the first entry that could not be kept; zero while level
	room  chan struct{} // guarded by mu: closed at the next entry that is kept; nil unless the last was not
}

// StoreLog keeps an entry.
func (k *keeper) StoreLog(log *raft.Log) error { return k.StoreLogs([]*raft.Log{log}) }

// StoreLogs keeps entries.
func (k *keeper) StoreLogs(logs []*raft.Log) error {
	err := k.LogStore.StoreLogs(logs)
	for tried := time.Duration(0); noRoom(err) && tried < roomWait; tried += roomLook {
		k.note(err)
		<-time.After(roomLook)
		err = k.LogStore.StoreLogs(logs)
	}
	k.note(err)
	return err
}

func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC)
}

func (k *keeper) note(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case err == nil && k.room != nil:
		close(k.room)
		k.room = nil
		k.back()
	case err != nil && k.room == nil:
		k.room = make(chan struct{})
		if k.since.IsZero() {
			k.since = time.Now()
		}
	}
}

// behind tells since when this copy may lack entries, and what to wait for
// before it can have them; the zero time if it lacks none.
func (k *keeper) behind() (since time.Time, room <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.since, k.room
}

// level notes that this copy has everything, unless it failed again meanwhile.
func (k *keeper) level() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.room == nil {
		k.since = time.Time{}
	}
}

// Level waits while this copy is known to lack what others acknowledged: half a
// second at most while the disk is full, five once it has room again.
func (c *Cluster) Level(ctx context.Context) {
	since, room := c.logs.behind()
	if since.IsZero() {
		return
	}
	if room != nil {
		wait := time.NewTimer(readWait)
		defer wait.Stop()
		select {
		case <-room:
		case <-wait.C:
			return
		case <-ctx.Done():
			return
		}
	}
	ctx, cancel := context.WithTimeout(ctx, levelWait)
	defer cancel()
	c.catchUp(ctx)
}

// catchUp notes when this copy has everything again.
func (c *Cluster) catchUp(ctx context.Context) {
	if c.Linearize(ctx) == nil {
		c.logs.level()
	}
}
