// Package ports hands out loopback ports to the demo and to tests that run side
// by side in several processes: each process takes ports of blocks of its own,
// so that none takes one between another's look and its agent's start.
package ports

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// The blocks lie below the ports that systems hand out to outgoing connections.
const (
	first  = 20000
	blocks = 120
	size   = 100
	guard  = size - 1 // the port of a block that its holder listens on
	most   = 8        // blocks of one process; then it goes round
	tries  = 1000
)

var (
	mu     sync.Mutex
	held   []int          // guarded by mu: the first ports of the blocks
	guards []net.Listener // guarded by mu: kept open until the process ends
	next   int            // guarded by mu: how many ports were looked at

	errNone = errors.New("no free ports on loopback from 20000 to 32000")
)

// Free finds n addresses 127.0.0.1:PORT that nobody listens on, over TCP or UDP,
// and that it will not find again soon.
func Free(ctx context.Context, n int) (addrs []string, err error) {
	mu.Lock()
	defer mu.Unlock()
	for range tries {
		if len(addrs) == n {
			return addrs, nil
		}
		port, err := step(ctx)
		if err != nil {
			return nil, err
		}
		if addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port)); open(ctx, addr) {
			addrs = append(addrs, addr)
		}
	}
	return nil, errNone
}

// Block finds a block whose ports are all free for this process, and returns its
// first port, a multiple of 100; the last of the hundred is taken.
func Block(ctx context.Context) (int, error) {
	mu.Lock()
	defer mu.Unlock()
	return take(ctx)
}

// step is the next port of this process.
func step(ctx context.Context) (int, error) {
	if at := next / guard; at >= len(held) && at < most {
		block, err := take(ctx)
		if err != nil {
			return 0, err
		}
		held = append(held, block)
	}
	port := held[next/guard%len(held)] + next%guard
	next++
	return port, nil
}

// take finds a block that no other process holds, and holds it.
func take(ctx context.Context) (int, error) {
	for range tries {
		block := first + size*rand.N(blocks)
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(block+guard)))
		if err == nil {
			guards = append(guards, ln)
			return block, nil
		}
	}
	return 0, errNone
}

// open reports whether nobody listens on an address.
func open(ctx context.Context, addr string) bool {
	tcp, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	udp, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", addr)
	if err != nil {
		return errors.Join(err, tcp.Close()) == nil
	}
	return errors.Join(udp.Close(), tcp.Close()) == nil
}
