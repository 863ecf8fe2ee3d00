package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"muster"

	"github.com/go-json-experiment/json"
)

// Header names and media types of the protocol.
const (
	HeaderTimeout     = "X-Muster-Timeout-Ms"
	HeaderIdempotency = "Idempotency-Key"
	HeaderMatch       = "If-Match"
	HeaderLastEvent   = "Last-Event-ID"
	MediaNDJSON       = "application/x-ndjson"
	maxAnswer         = 64 << 20
)

// Paths of the node protocol and of calls between nodes.
const (
	PathHealth    = "/api/ai-engine/health"
	PathApply     = "/internal/v1/apply"
	PathJoin      = "/internal/v1/join"
	PathReadIndex = "/internal/v1/read-index"
	PathPin       = "/internal/v1/search/stats"
	PathShard     = "/internal/v1/search/query"
	PathRun       = "/internal/v1/run"
	PathCancel    = "/internal/v1/cancel"
	PathOutcome   = "/internal/v1/outcome"
	PathJobs      = "/internal/v1/jobs"
	PathLead      = "/internal/v1/lead"
	PathEvents    = "/internal/v1/events"
	PathOutput    = "/internal/v1/output"
	PathActions   = "/internal/v1/actions"
	PathRequests  = "/internal/v1/requests"
)

// Health is a node's answer about itself.
type Health struct {
	Status       string              `json:"status"` // healthy | unhealthy
	Ready        bool                `json:"ready"`
	Degraded     []string            `json:"degraded"`
	ID           string              `json:"id"`
	Name         string              `json:"name"`
	Slug         string              `json:"slug"`
	Version      string              `json:"version"`
	Capabilities []muster.Capability `json:"capabilities"`
	Type         muster.NodeType     `json:"type"`
	Master       string              `json:"master"`
	Cluster      string              `json:"cluster"`
	Timestamp    time.Time           `json:"timestamp"`
	Checks       map[string]string   `json:"checks,omitempty"` // what a node that is not ready waits for
}

// Nodes is a page of the registry.
type Nodes struct {
	Nodes  []muster.Node `json:"nodes"`
	Total  int           `json:"total"`
	Cursor string        `json:"cursor,omitempty"`
}

// Keys lists keys without their secrets.
type Keys struct {
	Keys []muster.Key `json:"keys"`
}

// NewKey is a key that was made. Plain is nil when the answer repeats an
// earlier one that another node gave; Hint then says what to do.
type NewKey struct {
	muster.Key
	Plain *string `json:"key"`
	Hint  string  `json:"hint,omitempty"`
}

// NodeStatus is a node's answer about the caller's node, or about itself if
// the caller has none.
type NodeStatus struct {
	Node    muster.Node          `json:"node"`
	Caller  string               `json:"caller,omitempty"` // principal, when its key is bound to no node
	Health  NodeHealth           `json:"health"`
	Circuit *muster.Circuit      `json:"circuit_breaker"`
	Cluster muster.ClusterStatus `json:"cluster"`
}

// NodeHealth is what pings of a node have shown.
type NodeHealth struct {
	Healthy         bool       `json:"is_healthy"`
	SuccessRate     *float64   `json:"success_rate"`      // percent, of the calls to it in the last hour that the answering node knows; nil: none
	AvgResponseTime *float64   `json:"avg_response_time"` // milliseconds
	PingFailures    int        `json:"ping_failures"`
	LastPingAt      *time.Time `json:"last_ping_at"`
}

// Index is a registry index.
type Index struct {
	Index uint64 `json:"index"`
}

// Signer makes the Authorization of one call to the node with ID audience. It
// signs the method, path, body and idempotency key of r.
type Signer func(r Request, audience string) (string, error)

// Client speaks to one node or, for people, to the first of several that
// answers.
type Client struct {
	Addrs  []string // base URLs, tried in turn
	Key    string   // bearer key; used if Sign is nil
	Sign   Signer
	Caller string     // principal on whose behalf; for Record
	Record func(Call) // hears of each call, as Call says
	HTTP   *http.Client
	Most   int64 // bytes of an answer; 0 is 64 MiB

	IDs map[string]string // node ID by base URL, where known; guarded by mu once in use

	mu sync.Mutex
}

// Request is one call, as bytes: signatures cover the body.
type Request struct {
	Method string
	Path   string // with the query, percent-encoded
	Media  string // of Body; empty is application/json
	Body   []byte
	Header http.Header
}

// Key is the request's idempotency key.
func (r Request) Key() string { return r.Header.Get(HeaderIdempotency) }

// Response is an answer below 400.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// To is a client for one node whose ID is known: calls are made out to that
// node and no other. Connections are shared.
func (c *Client) To(url, nodeID string) *Client {
	url = strings.TrimRight(url, "/")
	url = strings.TrimRight(url, "/")
	return &Client{Addrs: []string{url}, Key: c.Key, Sign: c.Sign, Caller: c.Caller, Record: c.Record, HTTP: c.HTTP, IDs: map[string]string{url: nodeID}}
}

// Do sends one request as JSON and decodes its answer into out, if that is not
// nil. header is names and values in turn. Errors are as from Send.
func (c *Client) Do(ctx context.Context, method, path string, in, out any, header ...string) error {
	req := Request{Method: method, Path: path, Header: http.Header{}}
	for i := 1; i < len(header); i += 2 {
		req.Header.Set(header[i-1], header[i])
	}
	if in != nil {
		var err error
		if req.Body, err = json.Marshal(in); err != nil {
			return muster.Errorf(muster.Internal, "encode request: %w", err)
		}
	}
	answer, err := c.Send(ctx, req)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer.Body, out); err != nil {
		return muster.Errorf(muster.OutcomeUnknown, "answer of %s %s: %w", method, path, err)
	}
	return nil
}

// Send sends one request to the first address that can be reached. It returns
// Unavailable when nothing was sent, OutcomeUnknown when the request went out
// but no answer came, and the node's own error when it answered with one.
func (c *Client) Send(ctx context.Context, req Request) (answer Response, err error) {
	err = muster.Errorf(muster.Invalid, "no address of a node is given").WithHint("set --addr or MUSTER_ADDR")
	for _, addr := range c.Addrs {
		answer, err = c.send(ctx, strings.TrimRight(addr, "/"), req)
		if muster.CodeOf(err) != codeNoConnection {
			return answer, err
		}
	}
	return answer, err
}

const (
	codeNoConnection = "no_connection"
	codeRestarted    = "restarted" // signed before the node started
)

// send signs anew for each try: a node takes a signature once.
func (c *Client) send(ctx context.Context, addr string, req Request) (Response, error) {
	answer, err := c.trySend(ctx, addr, req)
	if muster.CodeOf(err) == codeRestarted && c.Sign != nil {
		answer, err = c.trySend(ctx, addr, req)
	}
	return answer, err
}

func (c *Client) trySend(ctx context.Context, addr string, req Request) (Response, error) {
	authorization, err := c.authorize(ctx, addr, req)
	if err != nil {
		return Response{}, err
	}
	answer, err := c.exchange(ctx, addr, req, authorization)
	if err == nil && answer.Status >= http.StatusBadRequest {
		err = FromResponse(answer.Status, answer.Body)
	}
	if err != nil {
		return Response{}, err
	}
	return answer, nil
}

// exchange is the one place where a request leaves, and where it is recorded.
func (c *Client) exchange(ctx context.Context, addr string, r Request, authorization string) (answer Response, err error) {
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { sent.Store(true) },
		WroteRequest: func(httptrace.WroteRequestInfo) { sent.Store(true) },
	})
	req, err := http.NewRequestWithContext(ctx, r.Method, addr+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return answer, muster.Errorf(muster.Invalid, "address %q: %w", addr, err)
	}
	maps.Copy(req.Header, r.Header)
	if len(r.Body) > 0 {
		req.Header.Set("Content-Type", cmp.Or(r.Media, "application/json"))
	}
	if end, ok := ctx.Deadline(); ok {
		req.Header.Set(HeaderTimeout, strconv.FormatInt(max(1, time.Until(end).Milliseconds()), 10))
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	trace := TraceOf(ctx)
	req.Header.Set(HeaderTrace, trace.Header())
	call := c.begin(addr, r, req, trace)
	defer func() { c.end(call, answer, err) }()
	raw, err := c.client().Do(req)
	if err != nil {
		return answer, transportError(err, addr, sent.Load())
	}
	defer func() { _ = raw.Body.Close() }()
	answer.Status, answer.Header = raw.StatusCode, raw.Header
	if raw.StatusCode >= http.StatusMultipleChoices && raw.StatusCode < http.StatusBadRequest {
		return answer, redirected(addr, raw)
	}
	most := cmp.Or(c.Most, maxAnswer)
	if answer.Body, err = io.ReadAll(io.LimitReader(raw.Body, most+1)); err != nil {
		return answer, muster.Errorf(muster.OutcomeUnknown, "answer of %s: %w", addr, err)
	}
	if int64(len(answer.Body)) > most {
		return answer, muster.Errorf(muster.OutcomeUnknown, "answer of %s is over %d bytes", addr, most).WithCode(codeTooLarge)
	}
	return answer, nil
}

// client follows no redirects: a call is signed for one node, and a key is
// meant for no other.
func (c *Client) client() *http.Client {
	var client http.Client
	if c.HTTP != nil {
		client = *c.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

// redirected is the error of an answer that sends the caller elsewhere.
func redirected(addr string, answer *http.Response) error {
	return muster.Errorf(muster.Unavailable, "%s answered %d and sends the caller to %s, which is not followed",
		addr, answer.StatusCode, oneLine(answer.Header.Get("Location"))).
		WithCode(codeRedirected).WithHint("is a proxy in between? Use the address of the node itself")
}

// authorize makes the Authorization header of a call to addr.
func (c *Client) authorize(ctx context.Context, addr string, req Request) (string, error) {
	switch {
	case c.Sign != nil:
		id, err := c.idOf(ctx, addr)
		if err != nil {
			return "", err
		}
		token, err := c.Sign(req, id)
		if err != nil {
			return "", muster.Errorf(muster.Internal, "sign call: %w", err)
		}
		return "Bearer " + token, nil
	case c.Key != "":
		return "Bearer " + c.Key, nil
	default:
		return "", nil
	}
}

// idOf asks an address once who it is: signed calls are made out to a node.
func (c *Client) idOf(ctx context.Context, addr string) (string, error) {
	c.mu.Lock()
	id := c.IDs[addr]
	c.mu.Unlock()
	if id != "" {
		return id, nil
	}
	h, err := c.health(ctx, addr)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.IDs == nil {
		c.IDs = map[string]string{}
	}
	c.IDs[addr] = h.ID
	return h.ID, nil
}

// Health returns the health of the first address that answers, also of a node
// that is not ready.
func (c *Client) Health(ctx context.Context) (h Health, err error) {
	err = muster.Errorf(muster.Invalid, "no address of a node is given").WithHint("set --addr or MUSTER_ADDR")
	for _, addr := range c.Addrs {
		if h, err = c.health(ctx, strings.TrimRight(addr, "/")); err == nil {
			return h, nil
		}
	}
	return h, err
}

// health asks one address. Its errors are all Unavailable: nothing was done,
// and the next address may be asked.
func (c *Client) health(ctx context.Context, addr string) (h Health, err error) {
	answer, err := c.exchange(ctx, addr, Request{Method: http.MethodGet, Path: PathHealth}, "")
	if err != nil {
		return h, muster.Errorf(muster.Unavailable, "%w", err).WithCode(codeNoConnection).WithHint(unreached(err))
	}
	if json.Unmarshal(answer.Body, &h) != nil || h.ID == "" {
		return h, stranger(addr, answer)
	}
	return h, nil
}

// stranger is the error of an address whose health is no node's.
func stranger(addr string, answer Response) error {
	err := muster.Errorf(muster.Unavailable, "%s does not answer as a muster node", addr)
	if answer.Status >= http.StatusBadRequest {
		err = muster.Errorf(muster.Unavailable, "%s does not answer as a muster node: %w", addr, FromResponse(answer.Status, answer.Body))
	}
	return err.WithCode(codeNoConnection)
}

// Holds reports whether the agent at a base URL answers with a node ID.
func (c *Client) Holds(ctx context.Context, url, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	h, err := c.health(ctx, url)
	return err == nil && h.ID == id
}

const (
	hintUnreached  = "is an agent running there? Set --addr or MUSTER_ADDR"
	hintUnverified = "nodes without a public certificate are verified by the cluster secret (--secret-file), or by what muster secret ca prints"
)

// unreached is the way out when an address gave no answer.
func unreached(err error) string {
	if _, strange := errors.AsType[*tls.CertificateVerificationError](err); strange {
		return hintUnverified
	}
	return hintUnreached
}

// transportError tells what was never sent from what may have been done.
func transportError(err error, addr string, sent bool) error {
	timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	if refused, ok := errors.AsType[*muster.Error](err); ok && refused.Code == codeBadAddress {
		return refused
	}
	switch {
	case !sent:
		return muster.Errorf(muster.Unavailable, "%s cannot be reached: %w", addr, unwrapURL(err)).
			WithCode(codeNoConnection).WithHint(unreached(err))
	case ok && timeout.Timeout():
		return muster.Errorf(muster.OutcomeUnknown, "no answer of %s in time", addr)
	default:
		return muster.Errorf(muster.OutcomeUnknown, "no answer of %s: %w", addr, unwrapURL(err))
	}
}

func unwrapURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// Cluster returns the cluster as the asked node sees it.
func (c *Client) Cluster(ctx context.Context) (s muster.ClusterStatus, err error) {
	return s, c.Do(ctx, http.MethodGet, "/v1/cluster", nil, &s)
}

// Nodes returns all nodes of the registry, page by page; where is pairs of the
// list's filters and their values.
func (c *Client) Nodes(ctx context.Context, where ...string) (all Nodes, err error) {
	for {
		var page Nodes
		path := "/v1/nodes" + query(slices.Concat(where, []string{"limit", "1000", "cursor", all.Cursor})...)
		if err := c.Do(ctx, http.MethodGet, path, nil, &page); err != nil {
			return all, err
		}
		all.Nodes, all.Total, all.Cursor = append(all.Nodes, page.Nodes...), page.Total, page.Cursor
		if page.Cursor == "" {
			return all, nil
		}
	}
}

// Node returns one node by its slug.
func (c *Client) Node(ctx context.Context, slug string) (n muster.Node, err error) {
	return n, c.Do(ctx, http.MethodGet, "/v1/nodes/"+url.PathEscape(slug), nil, &n)
}

// Register enters an external node.
func (c *Client) Register(ctx context.Context, g muster.Registration, key string) (r muster.Registered, err error) {
	return r, c.Do(ctx, http.MethodPost, "/v1/nodes", g, &r, HeaderIdempotency, key)
}

// Ping pings a node now; an empty slug is all of them.
func (c *Client) Ping(ctx context.Context, slug string) (p muster.Pings, err error) {
	path := "/v1/nodes/ping"
	if slug != "" {
		path = "/v1/nodes/" + url.PathEscape(slug) + "/ping"
	}
	return p, c.Do(ctx, http.MethodPost, path, nil, &p)
}

// CreateKey makes a key.
func (c *Client) CreateKey(ctx context.Context, spec muster.KeySpec) (k NewKey, err error) {
	return k, c.Do(ctx, http.MethodPost, "/v1/keys", spec, &k)
}

// Status returns the node that the key belongs to, or the one asked.
func (c *Client) Status(ctx context.Context) (s NodeStatus, err error) {
	return s, c.Do(ctx, http.MethodGet, "/api/ai-engine/status", nil, &s)
}

// Search asks all nodes a question.
func (c *Client) Search(ctx context.Context, q muster.Query) (a muster.Answer, err error) {
	return a, c.Do(ctx, http.MethodPost, "/v1/search", q, &a)
}

// SearchCache describes the answers that the asked node keeps, all pages of it.
func (c *Client) SearchCache(ctx context.Context) (all muster.SearchCache, err error) {
	var entries []muster.CachedAnswer
	for {
		var page muster.SearchCache
		path := "/v1/search/cache" + query("limit", "1000", "cursor", all.Cursor)
		if err := c.Do(ctx, http.MethodGet, path, nil, &page); err != nil {
			return all, err
		}
		entries, all = append(entries, page.Entries...), page
		if all.Entries = entries; page.Cursor == "" {
			return all, nil
		}
	}
}

// FlushSearchCache makes the asked node forget the answers it keeps.
func (c *Client) FlushSearchCache(ctx context.Context) error {
	return c.Do(ctx, http.MethodDelete, "/v1/search/cache", nil, nil)
}

// AddDocuments puts documents, one JSON object a line, into the index of a
// node; an empty slug is the node asked.
func (c *Client) AddDocuments(ctx context.Context, node string, ndjson []byte) (done muster.Indexed, err error) {
	path := "/v1/documents" + query("node", node)
	answer, err := c.Send(ctx, Request{Method: http.MethodPost, Path: path, Media: MediaNDJSON, Body: ndjson})
	if err != nil {
		return done, err
	}
	if err := json.Unmarshal(answer.Body, &done); err != nil {
		return done, muster.Errorf(muster.OutcomeUnknown, "answer of POST %s: %w", path, err)
	}
	return done, nil
}

// DeleteDocument removes one document. It is NotFound when there is none.
func (c *Client) DeleteDocument(ctx context.Context, node, collection, id string) error {
	return c.Do(ctx, http.MethodDelete, "/v1/documents/"+pathID(id)+query("node", node, "collection", collection), nil, nil)
}

// IndexStats describes a node's index; an empty node is the one asked.
func (c *Client) IndexStats(ctx context.Context, node string) (s muster.IndexStats, err error) {
	return s, c.Do(ctx, http.MethodGet, "/v1/index"+query("node", node), nil, &s)
}

// RebuildIndex makes a node's index anew from the documents it holds.
func (c *Client) RebuildIndex(ctx context.Context, node string) (s muster.IndexStats, err error) {
	return s, c.Do(ctx, http.MethodPost, "/v1/index/rebuild"+query("node", node), nil, &s)
}

// pathID encodes an ID as one path segment. Dots alone are encoded, too: on the
// way they would be taken for "here" and "above".
func pathID(id string) string {
	if strings.Trim(id, ".") == "" {
		return strings.ReplaceAll(id, ".", "%2E")
	}
	return url.PathEscape(id)
}

// query makes a query string of the pairs whose value is not empty.
func query(pairs ...string) string {
	values := url.Values{}
	for i := 1; i < len(pairs); i += 2 {
		if pairs[i] != "" {
			values.Set(pairs[i-1], pairs[i])
		}
	}
	if len(values) == 0 {
		return ""
	}
	return "?" + values.Encode()
}

// Keys lists the keys.
func (c *Client) Keys(ctx context.Context) (k Keys, err error) {
	return k, c.Do(ctx, http.MethodGet, "/v1/keys", nil, &k)
}

// RotateKey gives a key a new secret; the old one is good for the overlap longer.
func (c *Client) RotateKey(ctx context.Context, id string, r muster.Rotation) (k NewKey, err error) {
	return k, c.Do(ctx, http.MethodPost, "/v1/keys/"+url.PathEscape(id)+"/rotate", r, &k)
}

// RotateNodeKey does so with the key of a node, or makes one for a node without.
func (c *Client) RotateNodeKey(ctx context.Context, slug string, r muster.Rotation) (k NewKey, err error) {
	return k, c.Do(ctx, http.MethodPost, "/v1/nodes/"+url.PathEscape(slug)+"/key", r, &k)
}

// RevokeKey ends a key.
func (c *Client) RevokeKey(ctx context.Context, id string) error {
	return c.Do(ctx, http.MethodDelete, "/v1/keys/"+url.PathEscape(id), nil, nil)
}

// RemovePeer removes an agent for good; a living one hears of it and stops.
func (c *Client) RemovePeer(ctx context.Context, slug string) error {
	return c.Do(ctx, http.MethodDelete, fmt.Sprintf("/v1/cluster/peers/%s", url.PathEscape(slug)), nil, nil)
}
