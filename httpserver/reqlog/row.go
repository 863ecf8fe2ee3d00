package reqlog

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"muster/httpserver/api"
)

const (
	maxMessage  = 1 << 10
	interrupted = "interrupted"
	unrecorded  = "what became of it was not recorded"
)

// row is a call as it is kept.
func (l *Log) row(e entry, now time.Time) api.Row {
	c := e.call
	r := api.Row{
		ID: c.ID, NodeID: l.cfg.Self, RecordedBy: l.cfg.Slug(l.cfg.Self), Direction: c.Direction, RequestType: e.kind, StatusCode: c.Status,
		DurationMs: c.Duration.Milliseconds(), Status: api.RowPending, ErrorMessage: c.Err, TraceID: c.TraceID,
		RequestID: c.RequestID, Caller: c.Caller, CreatedAt: c.At.UTC(), UpdatedAt: now.UTC(),
	}
	r.Node = r.RecordedBy
	if c.Direction == "out" {
		r.NodeID, r.Node = c.NodeID, l.cfg.Slug(c.NodeID)
	}
	if r.Node == "" {
		r.Node = c.Node // an address is better than nothing
	}
	r.Payload, _, _ = l.hide.clean(c.Payload, most(c), l.params(e))
	if !c.Pending {
		l.finish(&r, e)
	}
	r.ErrorMessage = shorten(l.hide.text(r.ErrorMessage), maxMessage)
	return r
}

// most is how much of its bodies is kept, in bytes.
func most(c api.Call) int {
	if strings.HasSuffix(c.Path, api.PathApply) {
		return maxBatch
	}
	return maxText
}

// finish adds what became of the call. An action can fail in an answer that is
// none.
func (l *Log) finish(r *api.Row, e entry) {
	var success *bool
	var message string
	r.Response, success, message = l.hide.clean(e.call.Response, most(e.call), nil)
	r.Status = api.RowSuccess
	switch {
	case e.call.Err != "" || r.StatusCode == 0 || r.StatusCode >= http.StatusBadRequest:
		r.Status = api.RowFailed
	case e.kind == api.TypeAction && success != nil && !*success:
		r.Status, r.ErrorMessage = api.RowFailed, message
	}
}

// params says which parameters of an action are hidden.
func (l *Log) params(e entry) func(string) bool {
	if e.kind != api.TypeAction {
		return nil
	}
	var names []string
	known := false
	if action := actionOf(e.call.Payload); action != "" && l.cfg.Secrets != nil {
		names, known = l.cfg.Secrets(action)
	}
	return func(name string) bool { return !known || slices.Contains(names, name) }
}

// A row is kept in two parts, so that a filter need not read the bodies.
type bodies struct {
	Payload  json.RawMessage `json:"p,omitzero"`
	Response json.RawMessage `json:"r,omitzero"`
}

// append appends them as JSON. They were written by a walk: nothing in them needs
// another look.
func (b bodies) append(to []byte) []byte {
	to = append(to, '{')
	if len(b.Payload) > 0 {
		to = append(append(to, `"p":`...), b.Payload...)
	}
	if len(b.Response) > 0 {
		if len(b.Payload) > 0 {
			to = append(to, ',')
		}
		to = append(append(to, `"r":`...), b.Response...)
	}
	return append(to, '}')
}
