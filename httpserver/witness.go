package httpserver

import (
	"bytes"
	"encoding/json"
	"time"

	"muster/httpserver/api"

	"github.com/google/uuid"
	"github.com/valyala/fasthttp"
)

// arrival is a request of which only the head is known. It continues the trace
// that the head names, or begins one.
func arrival(c *fasthttp.RequestCtx) *Request {
	trace, ok := api.ParseTrace(string(c.Request.Header.Peek(api.HeaderTrace)))
	if !ok {
		trace = api.NewTrace()
	}
	return &Request{
		ID: requestID(c), Method: string(c.Method()),
		rowID: uuid.Must(uuid.NewV7()).String(), trace: trace, arrived: time.Now(),
	}
}

func (s *Server) record(call api.Call) {
	if s.cfg.Record != nil {
		s.cfg.Record(call)
	}
}

// began records a request that is about to be done.
func (s *Server) began(r *Request) {
	if api.TypeOf(r.Method, r.Path) == "" {
		return
	}
	call := r.call()
	call.Pending = true
	s.record(call)
}

// ended is a request that was answered.
func (r *Request) ended(c *fasthttp.RequestCtx, err error) api.Call {
	call := r.call()
	call.Status, call.Duration = c.Response.StatusCode(), time.Since(r.arrived)
	if api.TypeOf(r.Method, r.Path) != "" {
		body := c.Response.Body()
		call.Response = bytes.Clone(body[:min(len(body), api.MaxSeen)]) // fasthttp uses its own again
	}
	if err != nil {
		call.Err = err.Error()
	}
	return call
}

func (r *Request) call() api.Call {
	return api.Call{
		ID: r.rowID, Direction: "in", Method: r.Method, Path: r.Path, Route: r.Route, Caller: r.Rights.Principal, CallerOf: r.Rights.NodeID,
		RequestID: r.ID, TraceID: r.trace.ID, Payload: r.payload(), At: r.arrived,
	}
}

// payload is what a request asks: its body, or its query.
func (r *Request) payload() []byte {
	if len(r.Body) > 0 || len(r.Query) == 0 || api.TypeOf(r.Method, r.Path) == "" {
		return r.Body
	}
	flat := map[string]string{}
	for name := range r.Query {
		flat[name] = r.Query.Get(name)
	}
	raw, err := json.Marshal(flat)
	if err != nil {
		return nil
	}
	return raw
}
