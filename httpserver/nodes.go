package httpserver

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"muster"
	"muster/httpserver/api"
)

// fresh waits until this node's copy is as new as the caller asked for.
func (s *Server) fresh(ctx context.Context, q url.Values) error {
	if q.Has("min_index") {
		index, err := strconv.ParseUint(q.Get("min_index"), 10, 64)
		if err != nil {
			return muster.FieldError("min_index", "must be a whole number")
		}
		if err := s.cfg.Cluster.WaitIndex(ctx, index); err != nil {
			return err
		}
	}
	if err := oneOf(q, "consistency", "local", "linearizable"); err != nil {
		return err
	}
	if q.Get("consistency") == "linearizable" {
		return s.cfg.Cluster.Linearize(ctx)
	}
	s.cfg.Cluster.Level(ctx)
	return nil
}

func (s *Server) listNodes(ctx context.Context, r *Request) (any, error) {
	if err := s.fresh(ctx, r.Query); err != nil {
		return nil, err
	}
	keep, err := filter(r.Query)
	if err != nil {
		return nil, err
	}
	nodes := slices.DeleteFunc(s.candidates(r.Query.Get("capability")), func(n muster.Node) bool { return !keep(n) })
	answer := api.Nodes{Total: len(nodes)}
	answer.Nodes, answer.Cursor, err = page(r.Query, nodes, place)
	return answer, err
}

// candidates are the nodes that a list chooses from.
func (s *Server) candidates(capability string) []muster.Node {
	if capability != "" {
		return s.cfg.Cluster.Capable(muster.Capability(capability))
	}
	return s.cfg.Cluster.Nodes()
}

// place orders the nodes in lists: by slug, then by ID. The separator is below
// all that a slug holds, the dash too.
func place(n muster.Node) string { return n.Slug + " " + n.ID }

// oneOf refuses a parameter that is none of the words it may be.
func oneOf[T ~string](q url.Values, name string, words ...T) error {
	if !q.Has(name) || slices.Contains(words, T(q.Get(name))) {
		return nil
	}
	all := make([]string, len(words))
	for i, word := range words {
		all[i] = string(word)
	}
	return muster.FieldError(name, "must be "+strings.Join(all, " or "))
}

func filter(q url.Values) (func(muster.Node) bool, error) {
	err := errors.Join(
		oneOf(q, "status", muster.StatusActive, muster.StatusInactive, muster.StatusMaintenance, muster.StatusError),
		oneOf(q, "type", muster.TypeMaster, muster.TypeChild))
	if err != nil {
		return nil, err
	}
	flags := map[string]bool{}
	for _, name := range []string{"healthy", "deleted"} {
		if err := oneOf(q, name, "true", "false"); err != nil {
			return nil, err
		}
		if q.Has(name) {
			flags[name] = q.Get(name) == "true"
		}
	}
	return func(n muster.Node) bool {
		healthy, asked := flags["healthy"]
		return (n.DeletedAt != nil) == flags["deleted"] && (!asked || n.Healthy == healthy) &&
			(q.Get("status") == "" || string(n.Status) == q.Get("status")) &&
			(q.Get("type") == "" || string(n.Type) == q.Get("type")) &&
			(q.Get("capability") == "" || n.Can(muster.Capability(q.Get("capability")))) &&
			strings.Contains(strings.ToLower(n.Name+" "+n.Slug), strings.ToLower(q.Get("q")))
	}, nil
}

func (s *Server) showNode(ctx context.Context, r *Request) (any, error) {
	if err := s.fresh(ctx, r.Query); err != nil {
		return nil, err
	}
	n, err := s.living(r.Params["slug"])
	if err != nil {
		return nil, err
	}
	n.Circuit = s.circuit(n.ID)
	return n, nil
}
