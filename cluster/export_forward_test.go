package cluster

// Waiting is how many commands wait for the next call to the master.
func (c *Cluster) Waiting() int { return c.forwards.len() }

// Readers is how many readers wait for the next confirmation.
func (c *Cluster) Readers() int { return c.readers.len() }

func (g *gather[T]) len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}

// EntriesOf makes entries of encoded commands.
func EntriesOf(raws [][]byte) [][][]byte { return entriesOf(raws) }
