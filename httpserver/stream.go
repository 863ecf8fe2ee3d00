package httpserver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"muster"
	"muster/httpserver/api"

	"github.com/valyala/fasthttp"
)

const (
	heartbeat = 15 * time.Second // of a stream in which nothing happens
	pollTime  = 10 * time.Second // how long another node is asked for news at once
	pollGrace = 5 * time.Second  // how much longer its answer is waited for
)

// stream is an answer that goes on: server-sent events, until body returns. Its
// ctx ends when the server stops.
type stream struct {
	values context.Context //nolint:containedctx // of the request, which is over by then
	body   func(ctx context.Context, w *bufio.Writer) error
}

// streams are the answers that go on, which a server ends when it stops.
type streams struct {
	once sync.Once
	mu   sync.Mutex
	over chan struct{} // guarded by mu; made by the first, closed by stop
}

func (s *streams) ending() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over == nil {
		s.over = make(chan struct{})
	}
	return s.over
}

// tie has cancel called when the server stops, unless ctx ends first.
func (s *streams) tie(ctx context.Context, cancel context.CancelFunc) {
	over := s.ending()
	go func() {
		select {
		case <-over:
			cancel()
		case <-ctx.Done():
		}
	}()
}

func (s *streams) stop() { s.once.Do(func() { close(s.ending()) }) }

// send makes a stream the body of an answer.
func (s *streams) send(c *fasthttp.RequestCtx, to stream) {
	c.SetContentType("text/event-stream")
	c.Response.Header.Set("Cache-Control", "no-store")
	c.Response.Header.Set("X-Accel-Buffering", "no")
	c.SetBodyStreamWriter(func(w *bufio.Writer) {
		ctx, cancel := context.WithCancel(context.WithoutCancel(to.values))
		defer cancel()
		s.tie(ctx, cancel)
		_ = to.body(ctx, w) // whoever read is gone, or has been told why
	})
}

// jobEvents streams what happens to a job, from the event after Last-Event-ID on.
func (s *Server) jobEvents(ctx context.Context, r *Request) (any, error) {
	after, err := strconv.ParseInt(r.Last, 10, 64)
	if r.Last != "" && (err != nil || after < 0) {
		return nil, muster.FieldError("Last-Event-ID", "is not one that was given")
	}
	source, err := s.source(r.Params["id"])
	if err != nil {
		return nil, err
	}
	first, err := source(ctx, r.Rights, after, 0) // a refusal is an answer, not a stream
	if err != nil {
		return nil, err
	}
	return stream{ctx, func(ctx context.Context, w *bufio.Writer) error {
		err := s.relay(ctx, w, r, relayed{source, after, first})
		if _, known := errors.AsType[*muster.Error](err); known {
			return refuseStream(w, err, r.ID)
		}
		return err
	}}, nil
}

// relayed is what a stream begins with: the first events, all after one that the
// reader knows.
type relayed struct {
	source source
	after  int64
	first  muster.JobEvents
}

// relay writes events as they come, until the last one, the end of ctx, or an
// error: one of a kind is to be told, any other is the reader's.
func (s *Server) relay(ctx context.Context, w *bufio.Writer, r *Request, from relayed) (err error) {
	told, after, beat := from.first, from.after, time.Now()
	for {
		if len(told.Events) > 0 || time.Since(beat) >= s.beat() {
			if err := write(w, told.Events); err != nil {
				return err
			}
			beat = time.Now()
		}
		if told.Ended {
			return nil
		}
		if n := len(told.Events); n > 0 {
			after = told.Events[n-1].Seq
		}
		if err := r.still(ctx); err != nil {
			return err
		}
		if told, err = from.source(ctx, r.Rights, after, min(pollTime, s.beat())); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

func (s *Server) beat() time.Duration {
	if s.cfg.Heartbeat > 0 {
		return s.cfg.Heartbeat
	}
	return heartbeat
}

// still reports whether the caller's key is as good as it was.
func (r *Request) still(ctx context.Context) error {
	if r.again == nil {
		return nil
	}
	return r.again(ctx)
}

// source is where the events of a job come from. It waits so long for some after
// one that is known.
type source func(ctx context.Context, by muster.Rights, after int64, wait time.Duration) (muster.JobEvents, error)

// source is this node, or the one that leads a job.
func (s *Server) source(id string) (source, error) {
	leader, here, err := s.leader(id)
	if err != nil {
		return nil, err
	}
	if here {
		return func(ctx context.Context, by muster.Rights, after int64, wait time.Duration) (muster.JobEvents, error) {
			ctx, cancel := context.WithTimeout(ctx, wait)
			defer cancel()
			return s.events(ctx, by, id, after)
		}, nil
	}
	return func(ctx context.Context, by muster.Rights, after int64, wait time.Duration) (told muster.JobEvents, err error) {
		ctx, cancel := context.WithTimeout(ctx, wait+pollGrace)
		defer cancel()
		err = s.askNode(ctx, leader, by, api.Request{Method: http.MethodGet, Path: api.EventsPath(id, after, wait)}, &told)
		return told, away(leader, err)
	}, nil
}

func (s *Server) events(ctx context.Context, by muster.Rights, id string, after int64) (muster.JobEvents, error) {
	if _, err := s.job(by, id); err != nil {
		return muster.JobEvents{}, err
	}
	return s.cfg.Jobs.Events(ctx, id, after)
}

// ownEvents tells another node of a job that this one leads.
func (s *Server) ownEvents(ctx context.Context, r *Request) (any, error) {
	after, err := strconv.ParseInt(r.Query.Get("after"), 10, 64)
	if err != nil {
		return nil, muster.FieldError("after", "must be a number")
	}
	ctx, cancel, err := s.longPoll(ctx, r)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return s.events(ctx, r.Rights, r.Query.Get("job"), after)
}

// write writes events, or a sign of life.
func write(w *bufio.Writer, events []muster.JobEvent) error {
	if len(events) == 0 {
		_, _ = w.WriteString(": heartbeat\n\n") // Flush says what went wrong
	}
	for _, e := range events {
		raw, err := json.Marshal(e)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Type, raw)
	}
	return w.Flush()
}

// refuseStream tells why a stream ends before its source does.
func refuseStream(w *bufio.Writer, why error, requestID string) error {
	raw, err := json.Marshal(api.StreamError{Error: api.ErrorBody(why, requestID), Status: api.Status(why)})
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(w, "event: error\ndata: %s\n\n", raw)
	return w.Flush()
}
