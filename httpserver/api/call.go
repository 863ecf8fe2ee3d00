package api

import (
	"net/http"
	"time"

	"github.com/google/uuid"
)

// MaxSeen is how much of an incoming call's answer those who record it get.
const MaxSeen = 64 << 10

// Call is one request as the wire saw it, incoming or outgoing, when it is over.
// Who records calls hears of one that leaves a row in the request log (TypeOf)
// when it begins, too, as far as it is known then. Bodies are the wire's own:
// they may be read, never changed.
type Call struct {
	ID        string // UUIDv7, the same both times
	Pending   bool   // it has only begun
	Direction string // in | out
	Method    string
	Path      string // as sent, without the query
	Route     string // incoming: method and path pattern; empty: no route
	Node      string // outgoing: whose address was called
	NodeID    string // outgoing: the node that was called, if its ID is known
	Status    int    // 0: no answer
	Err       string
	Caller    string // principal on whose behalf; empty: nobody known
	CallerOf  string // incoming: ID of the node that the caller's key belongs to
	RequestID string
	TraceID   string
	Payload   []byte // the body
	Response  []byte // the answer's body
	At        time.Time
	Duration  time.Duration
}

func newCallID() string { return uuid.Must(uuid.NewV7()).String() }

// begin is a call on its way out.
func (c *Client) begin(addr string, r Request, req *http.Request, t Trace) Call {
	if c.Record == nil {
		return Call{}
	}
	c.mu.Lock()
	id := c.IDs[addr]
	c.mu.Unlock()
	call := Call{
		ID: newCallID(), Direction: "out", Method: r.Method, Path: req.URL.EscapedPath(), Node: addr, NodeID: id,
		Caller: c.Caller, TraceID: t.ID, Payload: r.Body, At: time.Now(),
	}
	if TypeOf(call.Method, call.Path) != "" {
		started := call
		started.Pending = true
		c.Record(started)
	}
	return call
}

// end records what became of a call.
func (c *Client) end(call Call, answer Response, err error) {
	if c.Record == nil {
		return
	}
	call.Status, call.Response, call.Duration = answer.Status, answer.Body, time.Since(call.At)
	call.RequestID = answer.Header.Get("X-Request-Id")
	if err == nil && answer.Status >= http.StatusBadRequest {
		err = FromResponse(answer.Status, answer.Body)
	}
	if err != nil {
		call.Err = err.Error()
	}
	c.Record(call)
}
