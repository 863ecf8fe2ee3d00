package trust

import (
	"sync"
	"time"

	"muster"

	"github.com/google/uuid"
)

const (
	// replayMemory covers a call from the earliest moment at which it is
	// accepted (a leeway before it was issued) to the last (a leeway after it
	// expires).
	replayMemory = callLife + 2*callLeeway
	maxReplays   = 100_000
)

// memory is what was seen of each signer, so that none can use up another's.
type memory struct {
	mu sync.Mutex
	by map[string]*replays // guarded by mu; signers are nodes of the registry, operators and joiners
}

func (m *memory) of(signer string) *replays {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.by == nil {
		m.by = map[string]*replays{}
	}
	if m.by[signer] == nil {
		m.by[signer] = &replays{}
	}
	return m.by[signer]
}

// replays remembers the calls of the last two minutes, 100,000 at most. When it
// is full it refuses rather than forgets. The zero value is ready.
type replays struct {
	mu    sync.Mutex
	seen  map[uuid.UUID]struct{} // guarded by mu
	queue []replay               // guarded by mu; the calls in seen, oldest first
}

type replay struct {
	id    uuid.UUID
	until time.Time
}

// admit remembers a call, or says why it may not pass.
func (r *replays) admit(id uuid.UUID, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.queue) > 0 && !now.Before(r.queue[0].until) {
		delete(r.seen, r.queue[0].id)
		r.queue = r.queue[1:]
	}
	if _, again := r.seen[id]; again {
		return muster.Errorf(muster.Unauthorized, "this call was seen before").WithCode("replayed")
	}
	if len(r.queue) >= maxReplays {
		return muster.Errorf(muster.Limited, "too many signed calls in two minutes to tell a new one from a repeated one").
			WithCode("replays_full").WithHint("send fewer; a minute later there is room again")
	}
	if r.seen == nil {
		r.seen = map[uuid.UUID]struct{}{}
	}
	r.seen[id] = struct{}{}
	r.queue = append(r.queue, replay{id: id, until: now.Add(replayMemory)})
	return nil
}
