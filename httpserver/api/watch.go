package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"muster"
)

const (
	maxEvent   = 8 << 20 // bytes of a line of a stream
	retryWatch = 500 * time.Millisecond
)

// StreamError is the event error: why a stream ends before what it tells of does.
type StreamError struct {
	Error
	Status int `json:"status"` // as of an answer
}

// Watch hands over what happens to a job, from its beginning until it has ended;
// then it returns the job. A stream that breaks off is taken up again where it
// ended, by any of the addresses; nothing heard for as long as patience, not even
// a sign of life, is a Timeout. An error of tell ends it.
func (c *Client) Watch(ctx context.Context, id string, patience time.Duration, tell func(muster.JobEvent) error) (muster.Job, error) {
	w := watch{Client: c, path: "/v1/jobs/" + url.PathEscape(id) + "/events", patience: patience, tell: tell, heard: time.Now()}
	for {
		err := w.read(ctx)
		switch {
		case w.ended != nil:
			return *w.ended, nil
		case w.refused != nil:
			return muster.Job{}, w.refused
		case ctx.Err() != nil:
			return muster.Job{}, context.Cause(ctx)
		case err != nil && muster.KindOf(err) != muster.Unavailable && muster.KindOf(err) != muster.OutcomeUnknown:
			return muster.Job{}, err
		case time.Since(w.heard) > patience:
			if err == nil {
				err = errors.New("the stream ended")
			}
			return muster.Job{}, muster.Errorf(muster.Timeout, "nothing was heard of the job for %v: %w", patience, err)
		}
		select {
		case <-time.After(retryWatch):
		case <-ctx.Done():
		}
	}
}

// watch is a job's stream as it is read.
type watch struct {
	*Client

	path     string
	patience time.Duration
	tell     func(muster.JobEvent) error
	last     string    // ID of the last event
	heard    time.Time // when something came
	ended    *muster.Job
	refused  error // of tell
}

// read reads until the stream ends, for whatever reason.
func (w *watch) read(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(w.patience, cancel)
	defer silence.Stop()
	body, err := w.open(ctx, Request{Method: http.MethodGet, Path: w.path, Header: http.Header{HeaderLastEvent: {w.last}}})
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxEvent)
	var name, data string
	for lines.Scan() {
		silence.Reset(w.patience)
		w.heard = time.Now()
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			name = value
		case "data":
			data = value
		case "":
			if data != "" {
				if err := w.take(name, data); err != nil || w.ended != nil || w.refused != nil {
					return err
				}
			}
			name, data = "", ""
		}
	}
	if err := lines.Err(); err != nil {
		return muster.Errorf(muster.Unavailable, "the stream broke off: %w", err)
	}
	return nil
}

// take hands over one event.
func (w *watch) take(name, data string) error {
	if name == "error" {
		var body StreamError
		if err := json.Unmarshal([]byte(data), &body); err != nil {
			return muster.Errorf(muster.Unavailable, "event of the stream: %w", err)
		}
		return FromResponse(body.Status, []byte(data))
	}
	var e muster.JobEvent
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return muster.Errorf(muster.Unavailable, "event of the stream: %w", err)
	}
	w.last = strconv.FormatInt(e.Seq, 10)
	if w.refused = w.tell(e); w.refused == nil && e.Type == muster.EventSummary {
		w.ended = e.Job
	}
	return nil
}

// open sends a request whose answer is read as it comes.
func (c *Client) open(ctx context.Context, r Request) (body io.ReadCloser, err error) {
	err = muster.Errorf(muster.Invalid, "no address of a node is given").WithHint("set --addr or MUSTER_ADDR")
	for _, addr := range c.Addrs {
		body, err = c.openAt(ctx, strings.TrimRight(addr, "/"), r)
		if muster.CodeOf(err) != codeNoConnection {
			return body, err
		}
	}
	return body, err
}

func (c *Client) openAt(ctx context.Context, addr string, r Request) (io.ReadCloser, error) {
	authorization, err := c.authorize(ctx, addr, r)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, addr+r.Path, http.NoBody)
	if err != nil {
		return nil, muster.Errorf(muster.Invalid, "address %q: %w", addr, err)
	}
	for name, values := range r.Header {
		if values[0] != "" {
			req.Header[name] = values
		}
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	answer, err := c.client().Do(req)
	if err != nil {
		return nil, transportError(err, addr, false)
	}
	if answer.StatusCode == http.StatusOK {
		return answer.Body, nil
	}
	defer func() { _ = answer.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, muster.Errorf(muster.Unavailable, "answer of %s: %w", addr, err)
	}
	return nil, FromResponse(answer.StatusCode, raw)
}
