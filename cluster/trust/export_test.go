package trust

import (
	"time"

	"github.com/google/uuid"
)

// What tests may see of Replays: filling it with signed calls takes too long.
const (
	ReplayMemory = replayMemory
	MaxReplays   = maxReplays
)

// Admit is admit.
func (r *Replays) Admit(id uuid.UUID, now time.Time) error { return r.admit(id, now) }

// Len is the number of calls remembered.
func (r *Replays) Len() int { return max(len(r.seen), len(r.queue)) }
