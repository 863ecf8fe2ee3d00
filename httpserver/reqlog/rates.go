package reqlog

import (
	"math"
	"sync"
	"time"

	"muster/httpserver/api"
)

// rateMinutes is the hour that success rates look back.
const rateMinutes = 60

// rates counts the calls to each node, by minute.
type rates struct {
	mu    *sync.Mutex
	nodes map[string]*[rateMinutes]tally // guarded by mu
}

type tally struct {
	minute  int64 // since 1970; another one means that the counts are old
	all, ok int
}

func newRates() rates { return rates{&sync.Mutex{}, map[string]*[rateMinutes]tally{}} }

// count counts a call that is over, at the minute in which it began.
func (r rates) count(row api.Row, now time.Time) {
	minute := row.CreatedAt.Unix() / 60
	if row.Status == api.RowPending || row.NodeID == "" || minute <= now.Unix()/60-rateMinutes {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ring := r.nodes[row.NodeID]
	if ring == nil {
		ring = &[rateMinutes]tally{}
		r.nodes[row.NodeID] = ring
	}
	t := &ring[minute%rateMinutes]
	if t.minute != minute {
		*t = tally{minute: minute}
	}
	t.all++
	if row.Status == api.RowSuccess {
		t.ok++
	}
}

func (r rates) of(nodeID string, now time.Time) *float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	ring := r.nodes[nodeID]
	if ring == nil {
		return nil
	}
	all, ok := 0, 0
	for _, t := range ring {
		if t.minute > now.Unix()/60-rateMinutes {
			all, ok = all+t.all, ok+t.ok
		}
	}
	if all == 0 {
		return nil
	}
	rate := math.Round(1e4*float64(ok)/float64(all)) / 100
	return &rate
}

func (r rates) forget(nodeID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.nodes, nodeID)
}
