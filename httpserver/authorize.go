package httpserver

import (
	"context"
	"slices"
	"strings"
	"time"

	"muster"

	"github.com/valyala/fasthttp"
)

const (
	// scopeRun is the scope of routes whose action is in the body: a key that may
	// run some action passes, and the handler checks that it may run this one.
	scopeRun = "run:<action>"
	// scopeShow is the scope of routes that show the action in their path.
	scopeShow = "read or run:{name}"
)

// runsSome reports whether a caller may run any action at all.
func runsSome(by muster.Rights) bool {
	return slices.ContainsFunc(by.Scopes, func(scope string) bool {
		return scope == muster.ScopeAdmin || strings.HasPrefix(scope, "run:")
	})
}

// mayShow reports whether a caller may see an action: whoever may run it must
// know its parameters.
func mayShow(by muster.Rights, action string) bool {
	return by.May(muster.ScopeRead) || by.May("run:"+action)
}

// authorize finds out who calls and whether the route is for them. Nothing of
// the body is read before that is known.
func (s *Server) authorize(ctx context.Context, c *fasthttp.RequestCtx, route Route, req *Request) error {
	if route.Scope == muster.ScopePublic {
		return nil
	}
	token, ok := bearer(string(c.Request.Header.Peek(fasthttp.HeaderAuthorization)))
	if !ok && s.cfg.Open && route.Open {
		return s.stranger(c, req)
	}
	if !ok || token == "" {
		return muster.Errorf(muster.Unauthorized, "API key required").WithHint("send it as: Authorization: Bearer mk_…")
	}
	if strings.HasPrefix(token, "mk_") {
		rights, err := s.cfg.Auth.Key(ctx, token)
		if err != nil {
			return err
		}
		if err := s.meter(c, rights); err != nil {
			return err
		}
		req.again = func(ctx context.Context) error {
			_, err := s.cfg.Auth.Key(ctx, token)
			return err
		}
		return s.admit(req, Caller{Rights: rights}, route)
	}
	body := func(by Caller) (raw []byte, err error) {
		if err = s.admit(req, by, route); err == nil {
			req.Body, err = readBody(c, route)
		}
		return req.Body, err
	}
	by, err := s.cfg.Auth.Call(token, req.Method, string(c.Request.Header.RequestURI()), req.Key, body)
	if err != nil {
		return err
	}
	return s.admit(req, by, route)
}

// bearer is the token of an Authorization header. The scheme is compared without
// case (RFC 9110, 11.1).
func bearer(header string) (token string, ok bool) {
	scheme, token, ok := strings.Cut(header, " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

// admit notes who calls, if the route is for them now.
func (s *Server) admit(req *Request, by Caller, route Route) error {
	if err := req.admit(by, route); err != nil {
		return err
	}
	return s.isolated(route)
}

// admit notes who calls, if the route is for them.
func (r *Request) admit(by Caller, route Route) error {
	r.Rights, r.Node, r.CallID, r.known = by.Rights, by.Node, by.CallID, true
	switch {
	case by.Rights.Expired(time.Now()):
		r.known = false
		return muster.Errorf(muster.Unauthorized, "Invalid API key").WithHint("the key has expired")
	case route.Scope == muster.ScopeNode && by.Node == "":
		return muster.Errorf(muster.Forbidden, "only nodes of this cluster call this")
	case route.Scope == muster.ScopeNode:
		return nil
	case route.Scope == scopeRun && runsSome(by.Rights), route.Scope == scopeShow && mayShow(by.Rights, r.Params["name"]):
		return nil
	default:
		return need(by.Rights, route.Scope)
	}
}

// need is the error of a caller without a scope, or nil.
func need(by muster.Rights, scope string) error {
	if by.May(scope) {
		return nil
	}
	return muster.Errorf(muster.Forbidden, "this needs the scope %s", scope).WithHint("ask an operator for a key with it")
}
