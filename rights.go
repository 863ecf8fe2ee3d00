package muster

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"
)

// The scopes a key can hold, besides run:<glob>. ScopeNode is for calls that
// nodes sign and is never granted to a key; ScopePublic needs no key;
// ScopeAny needs some key, whatever its scopes.
const (
	ScopeRead     = "read"
	ScopeSearch   = "search"
	ScopeIndex    = "index"
	ScopeTx       = "tx"
	ScopeRegistry = "registry"
	ScopeAdmin    = "admin"
	ScopeNode     = "node"
	ScopePublic   = "public"
	ScopeAny      = "any"
	scopeRun      = "run:"
)

// Rights say who calls and what the caller may do. They travel with a call
// from node to node and are checked again where the work is done.
type Rights struct {
	Principal string     `json:"principal"` // "key:<id>", "node:<id>" or "operator"
	Scopes    []string   `json:"scopes"`
	NodeID    string     `json:"node_id,omitempty"`    // the node a key belongs to
	MaxRisk   Risk       `json:"max_risk,omitempty"`   // empty: no limit
	ExpiresAt *time.Time `json:"expires_at,omitempty"` // nil: never
	Targets   string     `json:"targets,omitempty"`    // a Where over the metadata of nodes; empty: all
	Filter    Metadata   `json:"filter,omitempty"`     // what every document found must be like
}

// Operator reports whether the caller holds the cluster secret.
func (r Rights) Operator() bool { return r.Principal == "operator" }

// May reports whether a scope is granted. ScopeAdmin grants all but ScopeNode;
// a granted run:<glob> covers the actions whose names it matches (path.Match; there
// is no slash in a name), run:* all of them and every other glob, too.
func (r Rights) May(scope string) bool {
	if scope == ScopePublic {
		return true
	}
	if scope == ScopeNode {
		return slices.Contains(r.Scopes, ScopeNode)
	}
	if scope == ScopeAny {
		return r.Principal != ""
	}
	return slices.ContainsFunc(r.Scopes, func(have string) bool {
		if have == scope || have == ScopeAdmin || have == scopeRun+"*" && strings.HasPrefix(scope, scopeRun) {
			return true
		}
		glob, isRun := strings.CutPrefix(have, scopeRun)
		action, wantsRun := strings.CutPrefix(scope, scopeRun)
		if !isRun || !wantsRun || strings.ContainsAny(action, `*?[\`) {
			return false // a glob is granted by itself or by admin only: it is no action's name
		}
		ok, err := path.Match(glob, action)
		return ok && err == nil
	})
}

// Expired reports whether the rights have ended.
func (r Rights) Expired(now time.Time) bool { return r.ExpiresAt != nil && !now.Before(*r.ExpiresAt) }

// Bound is the highest risk and the end of a key that this caller makes: what
// is given, or the caller's own where that is less. A new key is never more
// than the one that made it.
func (r Rights) Bound(risk Risk, end *time.Time) (Risk, *time.Time) {
	if r.MaxRisk != "" && (risk == "" || risk.Level() > r.MaxRisk.Level()) {
		risk = r.MaxRisk
	}
	if r.ExpiresAt != nil && (end == nil || end.After(*r.ExpiresAt)) {
		end = r.ExpiresAt
	}
	return risk, end
}

type rightsKey struct{}

// WithRights makes a context carry the caller on whose behalf the work is done.
func WithRights(ctx context.Context, r Rights) context.Context {
	return context.WithValue(ctx, rightsKey{}, r)
}

// RightsOf returns the caller that WithRights put in; nobody, if none.
func RightsOf(ctx context.Context) Rights {
	r, _ := ctx.Value(rightsKey{}).(Rights)
	return r
}

// NodeScopes are those of a node's own key, unless others were asked for.
func NodeScopes() []string { return []string{ScopeRead, ScopeSearch, scopeRun + "*"} }

// ValidScope reports whether a scope can be granted to a key.
func ValidScope(scope string) bool {
	switch scope {
	case ScopeRead, ScopeSearch, ScopeIndex, ScopeTx, ScopeRegistry, ScopeAdmin:
		return true
	}
	glob, isRun := strings.CutPrefix(scope, scopeRun)
	_, err := path.Match(glob, "")
	return isRun && glob != "" && err == nil
}

// Risk grades what an action can break.
type Risk string

// The risks, from none to worst.
const (
	RiskRead        Risk = "read"
	RiskLow         Risk = "low"
	RiskMedium      Risk = "medium"
	RiskHigh        Risk = "high"
	RiskDestructive Risk = "destructive"
)

// Level orders the risks from 1 (read) to 5 (destructive); 0 is no risk known.
func (r Risk) Level() int {
	return 1 + slices.Index([]Risk{RiskRead, RiskLow, RiskMedium, RiskHigh, RiskDestructive}, r)
}
