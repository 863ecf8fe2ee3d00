package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"muster"

	"github.com/go-json-experiment/json"
)

// Header names of the protocol.
const (
	HeaderTimeout     = "X-Muster-Timeout-Ms"
	HeaderIdempotency = "Idempotency-Key"
	maxAnswer         = 64 << 20
)

// Paths of the node protocol and of calls between nodes.
const (
	PathHealth    = "/api/ai-engine/health"
	PathApply     = "/internal/v1/apply"
	PathJoin      = "/internal/v1/join"
	PathReadIndex = "/internal/v1/read-index"
)

// Call is one request as the wire saw it, incoming or outgoing.
type Call struct {
	Direction string // in | out
	Method    string
	Path      string
	Node      string // outgoing: whose address was called
	Status    int    // 0: no answer
	Err       string
	Caller    string // incoming: principal
	RequestID string
	At        time.Time
	Duration  time.Duration
}

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

// Index is a registry index.
type Index struct {
	Index uint64 `json:"index"`
}

// Signer makes the Authorization of one call to the node with ID audience.
type Signer func(method, path string, body []byte, audience string) (string, error)

// Client speaks to one node or, for people, to the first of several that
// answers.
type Client struct {
	Addrs  []string // base URLs, tried in turn
	Key    string   // bearer key; used if Sign is nil
	Sign   Signer
	Record func(Call)
	HTTP   *http.Client

	IDs map[string]string // node ID by base URL, where known; guarded by mu once in use

	mu sync.Mutex
}

// Do sends one request and decodes its answer into out, if that is not nil. It
// returns Unavailable when nothing was sent, and OutcomeUnknown when the
// request went out but no answer came.
func (c *Client) Do(ctx context.Context, method, path string, in, out any, header ...string) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return muster.Errorf(muster.Internal, "encode request: %w", err)
		}
	}
	var err error
	for _, addr := range c.Addrs {
		var raw []byte
		raw, err = c.send(ctx, strings.TrimRight(addr, "/"), method, path, body, header)
		if muster.KindOf(err) == muster.Unavailable && muster.CodeOf(err) == codeNoConnection {
			continue
		}
		if err != nil || out == nil {
			return err
		}
		if err := json.Unmarshal(raw, out); err != nil {
			return muster.Errorf(muster.OutcomeUnknown, "answer of %s %s: %w", method, path, err)
		}
		return nil
	}
	return err
}

const codeNoConnection = "no_connection"

func (c *Client) send(ctx context.Context, addr, method, path string, body []byte, header []string) (raw []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, addr+path, bytes.NewReader(body))
	if err != nil {
		return nil, muster.Errorf(muster.Invalid, "address %q: %w", addr, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 1; i < len(header); i += 2 {
		req.Header.Set(header[i-1], header[i])
	}
	if end, ok := ctx.Deadline(); ok {
		req.Header.Set(HeaderTimeout, strconv.FormatInt(max(1, time.Until(end).Milliseconds()), 10))
	}
	if err := c.authorize(ctx, req, addr, method, path, body); err != nil {
		return nil, err
	}
	started, status := time.Now(), 0
	defer func() {
		if c.Record != nil {
			call := Call{Direction: "out", Method: method, Path: path, Node: addr, Status: status, At: started, Duration: time.Since(started)}
			if err != nil {
				call.Err = err.Error()
			}
			c.Record(call)
		}
	}()
	answer, err := c.HTTP.Do(req)
	if err != nil {
		return nil, transportError(err, addr)
	}
	defer func() { _ = answer.Body.Close() }()
	status = answer.StatusCode
	raw, err = io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, muster.Errorf(muster.OutcomeUnknown, "answer of %s: %w", addr, err)
	}
	if status >= http.StatusBadRequest {
		return nil, errorOf(status, raw)
	}
	return raw, nil
}

func (c *Client) authorize(ctx context.Context, req *http.Request, addr, method, path string, body []byte) error {
	switch {
	case path == PathHealth:
	case c.Sign != nil:
		id, err := c.idOf(ctx, addr)
		if err != nil {
			return err
		}
		token, err := c.Sign(method, path, body, id)
		if err != nil {
			return muster.Errorf(muster.Internal, "sign call: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	case c.Key != "":
		req.Header.Set("Authorization", "Bearer "+c.Key)
	}
	return nil
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

// health reads a node's health, also one of a node that is not ready.
func (c *Client) health(ctx context.Context, addr string) (h Health, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, addr+PathHealth, nil)
	if err != nil {
		return h, muster.Errorf(muster.Invalid, "address %q: %w", addr, err)
	}
	answer, err := c.HTTP.Do(req)
	if err != nil {
		return h, transportError(err, addr)
	}
	defer func() { _ = answer.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(raw, &h)
	}
	if err != nil || h.ID == "" {
		return h, muster.Errorf(muster.Unavailable, "%s does not answer as a muster node", addr)
	}
	return h, nil
}

// Holds reports whether the agent at an HTTP address answers with a node ID.
func (c *Client) Holds(ctx context.Context, httpAddr, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	h, err := c.health(ctx, "http://"+httpAddr)
	return err == nil && h.ID == id
}

// transportError tells what was never sent from what may have been done.
func transportError(err error, addr string) error {
	op, dialing := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	text := err.Error()
	if strings.Contains(text, "dial ") || strings.Contains(text, "connection refused") {
		return muster.Errorf(muster.Unavailable, "%s cannot be reached: %w", addr, unwrapURL(err)).
			WithCode(codeNoConnection).WithHint("is an agent running there? Set --addr or MUSTER_ADDR")
	}
	if dialing && op.Timeout() {
		return muster.Errorf(muster.OutcomeUnknown, "no answer of %s in time", addr)
	}
	return muster.Errorf(muster.OutcomeUnknown, "no answer of %s: %w", addr, unwrapURL(err))
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

// Nodes returns all nodes of the registry, page by page.
func (c *Client) Nodes(ctx context.Context) (all Nodes, err error) {
	for {
		var page Nodes
		path := "/v1/nodes?limit=1000&cursor=" + url.QueryEscape(all.Cursor)
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

// CreateKey makes a key.
func (c *Client) CreateKey(ctx context.Context, spec muster.KeySpec) (k muster.Key, err error) {
	return k, c.Do(ctx, http.MethodPost, "/v1/keys", spec, &k)
}

// Keys lists the keys.
func (c *Client) Keys(ctx context.Context) (k Keys, err error) {
	return k, c.Do(ctx, http.MethodGet, "/v1/keys", nil, &k)
}

// RevokeKey ends a key.
func (c *Client) RevokeKey(ctx context.Context, id string) error {
	return c.Do(ctx, http.MethodDelete, "/v1/keys/"+url.PathEscape(id), nil, nil)
}

// RemovePeer removes a dead agent.
func (c *Client) RemovePeer(ctx context.Context, slug string) error {
	return c.Do(ctx, http.MethodDelete, fmt.Sprintf("/v1/cluster/peers/%s", url.PathEscape(slug)), nil, nil)
}
