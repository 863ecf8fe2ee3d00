package httpserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"muster"
	"muster/httpserver/api"
)

const (
	claimGrace = 2 * time.Second // between a key and the job that it stands for
	lookFirst  = 5 * time.Millisecond
	lookMost   = 200 * time.Millisecond
)

// keyed begins the run that an idempotency key stands for, or finds the job of
// it that was begun before, wherever, and waits for its end. When the wait ends
// before, the job goes on.
func (s *Server) keyed(ctx context.Context, r *Request, a asked) (any, error) {
	if s.cfg.Jobs == nil {
		return nil, muster.FieldError("key", "this node keeps no jobs")
	}
	ctx, cancel := context.WithTimeout(ctx, patience(ctx, r, a.TimeoutMs))
	defer cancel()
	sum := sha256.Sum256(r.Body)
	a.Run.On, a.TimeoutMs, a.Digest = *a.On, 0, hex.EncodeToString(sum[:])
	j, err := s.cfg.Runner.Begin(ctx, r.Rights, a.Run)
	if err != nil {
		return nil, err
	}
	claimed, waits := time.Now(), a.Wait == nil || *a.Wait
	for pause := lookFirst; ; pause = min(2*pause, lookMost) {
		if j.Status != "" && (j.Status != muster.JobRunning || !waits) {
			break
		}
		if !sleep(ctx, pause) {
			break
		}
		if j, err = s.jobOf(ctx, r, j, claimed); err != nil {
			return nil, err
		}
	}
	if j.Status == muster.JobRunning || j.Status == "" || !waits {
		return status{http.StatusAccepted, j}, nil
	}
	return j.RunAnswer, nil
}

// jobOf returns a job as it is now, from the node that leads it. One that is not
// there yet, because its key was claimed this moment, is returned as it was.
func (s *Server) jobOf(ctx context.Context, r *Request, last muster.Job, claimed time.Time) (j muster.Job, err error) {
	leader := leaderOf(last.Job)
	if leader == s.cfg.ID {
		j, err = s.cfg.Jobs.Job(last.Job)
	} else {
		j, err = s.jobAt(ctx, r, leader, last.Job)
	}
	switch {
	case muster.KindOf(err) == muster.NotFound && time.Since(claimed) < claimGrace:
		return last, nil
	case muster.KindOf(err) == muster.NotFound:
		return j, muster.Errorf(muster.Conflict, "the job of this key, %s, was never begun: its node died, or forgot it", last.Job).
			WithCode("job_lost").WithHint("look what became of it, then use another key")
	case ctx.Err() != nil && j.Job == "":
		return last, nil // the wait ended, not the job
	default:
		return j, err
	}
}

func (s *Server) jobAt(ctx context.Context, r *Request, leader, id string) (j muster.Job, err error) {
	nodes := s.cfg.Cluster.Nodes()
	i := slices.IndexFunc(nodes, func(n muster.Node) bool { return n.ID == leader && n.DeletedAt == nil })
	if i < 0 {
		return j, noJob(id)
	}
	got, err := s.cfg.Forward.Forward(ctx, nodes[i], r.Rights, api.Request{Method: http.MethodGet, Path: "/v1/jobs/" + id + "?node=" + leader})
	if muster.KindOf(err) == muster.Unavailable {
		return j, muster.Errorf(muster.Unavailable, "the job of this key is kept by node %s, which cannot be reached: %w", nodes[i].Slug, err)
	}
	if err != nil {
		return j, err
	}
	return j, json.Unmarshal(got.Body, &j)
}

// keyedHere is keyed on this node alone: its answer has the shape of a run
// without on.
func (s *Server) keyedHere(ctx context.Context, r *Request, a asked) (any, error) {
	self := []string{s.cfg.ID}
	a.On = &muster.Selector{Nodes: &self}
	answer, err := s.keyed(ctx, r, a)
	if got, ended := answer.(muster.RunAnswer); ended && err == nil {
		for _, res := range got.Results {
			return ran(a.Action, res), nil
		}
	}
	return answer, err
}

// sleep waits, and reports whether ctx let it.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
