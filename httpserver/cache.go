package httpserver

import (
	"context"

	"muster"
)

// AnswerCache is where this node keeps answers of searches.
type AnswerCache interface {
	// Cached describes at most limit answers with a hash above after, by hash.
	Cached(after string, limit int) muster.SearchCache
	// FlushCache forgets all and returns how many there were.
	FlushCache() int
}

func (s *Server) listCache(_ context.Context, r *Request) (any, error) {
	limit, err := pageLimit(r.Query)
	if err != nil {
		return nil, err
	}
	return s.cfg.Cache.Cached(r.Query.Get("cursor"), limit), nil
}

func (s *Server) flushCache(context.Context, *Request) (any, error) {
	return map[string]int{"deleted": s.cfg.Cache.FlushCache()}, nil
}
