package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"muster"
)

// What a row of the request log can be.
const (
	TypeSearch = "search"
	TypeAction = "action"
	TypeSync   = "sync" // writes on their way to the master
	TypePing   = "ping"

	RowPending = "pending"
	RowSuccess = "success"
	RowFailed  = "failed"
)

// Row is one call in the request log. Node is the one that was asked: of an
// incoming call, the node that recorded it.
type Row struct {
	ID           string          `json:"id"` // UUIDv7, made when the call began
	NodeID       string          `json:"node_id"`
	Node         string          `json:"node"`        // slug
	RecordedBy   string          `json:"recorded_by"` // slug
	Direction    string          `json:"direction"`   // in | out
	RequestType  string          `json:"request_type"`
	Payload      json.RawMessage `json:"payload,omitzero"`  // JSON without secrets; cut, a string that ends with a mark
	Response     json.RawMessage `json:"response,omitzero"` // likewise
	StatusCode   int             `json:"status_code"`       // 0: no answer
	DurationMs   int64           `json:"duration_ms"`
	Status       string          `json:"status"`
	ErrorMessage string          `json:"error_message"`
	TraceID      string          `json:"trace_id"`
	RequestID    string          `json:"request_id"`
	Caller       string          `json:"caller"` // principal; empty: nobody known
	CreatedAt    time.Time       `json:"created_at"`
	UpdatedAt    time.Time       `json:"updated_at"`
}

// Requests is a page of the request log, newest first.
type Requests struct {
	Requests []Row    `json:"requests"`
	Cursor   string   `json:"cursor,omitempty"`
	Dropped  uint64   `json:"dropped"` // rows that were not kept, since the nodes started
	Missing  []string `json:"missing,omitempty"`
}

// RequestFilter chooses rows. Zero fields choose all.
type RequestFilter struct {
	Node     string // slug or ID
	Type     string
	Status   string
	Since    time.Time
	Slow     time.Duration // at least this long
	Trace    string
	Limit    int    // 1..1000; 0 is 100
	Cursor   string // of the page before
	Everyone bool   // all nodes' rows, not only those of the node asked

	// Whose rows: those of a principal or about a node; both empty are all.
	Principal string
	Own       string
}

// Query is the filter as a query string. Whose rows is not in it: the caller's
// rights say that.
func (f RequestFilter) Query() string {
	values := url.Values{}
	set := func(name, value string) {
		if value != "" {
			values.Set(name, value)
		}
	}
	set("node", f.Node)
	set("type", f.Type)
	set("status", f.Status)
	if !f.Since.IsZero() {
		set("since", f.Since.UTC().Format(time.RFC3339Nano))
	}
	if f.Slow > 0 {
		set("slow_ms", strconv.FormatInt(f.Slow.Milliseconds(), 10))
	}
	set("trace", f.Trace)
	if f.Limit > 0 {
		set("limit", strconv.Itoa(f.Limit))
	}
	set("cursor", f.Cursor)
	if f.Everyone {
		set("scope", "cluster")
	}
	if len(values) == 0 {
		return ""
	}
	return "?" + values.Encode()
}

// Requests returns one page of the request log.
func (c *Client) Requests(ctx context.Context, f RequestFilter) (page Requests, err error) {
	return page, c.Do(ctx, http.MethodGet, "/v1/requests"+f.Query(), nil, &page)
}

// OwnRequests returns one page of the asked node's own request log. Nodes ask it.
func (c *Client) OwnRequests(ctx context.Context, f RequestFilter) (page Requests, err error) {
	f.Everyone = false
	return page, c.Do(ctx, http.MethodGet, PathRequests+f.Query(), nil, &page)
}

// TypeOf is what a call is to the request log; empty: it leaves no row.
func TypeOf(method, path string) string {
	write := method == http.MethodPost
	has := func(ends ...string) bool {
		for _, end := range ends {
			if strings.HasSuffix(path, end) {
				return true
			}
		}
		return false
	}
	switch {
	case has("/v1/search", "/api/ai-engine/search", "/v1/context", PathPin, PathShard):
		return TypeSearch
	case write && (has("/v1/run", "/api/ai-engine/actions", PathRun, "/v1/tx") || strings.HasPrefix(path, "/v1/jobs/") || strings.HasPrefix(path, "/v1/tx/")):
		return TypeAction
	case write && (strings.HasPrefix(path, "/v1/nodes") && strings.HasSuffix(path, "/ping")), has(PathHealth):
		return TypePing
	case has("/v1/nodes/sync", "/v1/nodes/cleanup", PathApply, PathJoin), write && has("/v1/nodes", "/api/ai-engine/register"):
		return TypeSync
	default:
		return ""
	}
}

// Since reads the parameter since: a duration back from now, or RFC 3339.
func Since(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, muster.FieldError("since", "must be a duration like 1h, or a time like 2026-01-02T15:04:05Z")
	}
	return t, nil
}
