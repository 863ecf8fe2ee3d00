package httpserver

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"muster"
)

// txEvents streams the history of a transaction, from the line after
// Last-Event-ID on, until it needs no driver any more.
func (s *Server) txEvents(ctx context.Context, r *Request) (any, error) {
	after, err := strconv.Atoi(r.Last)
	if r.Last != "" && (err != nil || after < 0) {
		return nil, muster.FieldError("Last-Event-ID", "is not one that was given")
	}
	t, err := s.findTx(ctx, r.Params["id"])
	if err != nil {
		return nil, err
	}
	return stream{ctx, func(ctx context.Context, w *bufio.Writer) error { return s.relayTx(ctx, w, r, t.ID, after) }}, nil
}

// relayTx writes lines of history as they come, numbered from 1 with those that
// are forgotten, and a sign of life when none do.
func (s *Server) relayTx(ctx context.Context, w *bufio.Writer, r *Request, id string, after int) error {
	for {
		changed := s.cfg.Book.Changed()
		t, ok := s.cfg.Book.Tx(id)
		if !ok {
			return nil
		}
		for i, n := range t.History {
			seq := i + 1
			if i > 0 {
				seq += t.Forgotten // the first line is never forgotten
			}
			if seq <= after {
				continue
			}
			if seq > after+1 {
				_, _ = fmt.Fprintf(w, "id: %d\nevent: %s\ndata: {}\n\n", seq-1, muster.EventResync) // what is between is forgotten
			}
			raw, err := json.Marshal(n)
			if err != nil {
				return err
			}
			after = seq
			_, _ = fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", seq, n.Event, raw) // Flush says what went wrong
		}
		if err := w.Flush(); err != nil || !t.Status.Driven() {
			return err
		}
		if err := r.still(ctx); err != nil {
			return refuseStream(w, err, r.ID)
		}
		if err := s.beatUntil(ctx, w, changed); err != nil {
			return err
		}
	}
}

// beatUntil waits for a change, with signs of life.
func (s *Server) beatUntil(ctx context.Context, w *bufio.Writer, changed <-chan struct{}) error {
	beat := time.NewTimer(s.beat())
	defer beat.Stop()
	select {
	case <-changed:
		return nil
	case <-beat.C:
		_, _ = w.WriteString(": heartbeat\n\n")
		return w.Flush()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
