package httpserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"muster"
	"muster/httpserver/api"
)

// lead has a run done as a job: here, or, if its key stands for a job already, by
// the node that leads that one.
func (s *Server) lead(ctx context.Context, by muster.Rights, run muster.Run) (j muster.Job, err error) {
	if run.Key == "" {
		return s.begin(ctx, by, run)
	}
	if s.cfg.RunKey == nil {
		return j, muster.FieldError("key", "this node cannot remember it")
	}
	w := muster.Write{By: by, Route: "run", Key: run.Key, Digest: content(run)}
	if err := s.cfg.Runner.Judge(by, run); err != nil && (s.cfg.Keyed == nil || !s.cfg.Keyed(w)) {
		return j, err // a bad run takes no key; but one that has begun is told, whatever changed since
	}
	run.ID = s.newJob()
	soon, cancel := context.WithTimeout(ctx, writeDeadline)
	defer cancel()
	job, err := s.cfg.RunKey(soon, w, run.ID)
	if err != nil || job == run.ID {
		return s.begun(ctx, by, run, err)
	}
	run.ID = job
	leader, here, err := s.leader(job)
	switch {
	case muster.KindOf(err) == muster.NotFound:
		return j, muster.Errorf(muster.Gone, "the node that led %s, which the key stands for, is gone", job)
	case err != nil:
		return j, err
	case here:
		return s.resume(ctx, by, run)
	}
	body, err := json.Marshal(api.Lead{Job: job, Run: run})
	if err != nil {
		return j, err
	}
	err = s.askNode(ctx, leader, by, api.Request{Method: http.MethodPost, Path: api.PathLead, Body: body}, &j)
	return j, away(leader, err)
}

func (s *Server) begun(ctx context.Context, by muster.Rights, run muster.Run, err error) (muster.Job, error) {
	if err != nil {
		return muster.Job{}, err
	}
	return s.begin(ctx, by, run)
}

// begin starts a run, or finds that it was, and waits for it if that is asked.
func (s *Server) begin(ctx context.Context, by muster.Rights, run muster.Run) (muster.Job, error) {
	if run.Wait != nil && !*run.Wait {
		run.TimeoutMs = 0
		return s.cfg.Runner.Begin(ctx, by, run)
	}
	return s.cfg.Runner.Run(ctx, by, run)
}

// resume returns the job that a key stands for. One that never began, because
// this node went down first, begins now; but not if it may have been forgotten.
func (s *Server) resume(ctx context.Context, by muster.Rights, run muster.Run) (muster.Job, error) {
	_, err := s.cfg.Jobs.Job(run.ID)
	if muster.KindOf(err) != muster.NotFound {
		return s.begun(ctx, by, run, err)
	}
	older, err := s.anyJob(run.ID)
	if err != nil || older {
		return s.begun(ctx, by, run, err)
	}
	later, err := s.anyJob("")
	if later {
		err = muster.Errorf(muster.Gone, "%s, which the key stands for, is not known any more", run.ID)
	}
	return s.begun(ctx, by, run, err)
}

// anyJob reports whether this node keeps a job that began with or before one, or any
// at all.
func (s *Server) anyJob(from string) (there bool, err error) {
	for _, err := range s.cfg.Jobs.Jobs(from) {
		return err == nil, err
	}
	return false, nil
}

// leadHere does so for another node.
func (s *Server) leadHere(ctx context.Context, r *Request) (any, error) {
	var l api.Lead
	if err := api.Decode(r.Body, &l); err != nil {
		return nil, err
	}
	if err := need(r.Rights, "run:"+l.Action); err != nil {
		return nil, err
	}
	if s.cfg.Jobs == nil || leaderOf(l.Job) != s.cfg.ID {
		return nil, noJob(l.Job)
	}
	l.ID = l.Job
	// The caller's time travels with the call: the answer is to be there before.
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-min(time.Until(end)/10, answerMargin)))
		defer cancel()
	}
	return s.resume(ctx, r.Rights, l.Run)
}

const answerMargin = 200 * time.Millisecond

// content is the digest of what a run asks for, not of how it is answered. All
// nodes keep it, so parameters are not in it: secret ones could be tried out, and
// which those are is not always known. The node that leads the job compares them.
func content(run muster.Run) string {
	run.Key, run.Wait, run.TimeoutMs, run.Params = "", nil, 0, nil
	return digest(run)
}

// digest is the SHA-256 of a value as JSON, hex.
func digest(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// askNode asks another node something, with the rights of the one who asks.
func (s *Server) askNode(ctx context.Context, n muster.Node, by muster.Rights, r api.Request, out any) error {
	got, err := s.sendOn(ctx, n, by, r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(got.Body, out); err != nil {
		return muster.Errorf(muster.OutcomeUnknown, "answer of node %s: %w", n.Slug, err)
	}
	return nil
}
