package httpserver

import (
	"bufio"
	"context"
	"encoding/json"
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

// stream is an answer that goes on: server-sent events, until it returns. Its
// ctx ends when the server stops.
type stream func(ctx context.Context, w *bufio.Writer) error

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
func (s *streams) send(c *fasthttp.RequestCtx, body stream) {
	c.SetContentType("text/event-stream")
	c.Response.Header.Set("Cache-Control", "no-store")
	c.Response.Header.Set("X-Accel-Buffering", "no")
	c.SetBodyStreamWriter(func(w *bufio.Writer) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		s.tie(ctx, cancel)
		_ = body(ctx, w) // whoever read is gone, or has been told why
	})
}

// jobEvents streams what happens to a job, from the event after Last-Event-ID on.
func (s *Server) jobEvents(ctx context.Context, r *Request) (any, error) {
	after, err := strconv.ParseInt(r.Last, 10, 64)
	if r.Last != "" && (err != nil || after < 0) {
		return nil, muster.FieldError("Last-Event-ID", "is not one that was given")
	}
	by, id := r.Rights, r.Params["id"]
	source, err := s.source(id)
	if err != nil {
		return nil, err
	}
	first, err := source(ctx, by, after, 0) // a refusal is an answer, not a stream
	if err != nil {
		return nil, err
	}
	return stream(func(ctx context.Context, w *bufio.Writer) error {
		told := first
		for beat := time.Now(); ; {
			if len(told.Events) > 0 || time.Since(beat) >= s.beat() {
				if err := write(w, told.Events); err != nil {
					return err
				}
				beat = time.Now()
			}
			if told.Ended || ctx.Err() != nil {
				return nil
			}
			if len(told.Events) > 0 {
				after = told.Events[len(told.Events)-1].Seq
			}
			err := r.still(ctx)
			if err == nil {
				told, err = source(ctx, by, after, min(pollTime, s.beat()))
			}
			if err != nil {
				return refuseStream(w, err, r.ID)
			}
		}
	}), nil
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

// source is where the events of a job come from: this node, or the one that leads
// it.
func (s *Server) source(id string) (func(context.Context, muster.Rights, int64, time.Duration) (muster.JobEvents, error), error) {
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
