package reqlog

import (
	"sync"
	"time"
)

// crowdLimit is how many rows callers whom nobody knows leave in a minute:
// they must not push out the rows of those who are known.
const crowdLimit = 60

// crowd counts strangers.
type crowd struct {
	mu     sync.Mutex
	minute int64 // guarded by mu
	seen   int   // guarded by mu; in that minute
}

func (c *crowd) admits(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if minute := now.Unix() / 60; minute != c.minute {
		c.minute, c.seen = minute, 0
	}
	c.seen++
	return c.seen <= crowdLimit
}
