package httpserver

import (
	"muster"

	"github.com/valyala/fasthttp"
)

// Each registration is a write to the log of the whole cluster.
const (
	offersPerSecond = 1
	offerBurst      = 20
)

// stranger lets in a registration without a key. All strangers share one
// allowance at a node. Their Idempotency-Key is not heeded: who guessed one
// would be shown another one's key.
func (s *Server) stranger(c *fasthttp.RequestCtx, req *Request) error {
	if len(c.Request.Header.Peek(fasthttp.HeaderAuthorization)) > 0 {
		return muster.Errorf(muster.Unauthorized, "Invalid API key")
	}
	if _, ok := s.offers.take("", s.cfg.Now()); !ok {
		return muster.Errorf(muster.Limited, "too many registrations without a key").WithCode("rate_limited").
			WithHint("try again later, or use a key with the scope " + muster.ScopeRegistry)
	}
	req.Rights, req.Key = muster.Rights{Principal: "stranger"}, ""
	return nil
}
