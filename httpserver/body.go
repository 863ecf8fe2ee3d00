package httpserver

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"muster"
	"muster/httpserver/api"

	"github.com/valyala/fasthttp"
)

// maxKey is the longest Idempotency-Key, in bytes.
const maxKey = 255

// read takes in the rest of a request whose sender is known, and refuses what
// no handler of the route would understand.
func (s *Server) read(c *fasthttp.RequestCtx, route Route, req *Request) (err error) {
	if req.Query, err = url.ParseQuery(string(c.URI().QueryString())); err != nil {
		return muster.Errorf(muster.Malformed, "query string: %w", err)
	}
	if err := route.checkQuery(req.Query); err != nil {
		return err
	}
	if err := checkKey(api.HeaderIdempotency, req.Key); err != nil {
		return err
	}
	if err := checkCoding(&c.Request.Header); err != nil {
		return err
	}
	if req.Body == nil {
		if req.Body, err = readBody(c, route); err != nil {
			return err
		}
	}
	if len(req.Body) == 0 {
		return nil
	}
	if err := checkMedia(string(c.Request.Header.ContentType()), route.Media); err != nil || !route.bare() {
		return err
	}
	return api.Decode(req.Body, &struct{}{})
}

// checkKey refuses an idempotency key that could not be kept or shown.
func checkKey(field, key string) error {
	switch {
	case len(key) > maxKey:
		return muster.FieldError(field, "must have at most 255 bytes")
	case !utf8.ValidString(key) || strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) }):
		return muster.FieldError(field, "must be printable UTF-8")
	default:
		return nil
	}
}

// readBody reads a body up to the route's limit. The bytes are the caller's to
// keep: fasthttp's own buffer is used again for the next request.
func readBody(c *fasthttp.RequestCtx, route Route) ([]byte, error) {
	limit := maxBody
	if route.Body > 0 {
		limit = route.Body
	}
	if c.Request.Header.ContentLength() > limit {
		return nil, tooLarge(limit)
	}
	stream := c.RequestBodyStream()
	if stream == nil {
		return bytes.Clone(c.PostBody()), nil
	}
	body, err := io.ReadAll(io.LimitReader(stream, int64(limit)+1))
	if slow(err) {
		return nil, errSlow()
	}
	if err != nil {
		return nil, muster.Errorf(muster.Malformed, "read body: %w", err)
	}
	if len(body) > limit {
		return nil, tooLarge(limit)
	}
	return body, nil
}

func tooLarge(limit int) error {
	return muster.Errorf(muster.TooLarge, "the body is over %d bytes", limit).WithHint("send it in parts")
}

// drain takes in what was not read of a body: a sender that is still sending
// when the connection closes would never see the answer. Strangers do not keep
// a node reading for that.
func drain(c *fasthttp.RequestCtx, known bool) {
	stream := c.RequestBodyStream()
	if stream == nil {
		return
	}
	limit := int64(strangeDrain)
	if known {
		limit = maxDrain
	}
	n, err := io.Copy(io.Discard, io.LimitReader(stream, limit))
	if err != nil || n == limit {
		c.SetConnectionClose()
	}
}

// checkCoding refuses compressed bodies: a few bytes could stand for gigabytes.
func checkCoding(h *fasthttp.RequestHeader) error {
	coding := strings.TrimSpace(string(h.ContentEncoding()))
	if coding == "" || strings.EqualFold(coding, "identity") {
		return nil
	}
	return muster.Errorf(muster.Unsupported, "the content encoding %q is not read here", coding).WithHint("send the body as it is, without compression")
}

func checkMedia(header, want string) error {
	if want == "" {
		want = "application/json"
	}
	media, params, err := mime.ParseMediaType(header)
	if errors.Is(err, mime.ErrInvalidMediaParameter) {
		err = nil // parameters are not compared
	}
	charset := params["charset"]
	if err == nil && media == want && (charset == "" || strings.EqualFold(charset, "utf-8")) {
		return nil
	}
	return muster.Errorf(muster.Unsupported, "the content type %q is not read here", header).
		WithHint("send Content-Type: " + want + ", in UTF-8")
}
