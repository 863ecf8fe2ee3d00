package httpserver

import (
	"context"
	"net/http"
	"strconv"

	"muster"
	"muster/httpserver/api"

	"github.com/valyala/fasthttp"
)

// target finds the node that a request names by slug or ID, and says whether
// it is this one.
func (s *Server) target(name string) (node muster.Node, here bool, err error) {
	if name == s.cfg.ID {
		return muster.Node{}, true, nil
	}
	for _, n := range s.cfg.Cluster.Nodes() {
		if n.DeletedAt != nil || n.Slug != name && n.ID != name {
			continue
		}
		if n.ID != s.cfg.ID && n.Kind != muster.KindAgent {
			return n, false, muster.FieldError("node", n.Slug+" is an external node: it has no index of ours")
		}
		return n, n.ID == s.cfg.ID, nil
	}
	return node, false, muster.FieldError("node", "no node "+strconv.Quote(name))
}

// forward has a request done by another node, one hop away. It goes by the
// node's ID: a slug may have moved on to another node when it arrives. What a
// node sent goes no further.
func (s *Server) forward(ctx context.Context, c *fasthttp.RequestCtx, req *Request, to muster.Node) (any, int, error) {
	if req.Node != "" {
		return nil, 0, muster.Errorf(muster.Unavailable, "node %s was asked for the work of node %s", s.cfg.ID, to.ID).
			WithCode("misrouted").WithHint("ask again: the nodes do not agree yet who has which name")
	}
	query := req.Query
	query.Set("node", to.ID)
	header := http.Header{}
	header.Set("X-Request-Id", req.ID)
	if req.Key != "" {
		header.Set(api.HeaderIdempotency, req.Key)
	}
	got, err := s.sendOn(ctx, to, req.Rights, api.Request{
		Method: req.Method, Path: req.Path + "?" + query.Encode(),
		Media: string(c.Request.Header.ContentType()), Body: req.Body, Header: header,
	})
	return got.Body, got.Status, err
}

// codeUnheard says that another node does not take this node's signature.
const codeUnheard = "unheard"

// sendOn is the one way a request takes to another node. That this node's
// signature does not hold there is not its caller's fault.
func (s *Server) sendOn(ctx context.Context, to muster.Node, by muster.Rights, r api.Request) (api.Response, error) {
	got, err := s.cfg.Forward.Forward(ctx, to, by, r)
	if muster.KindOf(err) == muster.Unauthorized {
		err = muster.Errorf(muster.Unavailable, "node %s refused the call of this node: %w", to.Slug, err).WithCode(codeUnheard).
			WithHint("compare the clocks of the two, and ask another node meanwhile: muster doctor looks at both")
	}
	return got, err
}
