package httpserver

import (
	"strconv"
	"sync"
	"time"

	"muster"

	"github.com/valyala/fasthttp"
)

// The bounds of what one key may ask one node.
const (
	ratePerSecond = 100
	rateBurst     = 200
	maxBuckets    = 1024 // kept before full ones are dropped
)

// meter has a token bucket for each caller.
type meter struct {
	perSecond, burst float64

	mu      sync.Mutex
	buckets map[string]bucket // guarded by mu; a caller that is not there has a full one
}

// bucket is what a caller had left at a time.
type bucket struct {
	tokens float64
	at     time.Time
}

func newMeter(perSecond, burst float64) *meter {
	return &meter{perSecond: perSecond, burst: burst, buckets: map[string]bucket{}}
}

// take takes a token, if there is one, and returns how many whole ones are left.
func (m *meter) take(who string, now time.Time) (left int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, known := m.buckets[who]
	if !known {
		b = bucket{m.burst, now}
		m.sweepLocked(now)
	}
	b = m.filled(b, now)
	if ok = b.tokens >= 1; ok {
		b.tokens--
	}
	m.buckets[who] = b
	return int(b.tokens), ok
}

// filled is a bucket at a later time.
func (m *meter) filled(b bucket, now time.Time) bucket {
	return bucket{min(m.burst, b.tokens+max(0, now.Sub(b.at).Seconds())*m.perSecond), now}
}

// sweepLocked drops the buckets that are full again, when there are many.
func (m *meter) sweepLocked(now time.Time) {
	if len(m.buckets) < maxBuckets {
		return
	}
	for who, b := range m.buckets {
		if m.filled(b, now).tokens >= m.burst {
			delete(m.buckets, who)
		}
	}
}

// meter counts a request of a key. Operators and keys with the scope admin are
// not counted: who repairs a cluster must not be slowed down by it.
func (s *Server) meter(c *fasthttp.RequestCtx, by muster.Rights) error {
	if by.May(muster.ScopeAdmin) {
		return nil
	}
	left, ok := s.rates.take(by.Principal, s.cfg.Now())
	c.Response.Header.Set("X-RateLimit-Limit", strconv.Itoa(ratePerSecond))
	c.Response.Header.Set("X-RateLimit-Remaining", strconv.Itoa(left))
	if ok {
		return nil
	}
	return muster.Errorf(muster.Limited, "this key may ask a node %d times a second", ratePerSecond).
		WithCode("rate_limited").WithHint("wait for as many seconds as Retry-After says, or ask other nodes, too")
}
