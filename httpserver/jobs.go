package httpserver

import (
	"cmp"
	"context"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster"
	"muster/httpserver/api"

	"github.com/google/uuid"
	"github.com/valyala/fasthttp"
)

// Jobs are the runs that this node leads or led.
type Jobs interface {
	JobReader
	JobChanger
}

// JobReader tells of jobs.
type JobReader interface {
	Job(id string) (muster.Job, error) // NotFound when there is none

	// Jobs yields those that began with or before a job, whose ever it is, or all if
	// it is empty: the newest first, and an error last.
	Jobs(from string) iter.Seq2[muster.Job, error]

	// Events returns what happened after an event, and waits for it until ctx ends.
	Events(ctx context.Context, id string, after int64) (muster.JobEvents, error)
}

// JobChanger ends jobs and begins them anew. It checks the rights.
type JobChanger interface {
	Cancel(ctx context.Context, by muster.Rights, job string) (muster.Job, error)
	Retry(ctx context.Context, by muster.Rights, job string, again muster.Retry) (muster.Job, error)
}

// Executions are the executions of this node. Both check the rights.
type Executions interface {
	Cancel(by muster.Rights, action, job string) error
	Output(ctx context.Context, by muster.Rights, a muster.OutputAsk) (muster.Output, error)
}

func (s *Server) jobTable() []Route {
	list := []string{"limit", "cursor", "status", "action"}
	return []Route{
		{Method: "GET", Path: "/v1/jobs", Scope: scopeRun, Query: append([]string{"scope"}, list...), AtNode: true, Handle: s.listJobs},
		{Method: "GET", Path: "/v1/jobs/{id}", Scope: scopeRun, AtNode: true, OfJob: true, Handle: s.showJob},
		{Method: "GET", Path: "/v1/jobs/{id}/events", Scope: scopeRun, Handle: s.jobEvents},
		{Method: "GET", Path: "/v1/jobs/{id}/output/{slug}", Scope: scopeRun, Handle: s.jobOutput},
		{Method: "POST", Path: "/v1/jobs/{id}/cancel", Scope: scopeRun, Write: true, AtNode: true, OfJob: true, Handle: s.cancelJob},
		{Method: "POST", Path: "/v1/jobs/{id}/retry", Scope: scopeRun, Write: true, AtNode: true, OfJob: true, Handle: s.retryJob},
		{Method: "GET", Path: api.PathJobs, Scope: muster.ScopeNode, Query: list, Handle: s.ownJobs},
		{Method: "POST", Path: api.PathCancel, Scope: muster.ScopeNode, Write: true, Handle: s.cancel},
		{Method: "GET", Path: api.PathOutcome, Scope: muster.ScopeNode, Query: []string{"job"}, Handle: s.outcome},
		{Method: "POST", Path: api.PathLead, Scope: muster.ScopeNode, Body: maxExecution, Waits: true, Handle: s.leadHere},
		{Method: "GET", Path: api.PathEvents, Scope: muster.ScopeNode, Query: []string{"job", "after", "wait_ms"}, Handle: s.ownEvents},
		{Method: "GET", Path: api.PathOutput, Scope: muster.ScopeNode, Query: []string{"job", "stdout", "stderr", "try", "step", "wait_ms"}, Handle: s.ownOutput},
	}
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

// leader finds the node that leads a job.
func (s *Server) leader(id string) (n muster.Node, here bool, err error) {
	leader := leaderOf(id)
	if leader == s.cfg.ID {
		return n, true, nil
	}
	nodes := s.cfg.Cluster.Nodes()
	i := slices.IndexFunc(nodes, func(n muster.Node) bool { return n.ID == leader && n.DeletedAt == nil })
	if leader == "" || i < 0 {
		return n, false, noJob(id)
	}
	return nodes[i], false, nil
}

// atLeader has a request done by the node that leads its job, if that is not
// this one.
func (s *Server) atLeader(ctx context.Context, c *fasthttp.RequestCtx, req *Request) (answer any, code int, here bool, err error) {
	leader, here, err := s.leader(req.Params["id"])
	if here || err != nil {
		return nil, 0, here, err
	}
	answer, code, err = s.forward(ctx, c, req, leader)
	return answer, code, false, away(leader, err)
}

// away says which node keeps a job that cannot be reached.
func away(leader muster.Node, err error) error {
	if muster.KindOf(err) != muster.Unavailable || muster.CodeOf(err) == codeUnheard {
		return err
	}
	return muster.Errorf(muster.Unavailable, "the job is kept by node %s, which cannot be reached: %w", leader.Slug, err).
		WithHint("what it runs on other nodes goes on; ask again when that node is back")
}

// job returns a job that this node keeps, for a caller who may run its action on
// all of its nodes.
func (s *Server) job(by muster.Rights, id string) (muster.Job, error) {
	if s.cfg.Jobs == nil {
		return muster.Job{}, noJob(id)
	}
	j, err := s.cfg.Jobs.Job(id)
	if err != nil {
		return muster.Job{}, err
	}
	if err := need(by, "run:"+j.Action); err != nil {
		return muster.Job{}, err
	}
	return j, s.spans(by, j)
}

// showJob tells how a job is.
func (s *Server) showJob(_ context.Context, r *Request) (any, error) {
	return s.job(r.Rights, r.Params["id"])
}

// cancelJob ends a job.
func (s *Server) cancelJob(ctx context.Context, r *Request) (any, error) {
	if s.cfg.Jobs == nil {
		return nil, noJob(r.Params["id"])
	}
	if _, err := s.job(r.Rights, r.Params["id"]); err != nil {
		return nil, err
	}
	return s.cfg.Jobs.Cancel(ctx, r.Rights, r.Params["id"])
}

// retryJob begins a job anew on nodes where it did not succeed.
func (s *Server) retryJob(ctx context.Context, r *Request) (_ any, err error) {
	var again muster.Retry
	if len(r.Body) > 0 {
		if err := api.Decode(r.Body, &again); err != nil {
			return nil, err
		}
	}
	if s.cfg.Jobs == nil {
		return nil, noJob(r.Params["id"])
	}
	if _, err := s.job(r.Rights, r.Params["id"]); err != nil {
		return nil, err
	}
	again.ID = s.newJob()
	if r.Key != "" {
		w := r.write()
		w.Route += " " + r.Params["id"]
		if again.Params != nil { // they must be those of the job
			w.Digest = digest(muster.Retry{Only: again.Only})
		}
		if again.ID, err = s.cfg.RunKey(ctx, w, again.ID); err != nil {
			return nil, err
		}
	}
	j, err := s.cfg.Jobs.Retry(ctx, r.Rights, r.Params["id"], again)
	return status{http.StatusAccepted, j}, err
}

// cancel kills what this node executes of a job, for the node that leads it.
func (s *Server) cancel(_ context.Context, r *Request) (any, error) {
	var c api.Cancellation
	if err := api.Decode(r.Body, &c); err != nil {
		return nil, err
	}
	if s.cfg.Executions == nil {
		return struct{}{}, nil
	}
	if err := s.reached(r.Rights); err != nil {
		return nil, err
	}
	return struct{}{}, s.cfg.Executions.Cancel(r.Rights, c.Action, c.Job)
}

// outcome tells the node that leads a job, and no other, what became of it here.
func (s *Server) outcome(_ context.Context, r *Request) (any, error) {
	job := r.Query.Get("job")
	switch {
	case r.Node == "" || r.Node != leaderOf(job):
		return nil, noJob(job)
	case s.cfg.Outcome == nil:
		return muster.Outcome{}, nil
	default:
		return s.cfg.Outcome(job)
	}
}

// listJobs lists the jobs of one node, or of all, the newest first: those whose
// action the caller may run there.
func (s *Server) listJobs(ctx context.Context, r *Request) (any, error) {
	if err := oneOf(r.Query, "scope", "local", "cluster"); err != nil {
		return nil, err
	}
	everyone := r.Query.Get("scope") == "cluster"
	if everyone && r.Query.Has("node") && r.Node == "" {
		return nil, muster.FieldError("node", "does not go with scope=cluster")
	}
	own, err := s.jobsHere(r)
	if err != nil || !everyone || s.cfg.EveryJob == nil {
		return own, err
	}
	limit, err := pageLimit(r.Query)
	if err != nil {
		return nil, err
	}
	f := api.JobFilter{Status: r.Query.Get("status"), Action: r.Query.Get("action"), Limit: limit, Cursor: r.Query.Get("cursor")}
	others, missing := s.cfg.EveryJob(ctx, f)
	return merged(append(others, own), missing, limit), nil
}

// ownJobs is this node's part of a list that another node makes: of the jobs that
// the caller behind it may see.
func (s *Server) ownJobs(_ context.Context, r *Request) (any, error) { return s.jobsHere(r) }

// merged is the newest of several nodes' jobs.
func merged(lists []api.Jobs, missing []string, limit int) api.Jobs {
	all := api.Jobs{Jobs: []muster.Job{}, Missing: missing}
	more := false
	for _, l := range lists {
		all.Jobs, more = append(all.Jobs, l.Jobs...), more || l.Cursor != ""
	}
	slices.SortFunc(all.Jobs, func(a, b muster.Job) int { return cmp.Compare(began(b.Job), began(a.Job)) })
	if len(all.Jobs) > limit {
		all.Jobs, more = all.Jobs[:limit], true
	}
	if more && len(all.Jobs) > 0 {
		all.Cursor = all.Jobs[len(all.Jobs)-1].Job
	}
	return all
}

// began orders jobs by when they began, whoever leads them.
func began(job string) string {
	_, id, _ := strings.Cut(strings.TrimPrefix(job, "j_"), "_")
	return id + " " + job
}

func (s *Server) jobsHere(r *Request) (list api.Jobs, err error) {
	limit, err := pageLimit(r.Query)
	if err != nil {
		return list, err
	}
	statuses := []string{muster.JobRunning, muster.JobSucceeded, muster.JobPartial, muster.JobFailed, muster.JobCancelled, muster.JobInterrupted}
	if err := oneOf(r.Query, "status", statuses...); err != nil {
		return list, err
	}
	list.Jobs = []muster.Job{}
	if s.cfg.Jobs == nil {
		return list, nil
	}
	q, before := r.Query, r.Query.Get("cursor")
	for j, err := range s.cfg.Jobs.Jobs(before) {
		if err != nil {
			return list, err
		}
		if before != "" && began(j.Job) >= began(before) || !r.Rights.May("run:"+j.Action) || s.spans(r.Rights, j) != nil ||
			q.Has("status") && j.Status != q.Get("status") || q.Has("action") && j.Action != q.Get("action") {
			continue
		}
		if len(list.Jobs) == limit {
			list.Cursor = list.Jobs[limit-1].Job
			break
		}
		list.Jobs = append(list.Jobs, j)
	}
	return list, nil
}

// jobOutput fetches what a job's program printed at a node, from that node.
func (s *Server) jobOutput(ctx context.Context, r *Request) (any, error) {
	n, here, err := s.target(r.Params["slug"])
	if muster.KindOf(err) == muster.Invalid && n.ID == "" {
		return nil, muster.Errorf(muster.NotFound, "no node %s", strconv.Quote(r.Params["slug"]))
	}
	if err != nil {
		return nil, muster.Errorf(muster.NotFound, "%s is an external node: what its actions print is its own", n.Slug).WithCode("no_output")
	}
	ask := muster.OutputAsk{Job: r.Params["id"]}
	if here {
		return s.output(ctx, r.Rights, ask)
	}
	var out muster.Output
	return out, s.askNode(ctx, n, r.Rights, api.Request{Method: http.MethodGet, Path: api.OutputPath(ask)}, &out)
}

func (s *Server) output(ctx context.Context, by muster.Rights, ask muster.OutputAsk) (muster.Output, error) {
	if s.cfg.Executions == nil {
		return muster.Output{}, noJob(ask.Job)
	}
	if err := s.reached(by); err != nil {
		return muster.Output{}, err
	}
	out, err := s.cfg.Executions.Output(ctx, by, ask)
	out.Node = s.slug()
	return out, err
}

// ownOutput tells another node what a program prints here.
func (s *Server) ownOutput(ctx context.Context, r *Request) (any, error) {
	ask := muster.OutputAsk{Job: r.Query.Get("job"), Wait: r.Query.Has("wait_ms")}
	for name, to := range map[string]*int{"stdout": &ask.Stdout, "stderr": &ask.Stderr, "try": &ask.Try, "step": &ask.Step} {
		n, err := strconv.Atoi(cmp.Or(r.Query.Get(name), "0"))
		if err != nil || n < 0 {
			return nil, muster.FieldError(name, "must be a whole number, not below 0")
		}
		*to = n
	}
	ctx, cancel, err := s.longPoll(ctx, r)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return s.output(ctx, r.Rights, ask)
}

// longPoll is a context for as long as a request may wait for news, and no longer
// than this server is there.
func (s *Server) longPoll(ctx context.Context, r *Request) (context.Context, context.CancelFunc, error) {
	ms, err := strconv.Atoi(cmp.Or(r.Query.Get("wait_ms"), "0"))
	if err != nil || ms < 0 {
		return nil, nil, muster.FieldError("wait_ms", "must be a whole number, not below 0")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(ms)*time.Millisecond)
	s.streams.tie(ctx, cancel)
	return ctx, cancel, nil
}
