package cluster

import "time"

// Paced is how many of n nodes are pinged in one tick at most.
func Paced(n int, every time.Duration) int { return paced(n, every, leadTick) }
