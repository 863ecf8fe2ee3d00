// Package httpserver is a node's HTTP surface: one table of routes, who may
// use them, and what is refused before a handler runs. It decides nothing
// about the cluster.
package httpserver

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"muster"
	"muster/httpserver/api"

	"github.com/valyala/fasthttp"
)

// Config says what to serve and to whom.
type Config struct {
	Addr     string
	TLS      *tls.Config // nil: plain HTTP
	ID       string      // of this node
	Name     string
	Auth     Auth
	Cluster  Cluster
	Search   Searcher
	Cache    AnswerCache
	Docs     Documents
	Engine   Engine
	Shard    Shard
	Forward  Forwarder
	Actions  Actions // nil: this node has none
	Catalog  Catalog // nil: this node's own
	Runner   Runner  // nil: runs on this node only
	Txs      Txs     // nil: no transactions
	Book     Book    // of transactions
	Keys     func() []muster.Key
	Pinger   Pinger
	Circuits Circuits                 // nil: this node has no breakers
	Distant  bool                     // this node is not on loopback, so applications may not be either
	Waiting  func() map[string]string // what the node still waits for; empty when it is ready
	Record   func(api.Call)
	Log      *slog.Logger

	Usual       time.Duration          // that a request may take which does not say; 0 is 30 seconds; writes at most 10
	ReadTimeout time.Duration          // of a request, from its first byte to its last; 0 is 30 seconds
	Open        bool                   // whether those without a key may register nodes, as inactive
	Trusted     []netip.Prefix         // proxies whose X-Forwarded-For is believed
	Peer        func(netip.Addr) bool  // whether an address is that of a node of the cluster; nil: none is
	Now         func() time.Time       // nil: time.Now
	Requests    Requests               // nil: this node keeps no request log
	Metrics     func() ([]byte, error) // nil: it has none
	MetricsOpen bool                   // metrics need no key

	JournalID  string     // of this node
	Jobs       Jobs       // nil: this node keeps none
	Executions Executions // nil: it has none
	// RunKey has a caller's key stand for a job, and returns the job that it stands
	// for; nil: keys are refused.
	RunKey func(ctx context.Context, w muster.Write, job string) (string, error)
	Keyed  func(w muster.Write) bool // whether it is known here that the key stands for one
	// Outcome is what this node's journal has of a job; nil: it has none.
	Outcome func(job string) (muster.Outcome, error)
	// EveryJob lists the jobs of all other nodes, and names those that did not
	// answer; nil: there are no others.
	EveryJob  func(ctx context.Context, f api.JobFilter) (lists []api.Jobs, missing []string)
	Heartbeat time.Duration // of streams; 0 is 15 seconds

	Doctor func(context.Context) []api.Finding // nil: it looks for no faults
}

const (
	maxBody      = 1 << 20
	prefetch     = 64 << 10 // of a body, before its handler runs
	maxDrain     = 64 << 20 // of a body that is refused, so that the sender gets to read why
	strangeDrain = 64 << 10 // the same for senders who are not known
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
	board  board
	done   chan error

	errands errands
	streams streams
	active  atomic.Int64 // requests under way
	rates   *meter
	offers  *meter
	crowd   *crowd
}

// New makes a server; Start binds it.
func New(cfg Config) *Server {
	cfg.Usual = cmp.Or(cfg.Usual, readDeadline)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Peer == nil {
		cfg.Peer = func(netip.Addr) bool { return false }
	}
	s := &Server{cfg: cfg, done: make(chan error, 1), rates: newMeter(ratePerSecond, rateBurst), offers: newMeter(offersPerSecond, offerBurst), crowd: newCrowd(cfg.Trusted, cfg.Peer)}
	s.routes = s.table()
	s.board = newBoard(s.routes)
	s.http = &fasthttp.Server{
		Handler: s.serve, Name: "muster", StreamRequestBody: true, MaxRequestBodySize: prefetch, ReadBufferSize: maxHeader,
		ReadTimeout: cmp.Or(cfg.ReadTimeout, readTimeout), IdleTimeout: time.Minute, NoDefaultServerHeader: true, CloseOnShutdown: true,
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
	s.ln = doorman{s.ln, s.crowd}
	if s.cfg.TLS != nil {
		s.ln = encrypted{s.ln, s.cfg.TLS}
	}
	go func() { s.done <- s.http.Serve(s.ln) }()
	return nil
}

// Stop lets requests under way finish, for two seconds; then it ends what they
// began and waits for it, or until ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	if s.ln == nil {
		return nil
	}
	soon, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	s.streams.stop()
	err := s.http.ShutdownWithContext(soon)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // the rest is cut with the process
	}
	err = errors.Join(err, <-s.done, s.errands.stop(ctx))
	s.ln = nil
	return err
}

// Routes is the table, for those who check it.
func (s *Server) Routes() []Route { return slices.Clone(s.routes) }

func (s *Server) answer(c *fasthttp.RequestCtx, req *Request) (answer any, code int, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.Error("handler panicked", "path", req.Path, "request_id", req.ID, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("handler of %s: %v", req.Path, p)
		}
	}()
	if err := framed(&c.Request.Header); err != nil {
		c.SetConnectionClose()
		return nil, 0, err
	}
	done, err := s.crowd.admit(c)
	defer done()
	if err != nil {
		return nil, 0, err
	}
	route, err := s.find(c, req)
	if err != nil {
		return nil, 0, err
	}
	limit, err := s.deadline(c, route)
	if err != nil {
		return nil, 0, err
	}
	req.timed, req.usual = len(c.Request.Header.Peek(api.HeaderTimeout)) > 0, s.cfg.Usual
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := s.authorize(ctx, c, route, req); err != nil {
		return nil, 0, err
	}
	if err := s.read(c, route, req); err != nil {
		return nil, 0, err
	}
	s.began(req)
	answer, code, err = s.handle(api.WithTrace(muster.WithRights(ctx, req.Rights), req.trace), c, route, req)
	return answer, code, late(err, route.Method, limit)
}

// handle has a request done: here, or at the node it names.
func (s *Server) handle(ctx context.Context, c *fasthttp.RequestCtx, route Route, req *Request) (any, int, error) {
	if route.OfJob {
		if answer, code, here, err := s.atLeader(ctx, c, req); !here {
			return answer, code, err
		}
	} else if to := req.Query.Get("node"); route.AtNode && to != "" {
		node, here, err := s.target(to)
		if err != nil {
			return nil, 0, err
		}
		if !here {
			return s.forward(ctx, c, req, node)
		}
	}
	answer, err := route.Handle(ctx, req)
	if as, ok := answer.(status); ok {
		return as.body, as.code, err
	}
	return answer, max(route.Status, http.StatusOK), err
}

// status is an answer that has a status of its own.
type status struct {
	code int
	body any
}

// late gives the end of the deadline its kind: what only reads has done
// nothing, of anything else nobody knows.
func late(err error, method string, limit time.Duration) error {
	if _, kind := errors.AsType[*muster.Error](err); kind || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if method == http.MethodGet {
		return muster.Errorf(muster.Timeout, "the deadline of %v passed: %w", limit, err)
	}
	return muster.Errorf(muster.OutcomeUnknown, "the deadline of %v passed: %w", limit, err)
}

func (s *Server) find(c *fasthttp.RequestCtx, req *Request) (Route, error) {
	req.Path, _, _ = strings.Cut(string(c.Request.Header.RequestURI()), "?")
	var allow []string
	segments := strings.Split(req.Path, "/")
	for _, route := range s.board.of(segments) {
		if !route.match(segments) {
			continue
		}
		if route.Method == req.Method || route.Scope == muster.ScopePublic && route.Method == http.MethodGet && req.Method == http.MethodHead {
			req.Params, req.Route, req.Key = route.params(segments), route.name, string(c.Request.Header.Peek(api.HeaderIdempotency))
			req.Match = string(c.Request.Header.Peek(api.HeaderMatch))
			req.Last = string(c.Request.Header.Peek(api.HeaderLastEvent))
			return *route.Route, nil
		}
		allow = append(allow, route.Method)
	}
	if allow != nil {
		return Route{}, &methodError{muster.Errorf(muster.Malformed, "%s is not for %s", req.Path, req.Method).WithCode("method_not_allowed"), allow}
	}
	return Route{}, muster.Errorf(muster.NotFound, "no route %s", req.Path)
}

// deadline is how long a request may take: what the caller says in the header,
// in milliseconds, or the usual time.
func (s *Server) deadline(c *fasthttp.RequestCtx, route Route) (time.Duration, error) {
	text := string(c.Request.Header.Peek(api.HeaderTimeout))
	switch ms, err := strconv.Atoi(text); {
	case text == "" && route.Waits:
		return maxDeadline, nil
	case text == "" && route.Write:
		return min(writeDeadline, s.cfg.Usual), nil
	case text == "":
		return s.cfg.Usual, nil
	case err != nil || ms < 1:
		return 0, muster.FieldError(api.HeaderTimeout, "must be a number of milliseconds, at least 1")
	default:
		return time.Duration(min(ms, int(maxDeadline.Milliseconds()))) * time.Millisecond, nil
	}
}
