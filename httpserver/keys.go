package httpserver

import (
	"context"
	"fmt"
	"slices"
	"time"

	"muster"
	"muster/httpserver/api"
)

const maxKeyLife = 10 * 365 * 24 * time.Hour

func (s *Server) createKey(ctx context.Context, r *Request) (any, error) {
	var spec muster.KeySpec
	if err := api.Decode(r.Body, &spec); err != nil {
		return nil, err
	}
	if err := checkKeySpec(spec); err != nil {
		return nil, err
	}
	spec, err := bounded(r.Rights, spec, time.Now())
	if err != nil {
		return nil, err
	}
	key, err := s.cfg.Cluster.CreateKey(ctx, r.write(), spec)
	made := api.NewKey{Key: key, Plain: key.Plain}
	if made.Plain == nil {
		made.Hint = hintRotate
	}
	return made, err
}

func checkKeySpec(spec muster.KeySpec) error {
	bad := complaints{}
	bad.name(spec.Name)
	bad.when(len(spec.Scopes) == 0, "scopes", "at least one is needed")
	bad.scopes(spec.Scopes)
	bad.when(spec.MaxRisk != "" && spec.MaxRisk.Level() == 0, "max_risk", "must be read, low, medium, high or destructive")
	bad.when(spec.Targets != "", "targets", "not supported yet")
	bad.when(spec.Filter != nil, "filter", "not supported yet")
	if spec.ExpiresIn != "" {
		d, err := time.ParseDuration(spec.ExpiresIn)
		bad.when(err != nil || d <= 0 || d > maxKeyLife, "expires_in", "must be a duration like 720h, above 0 and at most 10 years")
	}
	return bad.err("the key has invalid fields")
}

// bounded is the key that a caller gets: refused if it asks for more than the
// caller has, and no more than that where it does not ask.
func bounded(by muster.Rights, spec muster.KeySpec, now time.Time) (muster.KeySpec, error) {
	var end *time.Time
	if d, err := time.ParseDuration(spec.ExpiresIn); err == nil {
		at := now.Add(d)
		end = &at
	}
	if err := exceeds(by, spec.Scopes, spec.MaxRisk, end); err != nil {
		return spec, err
	}
	risk, last := by.Bound(spec.MaxRisk, end)
	spec.MaxRisk = risk
	if end == nil && last != nil {
		left := last.Sub(now).Truncate(time.Second) - time.Second // it is counted from a moment later
		if left <= 0 {
			return spec, muster.Errorf(muster.Forbidden, "your own key is about to expire").WithCode(codeExceeds)
		}
		spec.ExpiresIn = left.String()
	}
	return spec, nil
}

const codeExceeds = "exceeds_caller"

// exceeds refuses a key that was asked to be more than its maker's. An empty
// risk and a nil end were not asked for.
func exceeds(by muster.Rights, scopes []string, risk muster.Risk, end *time.Time) error {
	more := complaints{}
	for _, scope := range scopes {
		more.when(!by.May(scope), "scopes", "you do not hold "+scope)
	}
	most, last := by.Bound(risk, end)
	more.when(risk != "" && most != risk, "max_risk", fmt.Sprintf("yours is %s", most))
	more.when(end != nil && last != end, "expires_in", "your own key expires before that")
	if len(more) == 0 {
		return nil
	}
	return &muster.Error{
		Kind: muster.Forbidden, Code: codeExceeds, Message: "a key cannot be more than the one that makes it", Fields: more,
		Hint: "ask for less, or ask an operator",
	}
}

func (s *Server) listKeys(context.Context, *Request) (any, error) {
	keys := slices.DeleteFunc(s.cfg.Keys(), func(k muster.Key) bool { return k.RevokedAt != nil })
	return api.Keys{Keys: append([]muster.Key{}, keys...)}, nil
}

func (s *Server) revokeKey(ctx context.Context, r *Request) (any, error) {
	return map[string]bool{"success": true}, s.cfg.Cluster.RevokeKey(ctx, r.write(), r.Params["id"])
}
