package trust

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"muster"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// Signed calls are JWTs (RFC 7519) that bind one request: method, path with
// its query, the SHA-256 of the body, and the node it is meant for.
const (
	callLife   = 60 * time.Second
	callLeeway = 30 * time.Second
	maxToken   = 8 << 10

	kidOperator = "operator" // HS256 under the operator key
	kidJoin     = "join"     // the same, for JoinPath alone
)

// JoinPath is the one path that a node may call before it is registered.
const JoinPath = "/internal/v1/join"

// Call is a request to be signed.
type Call struct {
	Method   string
	Path     string // with its raw query
	Body     []byte
	Audience string        // ID of the node that is called
	Rights   muster.Rights // of the original caller; the signer's own word about them
	ID       string        // jti, a UUID; empty: drawn. ProveJoin needs it before the body exists
}

type claims struct {
	jwt.RegisteredClaims

	Method string        `json:"m"`
	Path   string        `json:"p"`
	Body   string        `json:"b"`
	Rights muster.Rights `json:"r"`
}

func newClaims(c Call, signer string) claims {
	now := time.Now()
	sum := sha256.Sum256(c.Body)
	if c.ID == "" {
		c.ID = uuid.NewString()
	}
	return claims{
		RegisteredClaims: jwt.RegisteredClaims{
			ID: c.ID, Issuer: signer, Subject: c.Rights.Principal, Audience: jwt.ClaimStrings{c.Audience},
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(callLife)),
		},
		Method: c.Method, Path: c.Path, Body: hex.EncodeToString(sum[:]), Rights: c.Rights,
	}
}

// Sign signs a call as this node (EdDSA).
func (i Identity) Sign(c Call) (string, error) {
	return sign(c, i.ID, jwt.SigningMethodEdDSA, i.key)
}

// SignJoin signs a node's first call, when the registry does not know its key.
// The principal of its rights must be "node:<id>", and its path JoinPath.
func (s Secret) SignJoin(c Call) (string, error) {
	return sign(c, kidJoin, jwt.SigningMethodHS256, s.OperatorKey())
}

// SignOperator signs a call of whoever holds the secret, with all rights.
func (s Secret) SignOperator(c Call) (string, error) {
	c.Rights = operatorRights()
	return sign(c, kidOperator, jwt.SigningMethodHS256, s.OperatorKey())
}

// OperatorSigner signs calls as Identity does, for whoever holds the secret.
type OperatorSigner struct{ Secret Secret }

// Sign is Secret.SignOperator.
func (o OperatorSigner) Sign(c Call) (string, error) { return o.Secret.SignOperator(c) }

func operatorRights() muster.Rights {
	return muster.Rights{Principal: "operator", Scopes: []string{muster.ScopeAdmin}}
}

func sign(c Call, kid string, method jwt.SigningMethod, key any) (string, error) {
	token := jwt.NewWithClaims(method, newClaims(c, kid))
	token.Header["kid"] = kid
	return token.SignedString(key)
}

// Verified is a signed call that holds.
type Verified struct {
	Signer   string        // a node ID, "operator" or "join"
	FromNode bool          // a registered or joining node signed
	Rights   muster.Rights // of the original caller
	ID       string        // jti
}

// Verifier checks signed calls that arrive at one node. It must not be copied.
type Verifier struct {
	NodeID  string
	Secrets []Secret
	NodeKey func(nodeID string) (ed25519.PublicKey, bool) // of registered nodes
	Now     func() time.Time                              // nil: time.Now
	Replays *Replays                                      // nil: its own

	own Replays
}

// errBadSigner is one error for unknown signers and wrong algorithms, so that
// it does not tell strangers who is registered.
var errBadSigner = errors.New("unknown signer")

// Verify is VerifyCall for callers that need the rights only.
func (v *Verifier) Verify(token, method, path string, body []byte) (rights muster.Rights, fromNode bool, err error) {
	verified, err := v.VerifyCall(token, method, path, body)
	return verified.Rights, verified.FromNode, err
}

// VerifyCall says who signed a call and for whom. Path has its raw query. Its
// errors are of kind Unauthorized; the code is clock_skew when only the clocks
// differ, replayed when the call was seen before, and replays_full when too
// many were seen of late to tell.
func (v *Verifier) VerifyCall(token, method, path string, body []byte) (Verified, error) {
	if len(token) > maxToken {
		return Verified{}, muster.Errorf(muster.Unauthorized, "signed call is too long")
	}
	now := time.Now()
	if v.Now != nil {
		now = v.Now()
	}
	var c claims
	kid, err := v.parse(token, now, &c)
	if err != nil {
		return Verified{}, explain(err, c, now)
	}
	id, err := uuid.Parse(c.ID)
	life := time.Duration(0)
	if c.IssuedAt != nil {
		life = c.ExpiresAt.Sub(c.IssuedAt.Time)
	}
	// A longer life would outlast the memory of replays.
	if err != nil || life <= 0 || life > callLife || len(c.Audience) != 1 || c.Issuer != kid || c.Subject != c.Rights.Principal {
		return Verified{}, muster.Errorf(muster.Unauthorized, "signed call has claims that no node would sign")
	}
	sum := sha256.Sum256(body)
	if c.Method != method || c.Path != path || c.Body != hex.EncodeToString(sum[:]) {
		return Verified{}, muster.Errorf(muster.Unauthorized, "this call was signed for another request")
	}
	rights := c.Rights
	switch kid {
	case kidOperator:
		rights = operatorRights()
	case kidJoin:
		if node, ok := strings.CutPrefix(rights.Principal, "node:"); path != JoinPath || !ok || node == "" {
			return Verified{}, muster.Errorf(muster.Unauthorized, "a joining node may only join")
		}
		rights = muster.Rights{Principal: rights.Principal, Scopes: []string{muster.ScopeNode}}
	}
	replays := v.Replays
	if replays == nil {
		replays = &v.own
	}
	if err := replays.admit(id, now); err != nil {
		return Verified{}, err
	}
	return Verified{Signer: kid, FromNode: kid != kidOperator, Rights: rights, ID: c.ID}, nil
}

// parse checks signature, times and audience. The key ID alone decides which
// algorithm a signature must have (RFC 8725, 3.1).
func (v *Verifier) parse(token string, now time.Time, c *claims) (kid string, err error) {
	if v.NodeID == "" {
		return "", errBadSigner // an empty audience would be checked by nobody
	}
	_, err = jwt.ParseWithClaims(token, c, func(t *jwt.Token) (any, error) {
		kid, _ = t.Header["kid"].(string)
		return v.keyOf(kid, t.Method.Alg())
	}, jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg(), jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithAudience(v.NodeID), jwt.WithLeeway(callLeeway), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithTimeFunc(func() time.Time { return now }))
	return kid, err
}

func (v *Verifier) keyOf(kid, alg string) (any, error) {
	if kid == kidOperator || kid == kidJoin {
		if alg != jwt.SigningMethodHS256.Alg() {
			return nil, errBadSigner
		}
		var set jwt.VerificationKeySet
		for _, secret := range v.Secrets {
			set.Keys = append(set.Keys, secret.OperatorKey())
		}
		return set, nil
	}
	if alg != jwt.SigningMethodEdDSA.Alg() || v.NodeKey == nil {
		return nil, errBadSigner
	}
	key, known := v.NodeKey(kid)
	if !known || len(key) != ed25519.PublicKeySize {
		return nil, errBadSigner
	}
	return key, nil
}

// explain is called after the signature was found good, or for a bad one; only
// in the first case are the times in c anybody's word.
func explain(err error, c claims, now time.Time) error {
	skewed := errors.Is(err, jwt.ErrTokenExpired) || errors.Is(err, jwt.ErrTokenUsedBeforeIssued) ||
		errors.Is(err, jwt.ErrTokenNotValidYet)
	if skewed && c.IssuedAt != nil && !errors.Is(err, jwt.ErrTokenInvalidAudience) {
		return muster.Errorf(muster.Unauthorized, "signed at %s, but it is %s here",
			c.IssuedAt.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)).
			WithCode("clock_skew").WithHint("set both clocks, with NTP for instance")
	}
	return muster.Errorf(muster.Unauthorized, "signed call: %w", err).
		WithHint("is it the same cluster secret, and is the node registered?")
}
