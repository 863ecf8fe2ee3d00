package httpserver

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"muster"
	"muster/httpserver/api"
)

// Route is one line of the table that is the whole surface of a node. A route
// without a scope does not exist.
type Route struct {
	Method string
	Path   string // segments in braces are parameters, percent-decoded once
	Scope  string
	Write  bool     // changes something: shorter default deadline
	Body   int      // most bytes of body; 0 is 1 MiB
	Media  string   // of the body; empty is application/json
	Query  []string // the parameters it knows
	AtNode bool     // done by the node that the query parameter node names, if it does
	Open   bool     // for those without a key, too, where registration is open
	OfJob  bool     // done by the node whose ID is in that of the job
	Waits  bool     // the body may say for how long
	Bare   bool     // the body says nothing; that of GET and DELETE never does
	Status int      // of success; 0 is 200
	Handle func(context.Context, *Request) (any, error)
}

// Request is one request after authentication.
type Request struct {
	ID     string
	Rights muster.Rights
	Node   string // ID of the node of this cluster that signed it; empty: none did
	CallID string // of a signed call
	Method string
	Path   string // as sent, without the query
	Params map[string]string
	Query  url.Values
	Body   []byte
	Key    string // Idempotency-Key
	Match  string // If-Match
	Last   string // Last-Event-ID
	Route  string

	known   bool                        // who sends it
	again   func(context.Context) error // whether the caller's key is still good; nil: it has none
	timed   bool                        // the header says how long it may take
	usual   time.Duration               // that it may take if nobody says
	rowID   string
	trace   api.Trace
	arrived time.Time
}

const (
	writeDeadline = 10 * time.Second
	readDeadline  = 30 * time.Second
	maxDeadline   = time.Hour
)

// bare reports whether no field of a body would mean anything.
func (r Route) bare() bool {
	return r.Bare || r.Method == http.MethodGet || r.Method == http.MethodDelete
}

// board finds routes by how many segments their path has.
type board [][]posted

// posted is a route with its path taken apart.
type posted struct {
	*Route
	segments []string
	name     string // method and path
}

func newBoard(routes []Route) (b board) {
	for i, r := range routes {
		p := posted{&routes[i], strings.Split(r.Path, "/"), r.Method + " " + r.Path}
		for len(b) <= len(p.segments) {
			b = append(b, nil)
		}
		b[len(p.segments)] = append(b[len(p.segments)], p)
	}
	return b
}

// of lists the routes that a path may be meant for.
func (b board) of(segments []string) []posted {
	if len(segments) < len(b) {
		return b[len(segments)]
	}
	return nil
}

// match compares the segments of a raw path with a route's. Decoding after
// splitting keeps a %2F inside its segment.
func (p posted) match(have []string) bool {
	for i, segment := range p.segments {
		if strings.HasPrefix(segment, "{") {
			if value, err := url.PathUnescape(have[i]); err != nil || value == "" {
				return false
			}
		} else if segment != have[i] {
			return false
		}
	}
	return true
}

// params are what stands in a path that matches for the names in braces.
func (p posted) params(have []string) map[string]string {
	params := map[string]string{}
	for i, segment := range p.segments {
		if strings.HasPrefix(segment, "{") {
			params[strings.Trim(segment, "{}")], _ = url.PathUnescape(have[i])
		}
	}
	return params
}

// checkQuery refuses parameters that the route does not know, or that are
// there twice.
func (r Route) checkQuery(q url.Values) error {
	for name, values := range q {
		switch {
		case !slices.Contains(r.Query, name) && (name != "node" || !r.AtNode):
			return muster.FieldError(name, "no such query parameter")
		case len(values) > 1:
			return muster.FieldError(name, "is there twice")
		}
	}
	return nil
}
