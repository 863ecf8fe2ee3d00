package cluster

import "time"

// Paced is how many of n nodes are pinged in one tick at most.
func Paced(n int, every, tick time.Duration) int { return paced(n, every, tick) }

// RestAfter is when to look next after it took so long to look through all nodes.
func RestAfter(took time.Duration) time.Duration { return restAfter(took) }
