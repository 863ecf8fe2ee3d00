package actions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"muster"
)

// The headers of a call to an application, besides Idempotency-Key, which is the
// same for an execution however often the application hears of it.
const (
	headerKey    = "Idempotency-Key"
	headerAction = "Muster-Action"
	headerJob    = "Muster-Job"
	headerNode   = "Muster-Node"
	headerCheck  = "Muster-Check" // 1 in a dry run
)

const (
	dialLimit   = 5 * time.Second
	maxToken    = 4 << 10
	pollDefault = time.Second      // after a 425 that does not say when to ask again
	pollMost    = 30 * time.Second // whatever it says
	pollLeast   = 10 * time.Millisecond
	maxPosted   = 1 << 20
)

// errClosed is the dialer's word on an address that the definition does not
// allow.
var errClosed = errors.New("is not this machine's own address, and the definition does not allow it")

// openings are the addresses that a handler may call: loopback and these.
type openings []netip.Prefix

func (o openings) let(ip netip.Addr) bool {
	ip = ip.Unmap()
	for _, prefix := range o {
		if prefix.Contains(ip) {
			return true
		}
	}
	return ip.IsLoopback()
}

// control refuses to connect where a handler may not. It sees the address that a
// name became, which cannot become another one any more.
func (o openings) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !o.let(at.Addr()) {
		return fmt.Errorf("%v %w", at.Addr(), errClosed)
	}
	return nil
}

func (h *Handler) finishHTTP(bad faults, at string) {
	u, err := url.Parse(h.URL)
	good := err == nil && oneOf(u.Scheme, "http", "https") && u.Hostname() != "" && u.User == nil && u.Fragment == ""
	bad.check(good, at+"/url", "must be the http or https URL of the application, without user or fragment")
	bad.check(!strings.Contains(h.URL, "${"), at+"/url", "takes no placeholders: parameters are in the body")
	h.open = nil
	for i, text := range h.Allow {
		prefix, err := netip.ParsePrefix(text)
		if ip, e := netip.ParseAddr(text); e == nil {
			prefix, err = netip.PrefixFrom(ip, ip.BitLen()), nil
		}
		bad.check(err == nil, fmt.Sprintf("%s/allow/%d", at, i), "must be an address like 10.0.0.5 or a network like 10.0.0.0/8")
		h.open = append(h.open, prefix)
	}
	if good {
		ip, err := netip.ParseAddr(u.Hostname())
		bad.check(err != nil || h.open.let(ip), at+"/url", "%s %v", u.Hostname(), errClosed)
	}
	bad.check(h.TokenFile == "" || filepath.IsAbs(h.TokenFile), at+"/token_file", "must be an absolute path")
}

// post calls the application, again and again while it says that it is not done
// yet, until ctx ends. It follows no redirect and asks no proxy.
func (h *Handler) post(ctx context.Context, c call) outcome {
	token, err := h.token()
	if err != nil {
		return failed("start", "%v", err)
	}
	if token != "" {
		c.hide = c.hide.and(token)
	}
	body := bytes.TrimSpace(paramsJSON(c.params))
	if len(body) > maxPosted {
		return failed("start", "the parameters are longer than %d bytes", maxPosted)
	}
	client := &http.Client{
		// A connection for each call: on one that is used again, the library
		// repeats a request whose fate it does not know.
		Transport:     &http.Transport{DialContext: (&net.Dialer{Timeout: dialLimit, Control: h.open.control}).DialContext, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for begun := false; ; begun = true {
		o, later := h.ask(ctx, client, c, token, body)
		if begun && o.nothing() { // not by this call, but it has said that it is at it
			o = outcome{state: muster.StateUnknown, fault: &muster.ActionError{Code: "no_answer", Message: "it was begun, and then: " + o.fault.Message}, again: &again{on: onUnavailable}}
		}
		if later == 0 {
			return o.hidden(c.hide)
		}
		if !rest(ctx, later) {
			return outcome{state: muster.StateTimeout, fault: &muster.ActionError{}}
		}
	}
}

// hidden is the outcome without secrets that only its handler knows.
func (o outcome) hidden(hide redactor) outcome {
	o.result = hide.json(o.result)
	if o.fault != nil {
		o.fault.Message = hide.text(o.fault.Message)
	}
	return o
}

// token is what the application knows this agent by; empty if it needs none.
func (h *Handler) token() (string, error) {
	if h.TokenFile == "" {
		return "", nil
	}
	if err := safe(h.TokenFile, account{}); err != nil {
		return "", err
	}
	raw, err := readFile(h.TokenFile, maxToken)
	token := strings.TrimSpace(string(raw))
	if err == nil && (token == "" || !plain(token, maxToken)) {
		err = fmt.Errorf("%s: must be one line", h.TokenFile)
	}
	return token, err
}

// ask makes one call. later is when to ask again, if the application is not done.
func (h *Handler) ask(ctx context.Context, client *http.Client, c call, token string, body []byte) (o outcome, later time.Duration) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return failed("start", "%v", err), 0
	}
	r.Header = http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json"}, "User-Agent": {"muster/" + muster.Version},
		headerKey: {c.key()}, headerAction: {c.def.Action}, headerJob: {c.job}, headerNode: {c.node},
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if c.check {
		r.Header.Set(headerCheck, "1")
	}
	for name, value := range opWords(c.tx) {
		r.Header.Set("Muster-"+name, value)
	}
	answer, err := client.Do(r)
	if err != nil {
		return uncalled(ctx, err), 0
	}
	defer func() { _ = answer.Body.Close() }()
	limit := int(c.def.Limits.Output)
	said := newCapture(limit, c.hide)
	_, err = io.Copy(said, io.LimitReader(answer.Body, int64(limit)+1))
	if ctx.Err() != nil {
		return outcome{state: muster.StateTimeout, fault: &muster.ActionError{}}, 0
	}
	if answer.StatusCode == http.StatusTooEarly {
		return outcome{}, pollAfter(answer.Header.Get("Retry-After"))
	}
	return h.answered(c, answer.StatusCode, said, err), 0
}

// uncalled is what came of a call that was not answered. What never reached the
// application did nothing.
func uncalled(ctx context.Context, err error) outcome {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	at, ok := errors.AsType[*net.OpError](err)
	switch {
	case ctx.Err() != nil:
		return outcome{state: muster.StateTimeout, fault: &muster.ActionError{}}
	case errors.Is(err, errClosed):
		return failed("address", "%v", err)
	case ok && at.Op == "dial":
		o := failed("no_connection", "the application cannot be reached: %v", err)
		o.again = &again{on: onUnavailable, undone: true}
		return o
	default:
		return outcome{
			state: muster.StateUnknown, again: &again{on: onUnavailable},
			fault: &muster.ActionError{Code: "no_answer", Message: fmt.Sprintf("the application gave no answer: %v", err)},
		}
	}
}

// answered is what an application's answer means: 2xx done, 409 failed, 422 the
// parameters are not good; anything else leaves open what was done.
func (h *Handler) answered(c call, status int, said *capture, torn error) outcome {
	fault := &muster.ActionError{Code: "http_" + strconv.Itoa(status), Message: fmt.Sprintf("the application answered %d", status), Output: said.last()}
	if text := complaintIn(said.head); text != "" {
		fault.Message += ": " + text
	}
	switch {
	case status >= 200 && status < 300 && torn != nil:
		return outcome{state: muster.StateUnknown, fault: &muster.ActionError{Code: "bad_answer", Message: fmt.Sprintf("its answer broke off: %v", torn)}}
	case status >= 200 && status < 300:
		return result(c, said)
	case status == http.StatusConflict:
		return outcome{state: muster.StateFailed, fault: fault}
	case status == http.StatusUnprocessableEntity:
		fault.Code = "invalid_params"
		return outcome{state: muster.StateInvalid, fault: fault}
	case status >= 300 && status < 400:
		fault.Message += ": redirects are not followed"
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return outcome{state: muster.StateUnknown, fault: fault, again: &again{on: onUnavailable}}
	}
	return outcome{state: muster.StateUnknown, fault: fault}
}

// result is what an application that succeeded has to say: JSON, or a text, or
// nothing.
func result(c call, said *capture) outcome {
	if said.cut() {
		return failed("result_too_large", "its answer is longer than %d bytes", said.limit)
	}
	raw := json.RawMessage(bytes.TrimSpace(said.head))
	switch {
	case len(raw) == 0:
		raw = json.RawMessage("{}")
	case !jsontext.Value(raw).IsValid() && len(c.def.Result) == 0:
		return done(map[string]string{"text": said.text()}, nil)
	}
	if reason := c.def.resultFault(raw, c.check); reason != "" {
		return outcome{state: muster.StateFailed, fault: &muster.ActionError{
			Code: "bad_result", Message: "its result " + reason, Output: said.last(),
		}}
	}
	return outcome{state: muster.StateOK, result: raw}
}

// complaintIn finds the message in an answer that is JSON.
func complaintIn(raw []byte) string {
	var body struct {
		Message string          `json:"message"`
		Error   json.RawMessage `json:"error"`
	}
	if json.Unmarshal(raw, &body) != nil {
		return ""
	}
	if body.Message == "" && jsontext.Value(body.Error).Kind() == '"' {
		body.Message = textOf(body.Error)
	}
	return body.Message
}

// pollAfter reads Retry-After: seconds, or a date.
func pollAfter(text string) time.Duration {
	d := pollDefault
	if seconds, err := strconv.Atoi(text); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		d = time.Until(at)
	}
	return min(max(d, pollLeast), pollMost)
}
