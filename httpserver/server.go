// Package httpserver is a node's HTTP surface: one table of routes, who may
// use them, and what is refused before a handler runs. It decides nothing
// about the cluster.
package httpserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"muster"
	"muster/httpserver/api"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/valyala/fasthttp"
)

// Auth tells who a caller is. Its errors are of kind Unauthorized.
type Auth interface {
	Key(ctx context.Context, plain string) (muster.Rights, error)
	Signed(token, method, path, key string, body []byte) (Caller, error)
}

// Caller is who signed a call.
type Caller struct {
	Rights muster.Rights
	Node   string // ID of the node that signed: one of this cluster, or one that joins; empty: none
	CallID string // no other call has it
}

// Cluster is the registry and the raft member, as far as routes need them.
type Cluster interface {
	Writer
	Reader
	Members
}

// Writer changes the registry, wherever the master is.
type Writer interface {
	Register(ctx context.Context, w muster.Write, g muster.Registration) (muster.Registered, error)
	CreateKey(ctx context.Context, w muster.Write, spec muster.KeySpec) (muster.Key, error)
	RevokeKey(ctx context.Context, w muster.Write, id string) error
	RemovePeer(ctx context.Context, w muster.Write, slug string) error
}

// Reader reads the registry as this node sees it.
type Reader interface {
	Nodes() []muster.Node
	Status() muster.ClusterStatus
	WaitIndex(ctx context.Context, index uint64) error
	Linearize(ctx context.Context) error
}

// Members serves the calls of other nodes.
type Members interface {
	Join(ctx context.Context, j muster.Joining) (muster.Joined, error)
	Apply(ctx context.Context, from string, by muster.Rights, command []byte) ([]byte, error)
	ReadIndex(ctx context.Context) (uint64, error)
}

// Documents is this node's index, for those who put things in.
type Documents interface {
	Add(ctx context.Context, ndjson []byte) (muster.Indexed, error)
	Get(ctx context.Context, collection, id string) (muster.Document, error)
	Delete(ctx context.Context, collection string, ids []string) (int, error)
}

// Engine is this node's index as a whole.
type Engine interface {
	Stats(ctx context.Context) (muster.IndexStats, error)
	Rebuild(ctx context.Context) error
	DeleteCollection(ctx context.Context, collection string) (int, error)
}

// Shard is this node's part of a federated search.
type Shard interface {
	Pin(ctx context.Context, q muster.ShardQuery) (muster.ShardStats, error)
	Search(ctx context.Context, s muster.ShardSearch) (muster.ShardHits, error)
}

// Searcher asks all nodes. It may return an answer and an error: what was
// found, and that it is less than was demanded.
type Searcher interface {
	Search(ctx context.Context, q muster.Query) (muster.Answer, error)
}

// Forwarder sends a request on to the node that is to do it, once.
type Forwarder interface {
	Forward(ctx context.Context, to muster.Node, by muster.Rights, r api.Request) (api.Response, error)
}

// Config says what to serve and to whom.
type Config struct {
	Addr    string
	ID      string // of this node
	Name    string
	Auth    Auth
	Cluster Cluster
	Search  Searcher
	Docs    Documents
	Engine  Engine
	Shard   Shard
	Forward Forwarder
	Keys    func() []muster.Key
	Waiting func() map[string]string // what the node still waits for; empty when it is ready
	Record  func(api.Call)
	Log     *slog.Logger
}

const (
	maxBody      = 1 << 20
	prefetch     = 64 << 10 // of a body, before its handler runs
	maxDrain     = 64 << 20 // of a body that is refused, so that the sender gets to read why
	maxHeader    = 16 << 10
	stopTimeout  = 2 * time.Second
	readTimeout  = 30 * time.Second
	maxRequestID = 128
)

// Server serves one node.
type Server struct {
	cfg    Config
	http   *fasthttp.Server
	ln     net.Listener
	routes []Route
	done   chan error
}

// New makes a server; Start binds it.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, done: make(chan error, 1)}
	s.routes = s.table()
	s.http = &fasthttp.Server{
		Handler: s.serve, Name: "muster", StreamRequestBody: true, MaxRequestBodySize: prefetch, ReadBufferSize: maxHeader,
		ReadTimeout: readTimeout, IdleTimeout: time.Minute, NoDefaultServerHeader: true, CloseOnShutdown: true,
		DisablePreParseMultipartForm: true, ErrorHandler: s.refuse, Logger: silent{},
	}
	return s
}

// silent drops fasthttp's own log: what matters is answered and recorded.
type silent struct{}

func (silent) Printf(string, ...any) {}

// Start binds the address and serves in the background.
func (s *Server) Start(ctx context.Context) (err error) {
	s.ln, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return muster.Errorf(muster.Unavailable, "HTTP port %s is taken by another program: %w", s.cfg.Addr, err).
			WithHint("stop it, or choose another port with --http or --port")
	}
	if err != nil {
		return fmt.Errorf("listen for HTTP on %s: %w", s.cfg.Addr, err)
	}
	go func() { s.done <- s.http.Serve(s.ln) }()
	return nil
}

// Stop lets requests under way finish, for two seconds.
func (s *Server) Stop(ctx context.Context) error {
	if s.ln == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	err := s.http.ShutdownWithContext(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // the rest is cut with the process
	}
	err = errors.Join(err, <-s.done)
	s.ln = nil
	return err
}

// Routes is the table, for those who check it.
func (s *Server) Routes() []Route { return slices.Clone(s.routes) }

// serve runs one request through the table.
func (s *Server) serve(c *fasthttp.RequestCtx) {
	started := time.Now()
	req := &Request{ID: requestID(c), Method: string(c.Method())}
	status := s.cfg.Cluster.Status()
	c.Response.Header.Set("X-Request-Id", req.ID)
	c.Response.Header.Set("X-Muster-Node", s.slug())
	c.Response.Header.Set("X-Muster-Index", strconv.FormatUint(status.AppliedIndex, 10))
	c.Response.Header.Set("X-Muster-Stale-Ms", strconv.FormatInt(status.StaleMs, 10))
	if status.Master != nil {
		c.Response.Header.Set("X-Muster-Master", status.Master.Slug)
	}
	answer, code, err := s.answer(c, req)
	drain(c)
	if err != nil {
		short, less := answer.(muster.Answer)
		answer, code = api.ErrorBody(err, req.ID), api.Status(err)
		if less { // what was found goes with the reason why it is not enough
			answer = api.Short{Error: api.ErrorBody(err, req.ID), Answer: short}
		}
		if code == http.StatusInternalServerError {
			s.cfg.Log.Error("request failed", "path", req.Path, "request_id", req.ID, "error", err)
		}
	}
	if e, ok := errors.AsType[*methodError](err); ok {
		code = http.StatusMethodNotAllowed
		c.Response.Header.Set("Allow", strings.Join(e.allow, ", "))
	}
	if code == http.StatusServiceUnavailable {
		c.Response.Header.Set("Retry-After", "1")
	}
	writeJSON(c, code, answer)
	if s.cfg.Record != nil {
		call := api.Call{
			Direction: "in", Method: req.Method, Path: req.Path, Status: code, Caller: req.Rights.Principal,
			RequestID: req.ID, At: started, Duration: time.Since(started),
		}
		if err != nil {
			call.Err = err.Error()
		}
		s.cfg.Record(call)
	}
}

func writeJSON(c *fasthttp.RequestCtx, code int, answer any) {
	raw, ok := answer.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(answer, json.Deterministic(true), jsontext.AllowInvalidUTF8(true)); err != nil {
			raw, code = []byte(`{"error":"Internal Server Error","message":"internal error","code":"internal"}`), http.StatusInternalServerError
		}
	}
	c.SetStatusCode(code)
	c.SetContentType("application/json")
	c.SetBody(raw)
}

// refuse answers what fasthttp could not read.
func (s *Server) refuse(c *fasthttp.RequestCtx, err error) {
	kind, code := error(muster.Errorf(muster.Malformed, "the request cannot be read")), http.StatusBadRequest
	if _, small := errors.AsType[*fasthttp.ErrSmallBuffer](err); small {
		code = http.StatusRequestHeaderFieldsTooLarge
	}
	writeJSON(c, code, api.ErrorBody(kind, requestID(c)))
	c.SetConnectionClose()
}

// methodError says that a path exists, but not for this method.
type methodError struct {
	why   *muster.Error
	allow []string
}

func (e *methodError) Error() string { return e.why.Error() }

// Unwrap returns the error as callers see it.
func (e *methodError) Unwrap() error { return e.why }

func (s *Server) answer(c *fasthttp.RequestCtx, req *Request) (answer any, code int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("handler of %s: %v", req.Path, p)
		}
	}()
	route, err := s.find(c, req)
	if err != nil {
		return nil, 0, err
	}
	limit, err := deadline(c, route)
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := s.authorize(ctx, c, route, req); err != nil {
		return nil, 0, err
	}
	if req.Body == nil {
		if req.Body, err = readBody(c, route); err != nil {
			return nil, 0, err
		}
	}
	if len(req.Body) > 0 {
		if err := checkMedia(string(c.Request.Header.ContentType()), route.Media); err != nil {
			return nil, 0, err
		}
	}
	if req.Query, err = url.ParseQuery(string(c.URI().QueryString())); err != nil {
		return nil, 0, muster.Errorf(muster.Malformed, "query string: %w", err)
	}
	ctx = muster.WithRights(ctx, req.Rights)
	if to := req.Query.Get("node"); route.AtNode && to != "" {
		return s.forward(ctx, c, req, to)
	}
	answer, err = route.Handle(ctx, req)
	if _, kind := errors.AsType[*muster.Error](err); !kind && errors.Is(err, context.DeadlineExceeded) {
		err = muster.Errorf(muster.OutcomeUnknown, "the deadline of %v passed: %w", limit, err)
	}
	if h, not := answer.(unready); not {
		return h.Health, http.StatusServiceUnavailable, err
	}
	return answer, max(route.Status, http.StatusOK), err
}

func (s *Server) find(c *fasthttp.RequestCtx, req *Request) (Route, error) {
	req.Path, _, _ = strings.Cut(string(c.Request.Header.RequestURI()), "?")
	var allow []string
	for _, route := range s.routes {
		params, ok := route.match(req.Path)
		if !ok {
			continue
		}
		if route.Method == req.Method {
			req.Params, req.Route, req.Key = params, route.Method+" "+route.Path, string(c.Request.Header.Peek(api.HeaderIdempotency))
			return route, nil
		}
		allow = append(allow, route.Method)
	}
	if allow != nil {
		return Route{}, &methodError{muster.Errorf(muster.Malformed, "%s is not for %s", req.Path, req.Method).WithCode("method_not_allowed"), allow}
	}
	return Route{}, muster.Errorf(muster.NotFound, "no route %s", req.Path)
}

// deadline is how long a request may take: what the caller says, in
// milliseconds, or the route's default.
func deadline(c *fasthttp.RequestCtx, route Route) (time.Duration, error) {
	text := string(c.Request.Header.Peek(api.HeaderTimeout))
	switch ms, err := strconv.Atoi(text); {
	case text == "" && route.Write:
		return writeDeadline, nil
	case text == "":
		return readDeadline, nil
	case err != nil || ms < 1:
		return 0, muster.FieldError(api.HeaderTimeout, "must be a number of milliseconds, at least 1")
	default:
		return time.Duration(min(ms, int(maxDeadline.Milliseconds()))) * time.Millisecond, nil
	}
}

// authorize finds out who calls and whether the route is for them.
func (s *Server) authorize(ctx context.Context, c *fasthttp.RequestCtx, route Route, req *Request) error {
	if route.Scope == muster.ScopePublic {
		return nil
	}
	token, ok := strings.CutPrefix(string(c.Request.Header.Peek("Authorization")), "Bearer ")
	if !ok || token == "" {
		return muster.Errorf(muster.Unauthorized, "API key required").WithHint("send it as: Authorization: Bearer mk_…")
	}
	var err error
	if strings.HasPrefix(token, "mk_") {
		req.Rights, err = s.cfg.Auth.Key(ctx, token)
	} else {
		if req.Body, err = readBody(c, route); err != nil { // it is signed, too
			return err
		}
		var by Caller
		by, err = s.cfg.Auth.Signed(token, req.Method, string(c.Request.Header.RequestURI()), req.Key, req.Body)
		req.Rights, req.Node, req.CallID = by.Rights, by.Node, by.CallID
	}
	if err != nil {
		return err
	}
	if route.Scope == muster.ScopeNode {
		if req.Node != "" {
			return nil
		}
		return muster.Errorf(muster.Forbidden, "only nodes of this cluster call this")
	}
	if !req.Rights.May(route.Scope) {
		return muster.Errorf(muster.Forbidden, "this needs the scope %s", route.Scope).WithHint("ask an operator for a key with it")
	}
	return nil
}

// readBody reads a body up to the route's limit. The bytes are the caller's to
// keep: fasthttp's own buffer is used again for the next request.
func readBody(c *fasthttp.RequestCtx, route Route) ([]byte, error) {
	limit := maxBody
	if route.Body > 0 {
		limit = route.Body
	}
	tooLarge := muster.Errorf(muster.TooLarge, "the body is over %d bytes", limit).WithHint("send it in parts")
	if c.Request.Header.ContentLength() > limit {
		return nil, tooLarge
	}
	stream := c.RequestBodyStream()
	if stream == nil {
		return bytes.Clone(c.PostBody()), nil
	}
	body, err := io.ReadAll(io.LimitReader(stream, int64(limit)+1))
	if err != nil {
		return nil, muster.Errorf(muster.Malformed, "read body: %w", err)
	}
	if len(body) > limit {
		return nil, tooLarge
	}
	return body, nil
}

// drain takes in what was not read of a body: a sender that is still sending
// when the connection closes would never see the answer.
func drain(c *fasthttp.RequestCtx) {
	stream := c.RequestBodyStream()
	if stream == nil {
		return
	}
	n, err := io.Copy(io.Discard, io.LimitReader(stream, maxDrain))
	if err != nil || n == maxDrain {
		c.SetConnectionClose()
	}
}

func checkMedia(header, want string) error {
	if want == "" {
		want = "application/json"
	}
	media, params, err := mime.ParseMediaType(header)
	charset := params["charset"]
	if err == nil && media == want && (charset == "" || strings.EqualFold(charset, "utf-8")) {
		return nil
	}
	return muster.Errorf(muster.Unsupported, "the content type %q is not read here", header).
		WithHint("send Content-Type: " + want + ", in UTF-8")
}

// forward has a request done by the node it names: here, or one hop away. The
// node that gets it sees itself named, so it goes no further.
func (s *Server) forward(ctx context.Context, c *fasthttp.RequestCtx, req *Request, name string) (any, int, error) {
	for _, n := range s.cfg.Cluster.Nodes() {
		if n.Slug != name && n.ID != name || n.DeletedAt != nil {
			continue
		}
		if n.ID == s.cfg.ID {
			route, err := s.find(c, req)
			if err != nil {
				return nil, 0, err
			}
			answer, err := route.Handle(ctx, req)
			return answer, max(route.Status, http.StatusOK), err
		}
		if n.Kind != muster.KindAgent {
			return nil, 0, muster.FieldError("node", n.Slug+" is an external node: it has no index of ours")
		}
		got, err := s.cfg.Forward.Forward(ctx, n, req.Rights, api.Request{
			Method: req.Method, Path: string(c.Request.Header.RequestURI()), Media: string(c.Request.Header.ContentType()), Body: req.Body,
		})
		return got.Body, got.Status, err
	}
	return nil, 0, muster.FieldError("node", "no node "+strconv.Quote(name))
}

func requestID(c *fasthttp.RequestCtx) string {
	id := string(c.Request.Header.Peek("X-Request-Id"))
	sane := id != "" && len(id) <= maxRequestID && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' })
	if sane {
		return id
	}
	return uuid.NewString()
}
