package httpserver

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"muster"
	"muster/httpserver/api"
)

// maxDocuments is the largest body of documents.
const maxDocuments = 32 << 20

func (s *Server) search(ctx context.Context, r *Request) (any, error) {
	q := muster.Query{Limit: hitsUnlessSaid}
	if err := api.Decode(r.Body, &q); err != nil {
		return nil, err
	}
	return s.answerQuery(ctx, q)
}

// hitsUnlessSaid is how many hits a caller gets who says nothing: who says 0 is
// told that this is no limit.
const hitsUnlessSaid = 10

// answerQuery keeps an answer beside its error: what was found although it is
// not what was demanded.
func (s *Server) answerQuery(ctx context.Context, q muster.Query) (any, error) {
	if q.Limit == 0 {
		return nil, muster.FieldError("limit", "must be from 1 to 100")
	}
	a, err := s.cfg.Search.Search(ctx, q)
	if err != nil && len(a.Nodes) == 0 {
		return nil, err
	}
	return a, err
}

// searchByURL is the search for a browser's address line.
func (s *Server) searchByURL(ctx context.Context, r *Request) (any, error) {
	v := r.Query
	q := muster.Query{Text: v.Get("q"), Options: muster.QueryOptions{Operator: v.Get("operator"), Collections: list(v, "collections")}}
	if v.Has("nodes") {
		nodes := list(v, "nodes")
		q.Options.Nodes = &nodes
	}
	length, dedupe, cache := 0, true, true
	for name, n := range map[string]*int{"limit": &q.Limit, "timeout_ms": &q.Options.TimeoutMs, "content_length": &length} {
		var err error
		if *n, err = strconv.Atoi(v.Get(name)); v.Has(name) && err != nil {
			return nil, muster.FieldError(name, "must be a whole number")
		}
	}
	if !v.Has("limit") {
		q.Limit = hitsUnlessSaid
	}
	for name, b := range map[string]*bool{"local": &q.Options.Local, "dedupe": &dedupe, "cache": &cache} {
		var err error
		if *b, err = strconv.ParseBool(v.Get(name)); v.Has(name) && err != nil {
			return nil, muster.FieldError(name, "must be true or false")
		}
	}
	if v.Has("content_length") {
		q.Options.ContentLength = &length
	}
	if v.Has("dedupe") {
		q.Options.Dedupe = &dedupe
	}
	if v.Has("cache") {
		q.Options.Cache = &cache
	}
	return s.answerQuery(ctx, q)
}

func list(v url.Values, name string) []string {
	out := []string{}
	for word := range strings.SplitSeq(v.Get(name), ",") {
		if word != "" {
			out = append(out, word)
		}
	}
	return out
}

func (s *Server) addDocuments(ctx context.Context, r *Request) (any, error) {
	return s.cfg.Docs.Add(ctx, r.Body)
}

// collection is the one a request names, or the default.
func collection(r *Request) string {
	if name := r.Query.Get("collection"); name != "" {
		return name
	}
	return muster.DefaultCollection
}

func (s *Server) getDocument(ctx context.Context, r *Request) (any, error) {
	return s.cfg.Docs.Get(ctx, collection(r), r.Params["id"])
}

func (s *Server) deleteDocument(ctx context.Context, r *Request) (any, error) {
	n, err := s.cfg.Docs.Delete(ctx, collection(r), []string{r.Params["id"]})
	if err == nil && n == 0 {
		return nil, muster.Errorf(muster.NotFound, "no document %q in collection %s", r.Params["id"], collection(r))
	}
	return map[string]int{"deleted": n}, err
}

func (s *Server) deleteCollection(ctx context.Context, r *Request) (any, error) {
	if r.Query.Get("collection") == "" {
		return nil, muster.FieldError("collection", "must be said")
	}
	n, err := s.cfg.Engine.DeleteCollection(ctx, r.Query.Get("collection"))
	return map[string]int{"deleted": n}, err
}

func (s *Server) indexStats(ctx context.Context, _ *Request) (any, error) {
	stats, err := s.cfg.Engine.Stats(ctx)
	stats.Node = s.slug()
	return stats, err
}

func (s *Server) rebuildIndex(ctx context.Context, r *Request) (any, error) {
	if err := s.cfg.Engine.Rebuild(ctx); err != nil {
		return nil, err
	}
	return s.indexStats(ctx, r)
}

// pin and shard are the two phases of a search that another node leads. The
// rights of the one who asked it are checked here again.
func (s *Server) pin(ctx context.Context, r *Request) (any, error) {
	var q muster.ShardQuery
	if err := s.decodeFor(r, &q); err != nil {
		return nil, err
	}
	q.Within = r.Rights.Filter
	return s.cfg.Shard.Pin(ctx, q)
}

func (s *Server) shard(ctx context.Context, r *Request) (any, error) {
	var q muster.ShardSearch
	if err := s.decodeFor(r, &q); err != nil {
		return nil, err
	}
	q.Query.Within = r.Rights.Filter
	return s.cfg.Shard.Search(ctx, q)
}

func (s *Server) decodeFor(r *Request, q any) error {
	if err := need(r.Rights, muster.ScopeSearch); err != nil {
		return err
	}
	if err := s.reached(r.Rights); err != nil {
		return err
	}
	return api.Decode(r.Body, q)
}
