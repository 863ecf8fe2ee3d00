package trust

import (
	"time"

	"github.com/google/uuid"
)

// Replays is replays: filling it with signed calls takes too long.
type Replays = replays

// What tests may see of it.
const (
	ReplayMemory = replayMemory
	MaxReplays   = maxReplays
)

// Admit is admit.
func (r *replays) Admit(id uuid.UUID, now time.Time) error { return r.admit(id, now) }

// Len is the number of calls remembered.
func (r *replays) Len() int { return max(len(r.seen), len(r.queue)) }
