package httpserver

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster"
	"muster/httpserver/api"
)

const maxKeyLife = 10 * 365 * 24 * time.Hour

func (s *Server) createKey(ctx context.Context, r *Request) (any, error) {
	var asked askedKey
	if err := api.Decode(r.Body, &asked); err != nil {
		return nil, err
	}
	spec, err := asked.spec()
	if err != nil {
		return nil, err
	}
	spec, err = bounded(r.Rights, spec, time.Now())
	if err != nil {
		return nil, err
	}
	key, err := s.cfg.Cluster.CreateKey(ctx, r.write(), spec)
	return shown(key), err
}

// shown is a key with its secret, or the way out if that is not shown again.
func shown(key muster.Key) api.NewKey {
	made := api.NewKey{Key: key, Plain: key.Plain}
	if made.Plain == nil {
		made.Hint = hintRotate
	}
	return made
}

// askedKey is a key as it is asked for. What is left out is told from what is
// empty: a script whose arithmetic failed must not get a key that never ends.
type askedKey struct {
	muster.KeySpec
	ExpiresIn *string `json:"expires_in"`
	Targets   *string `json:"targets"`
}

// spec is the key that is asked for, if it can be made.
func (a askedKey) spec() (muster.KeySpec, error) {
	spec, bad := a.KeySpec, complaints{}
	if a.ExpiresIn != nil {
		spec.ExpiresIn = *a.ExpiresIn
		bad.duration("expires_in", spec.ExpiresIn)
	}
	if a.Targets != nil {
		spec.Targets = *a.Targets
		_, err := muster.ParseWhere(spec.Targets)
		bad.when(err != nil, "targets", fmt.Sprintf("is no condition like env=prod: %v", err))
	}
	bad.key(spec)
	return spec, bad.err("the key has invalid fields")
}

// duration checks a time span that is said.
func (c complaints) duration(field, text string) time.Duration {
	d, err := time.ParseDuration(text)
	c.when(err != nil || d <= 0 || d > maxKeyLife, field, "must be a duration like 720h, above 0 and at most 10 years")
	return d
}

// What a key says travels with every call on its behalf, in a header.
const (
	maxScopes  = 2 << 10 // bytes of all together
	maxTargets = 1 << 10
	maxFilter  = 1 << 10
)

// key checks all of a key but how long it lives.
func (c complaints) key(spec muster.KeySpec) {
	c.name(spec.Name)
	c.when(len(spec.Scopes) == 0, "scopes", "at least one is needed")
	c.scopes(spec.Scopes)
	c.when(spec.MaxRisk != "" && spec.MaxRisk.Level() == 0, "max_risk", "must be read, low, medium, high or destructive")
	c.when(len(spec.Targets) > maxTargets, "targets", "must have at most 1 KiB")
	raw, err := json.Marshal(spec.Filter)
	c.when(err != nil || len(raw) > maxFilter, "filter", "must be at most 1 KiB")
	c.when(spec.Filter != nil && len(spec.Filter) == 0, "filter", "must name a field")
	for field, value := range spec.Filter {
		c.when(field == "" || strings.ContainsRune(field, 0), "filter", "a field must have a name without NUL")
		c.when(len(muster.FilterValues(value)) == 0, "filter", strconv.Quote(field)+" must have a value, or a list of values; ranges are not supported yet")
	}
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
	targets, filter, ok := by.Confine(spec.Targets, spec.Filter)
	if !ok {
		more := complaints{"filter": {"lets through what your own does not"}}
		return spec, more.beyond()
	}
	if len(targets) > maxTargets {
		return spec, muster.FieldError("targets", "must have at most 1 KiB, those of your own key included")
	}
	spec.Targets, spec.Filter = targets, filter
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
	return more.beyond()
}

// beyond is the error of a key that would be more than its maker's, or nil.
func (c complaints) beyond() error {
	if len(c) == 0 {
		return nil
	}
	return &muster.Error{
		Kind: muster.Forbidden, Code: codeExceeds, Message: "a key cannot be more than the one that makes it", Fields: c,
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
