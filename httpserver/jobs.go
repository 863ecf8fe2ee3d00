package httpserver

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"muster"
	"muster/httpserver/api"

	"github.com/google/uuid"
	"github.com/valyala/fasthttp"
)

// begin starts a run that nobody waits for.
func (s *Server) begin(ctx context.Context, r *Request, a asked) (any, error) {
	if s.cfg.Jobs == nil {
		return nil, muster.FieldError("wait", "this node keeps no jobs")
	}
	a.Run.On, a.TimeoutMs = *a.On, 0
	j, err := s.cfg.Runner.Begin(ctx, r.Rights, a.Run)
	if err != nil {
		return nil, err
	}
	return status{http.StatusAccepted, j}, nil
}

// leaderOf is the ID of the node that leads a job; empty if this is no job's ID.
func leaderOf(job string) string {
	node, id, ok := strings.Cut(strings.TrimPrefix(job, "j_"), "_")
	if !ok || !strings.HasPrefix(job, "j_") || uuid.Validate(id) != nil {
		return ""
	}
	return node
}

func noJob(id string) error { return muster.Errorf(muster.NotFound, "no job %s", strconv.Quote(id)) }

// atLeader has a request done by the node that leads its job, if that is not
// this one.
func (s *Server) atLeader(ctx context.Context, c *fasthttp.RequestCtx, req *Request) (answer any, code int, here bool, err error) {
	id := req.Params["id"]
	leader := leaderOf(id)
	if leader == s.cfg.ID {
		return nil, 0, true, nil
	}
	nodes := s.cfg.Cluster.Nodes()
	i := slices.IndexFunc(nodes, func(n muster.Node) bool { return n.ID == leader && n.DeletedAt == nil })
	if leader == "" || i < 0 {
		return nil, 0, false, noJob(id)
	}
	answer, code, err = s.forward(ctx, c, req, nodes[i])
	if muster.KindOf(err) == muster.Unavailable && muster.CodeOf(err) != codeUnheard {
		err = muster.Errorf(muster.Unavailable, "the job is kept by node %s, which cannot be reached: %w", nodes[i].Slug, err)
	}
	return answer, code, false, err
}

// showJob tells how a job is, to those who may run its action.
func (s *Server) showJob(_ context.Context, r *Request) (any, error) {
	if s.cfg.Jobs == nil {
		return nil, noJob(r.Params["id"])
	}
	j, err := s.cfg.Jobs.Job(r.Params["id"])
	if err != nil {
		return nil, err
	}
	return j, need(r.Rights, "run:"+j.Action)
}

// cancelJob ends a job.
func (s *Server) cancelJob(ctx context.Context, r *Request) (any, error) {
	if s.cfg.Jobs == nil {
		return nil, noJob(r.Params["id"])
	}
	return s.cfg.Runner.Cancel(ctx, r.Rights, r.Params["id"])
}

// cancel kills what this node executes of a job, for the node that leads it.
func (s *Server) cancel(_ context.Context, r *Request) (any, error) {
	var c api.Cancellation
	if err := api.Decode(r.Body, &c); err != nil {
		return nil, err
	}
	if s.cfg.Cancel == nil {
		return struct{}{}, nil
	}
	return struct{}{}, s.cfg.Cancel(r.Rights, c.Action, c.Job)
}

// listJobs lists the jobs that one node leads or led, the newest first: those
// whose action the caller may run.
func (s *Server) listJobs(_ context.Context, r *Request) (_ any, err error) {
	limit, err := pageLimit(r.Query)
	if err != nil {
		return nil, err
	}
	list := api.Jobs{Jobs: []muster.Job{}}
	if s.cfg.Jobs == nil {
		return list, nil
	}
	all, err := s.cfg.Jobs.Jobs()
	before := r.Query.Get("cursor")
	for _, j := range all {
		if before != "" && j.Job >= before || !r.Rights.May("run:"+j.Action) {
			continue
		}
		if len(list.Jobs) == limit {
			list.Cursor = list.Jobs[limit-1].Job
			break
		}
		list.Jobs = append(list.Jobs, j)
	}
	return list, err
}
