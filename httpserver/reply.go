package httpserver

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"muster"
	"muster/httpserver/api"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/valyala/fasthttp"
)

// methodError says that a path exists, but not for this method.
type methodError struct {
	why   *muster.Error
	allow []string
}

func (e *methodError) Error() string { return e.why.Error() }

// Unwrap returns the error as callers see it.
func (e *methodError) Unwrap() error { return e.why }

// serve runs one request through the table.
func (s *Server) serve(c *fasthttp.RequestCtx) {
	s.active.Add(1)
	defer s.active.Add(-1)
	req := arrival(c)
	answer, code, err := s.answer(c, req)
	drain(c, req.known)
	if err != nil {
		answer, code = s.fault(c, req, answer, err)
	}
	s.sign(c, req.ID)
	s.writeJSON(c, req.ID, code, answer)
	s.record(req.ended(c, err))
}

// fault is the answer that tells an error.
func (s *Server) fault(c *fasthttp.RequestCtx, req *Request, answer any, err error) (any, int) {
	body, code := api.ErrorBody(err, req.ID), api.Status(err)
	if code == http.StatusInternalServerError {
		s.cfg.Log.Error("request failed", "path", req.Path, "request_id", req.ID, "error", err)
	}
	if e, ok := errors.AsType[*methodError](err); ok {
		code = http.StatusMethodNotAllowed
		c.Response.Header.Set("Allow", strings.Join(e.allow, ", "))
	}
	if muster.CodeOf(err) == codeSlow {
		code = http.StatusRequestTimeout
	}
	body.Error = http.StatusText(code)
	if code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests {
		c.Response.Header.Set("Retry-After", "1")
	}
	if short, less := answer.(muster.Answer); less { // what was found goes with the reason why it is not enough
		return api.Short{Error: body, Answer: short}, code
	}
	if plan, refused := answer.(muster.SyncPlan); refused {
		return api.NotSynced{Error: body, SyncPlan: plan}, code
	}
	return body, code
}

// sign says who answers. It comes after the handler: a write's answer carries
// the index of that write, and the master that did it.
func (s *Server) sign(c *fasthttp.RequestCtx, id string) {
	sight := s.cfg.Cluster.Sight()
	c.Response.Header.Set("X-Request-Id", id)
	c.Response.Header.Set("X-Muster-Node", sight.Self)
	c.Response.Header.Set("X-Muster-Index", strconv.FormatUint(sight.Applied, 10))
	c.Response.Header.Set("X-Muster-Stale-Ms", strconv.FormatInt(sight.Stale.Milliseconds(), 10))
	if sight.Master != "" {
		c.Response.Header.Set("X-Muster-Master", sight.Master)
	}
}

// text is an answer that is no JSON.
type text struct {
	media string
	body  []byte
}

// writeJSON writes an answer: 500 for one that is no JSON.
func (s *Server) writeJSON(c *fasthttp.RequestCtx, id string, code int, answer any) {
	if as, ok := answer.(stream); ok {
		c.SetStatusCode(code)
		s.streams.send(c, as)
		return
	}
	if as, ok := answer.(text); ok {
		c.SetStatusCode(code)
		c.SetContentType(as.media)
		c.SetBody(as.body)
		return
	}
	raw, ok := answer.([]byte)
	if !ok {
		var err error
		if raw, err = encode(answer); err != nil {
			s.cfg.Log.Error("answer is no JSON", "path", string(c.Path()), "request_id", id, "error", err)
			raw, _ = encode(api.ErrorBody(err, id)) // plain text in all its fields
			code = http.StatusInternalServerError
		}
	}
	c.SetStatusCode(code)
	c.SetContentType("application/json")
	c.SetBody(raw)
}

func encode(answer any) ([]byte, error) {
	return json.Marshal(answer, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
}

// refuse answers what fasthttp could not read.
func (s *Server) refuse(c *fasthttp.RequestCtx, err error) {
	kind, code := error(muster.Errorf(muster.Malformed, "the request cannot be read")), http.StatusBadRequest
	if _, small := errors.AsType[*fasthttp.ErrSmallBuffer](err); small {
		code = http.StatusRequestHeaderFieldsTooLarge
	}
	if slow(err) {
		kind, code = errSlow(), http.StatusRequestTimeout
	}
	id := requestID(c)
	s.sign(c, id)
	body := api.ErrorBody(kind, id)
	body.Error = http.StatusText(code)
	s.writeJSON(c, id, code, body)
	c.SetConnectionClose()
}

func requestID(c *fasthttp.RequestCtx) string {
	id := string(c.Request.Header.Peek("X-Request-Id"))
	sane := id != "" && len(id) <= maxRequestID && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' })
	if sane {
		return id
	}
	return uuid.NewString()
}
