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
// its query, idempotency key, the SHA-256 of the body, and the node it is meant
// for.
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
	Key      string // of the Idempotency-Key header
	Body     []byte
	Audience string        // ID of the node that is called
	Rights   muster.Rights // of the original caller; the signer's own word about them
	ID       string        // jti, a UUID; empty: drawn. ProveJoin needs it before the call exists
}

type claims struct {
	jwt.RegisteredClaims

	Method string        `json:"m"`
	Path   string        `json:"p"`
	Key    string        `json:"k,omitempty"`
	Body   string        `json:"b"`
	At     int64         `json:"t"` // the time of issue again, in milliseconds: iat is in seconds
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
		Method: c.Method, Path: c.Path, Key: c.Key, Body: hex.EncodeToString(sum[:]), At: now.UnixMilli(), Rights: c.Rights,
	}
}

// Sign signs a call as this node (EdDSA), for one that may not be registered here.
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
	Secrets func() []Secret                               // those understood now
	NodeKey func(nodeID string) (ed25519.PublicKey, bool) // of registered nodes
	Pairs   *Pairs                                        // of this node; nil: from nodes only EdDSA is taken
	Started time.Time                                     // when it began to remember calls; zero: it always did
	Now     func() time.Time                              // nil: time.Now

	// Harmless says of which calls a repeat changes nothing: they are not
	// remembered, since they come by the thousand. Nil: of none.
	Harmless func(method, path string) bool

	seen memory
}

// errBadSigner is the error for unknown signers, wrong algorithms and bad
// signatures alike, so that no answer tells strangers who is registered.
var errBadSigner = errors.New("unknown signer")

// Verify says who signed a call and for whom. Of the call as it arrived it
// reads Method, Path, Key and Body. Its errors are of kind Unauthorized; the
// code is clock_skew when only the clocks differ, replayed when the call was
// seen before, and restarted when it might have been, before this node started.
// Limited with code replays_full says that its signer sent too many of late to
// tell.
func (v *Verifier) Verify(token string, arrived Call) (Verified, error) {
	return v.VerifyBody(token, arrived, func(Verified) ([]byte, error) { return arrived.Body, nil })
}

// VerifyBody is Verify for a body that is not read yet: it is asked for only
// when all else holds, and an error of body is returned as it is.
func (v *Verifier) VerifyBody(token string, arrived Call, body func(Verified) ([]byte, error)) (Verified, error) {
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
	id, err := c.check(kid)
	if err != nil {
		return Verified{}, err
	}
	other := muster.Errorf(muster.Unauthorized, "this call was signed for another request")
	if c.Method != arrived.Method || c.Path != arrived.Path || c.Key != arrived.Key {
		return Verified{}, other
	}
	rights, err := c.rights(kid)
	if err != nil {
		return Verified{}, err
	}
	if err := v.remembers(c, now); err != nil {
		return Verified{}, err
	}
	verified := Verified{Signer: kid, FromNode: kid != kidOperator, Rights: rights, ID: c.ID}
	raw, err := body(verified)
	if err != nil {
		return Verified{}, err
	}
	if sum := sha256.Sum256(raw); c.Body != hex.EncodeToString(sum[:]) {
		return Verified{}, other
	}
	if v.Harmless != nil && v.Harmless(arrived.Method, arrived.Path) {
		return verified, nil
	}
	return verified, v.seen.of(kid).admit(id, now)
}

// check refuses what no node would sign. A longer life would outlast the memory
// of replays.
func (c *claims) check(kid string) (id uuid.UUID, err error) {
	id, err = uuid.Parse(c.ID)
	life := time.Duration(0)
	if c.IssuedAt != nil {
		life = c.ExpiresAt.Sub(c.IssuedAt.Time)
	}
	if err != nil || life <= 0 || life > callLife || c.IssuedAt.Unix() != time.UnixMilli(c.At).Unix() ||
		len(c.Audience) != 1 || c.Issuer != kid || c.Subject != c.Rights.Principal {
		return id, muster.Errorf(muster.Unauthorized, "signed call has claims that no node would sign")
	}
	return id, nil
}

// rights are the original caller's. A joiner has those of a node and may only
// join, whatever it says.
func (c *claims) rights(kid string) (muster.Rights, error) {
	switch kid {
	case kidOperator:
		return operatorRights(), nil
	case kidJoin:
		if node, ok := strings.CutPrefix(c.Rights.Principal, "node:"); c.Path != JoinPath || !ok || node == "" {
			return muster.Rights{}, muster.Errorf(muster.Unauthorized, "a joining node may only join")
		}
		return muster.Rights{Principal: c.Rights.Principal, Scopes: []string{muster.ScopeNode}}, nil
	default:
		return c.Rights, nil
	}
}

// remembers refuses calls that were issued before this node started, for as
// long as one can still hold: an earlier run may have seen them. A caller whose
// clock is behind waits for at most the leeway; one whose clock is ahead by some
// seconds signs calls that can be repeated for that long after a restart. That
// this ends is measured by the monotonic clock, where it has one: a wall clock
// that was set back after the start must shut nobody out for longer.
func (v *Verifier) remembers(c claims, now time.Time) error {
	if c.At >= v.Started.UnixMilli() || now.Sub(v.Started) >= replayMemory {
		return nil
	}
	return muster.Errorf(muster.Unauthorized, "signed at %s, before this node started at %s: it cannot tell whether it saw this call",
		time.UnixMilli(c.At).UTC().Format(time.RFC3339Nano), v.Started.UTC().Format(time.RFC3339Nano)).
		WithCode("restarted").WithHint("try again; if that does not help within half a minute, set both clocks, with NTP for instance")
}

// parse checks signature, times and audience. The key ID decides which keys a
// signature can be under, and each key is of one algorithm (RFC 8725, 3.1): a
// node's public one of EdDSA, one that is shared of HS256.
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
		if alg != jwt.SigningMethodHS256.Alg() || v.Secrets == nil {
			return nil, errBadSigner
		}
		var set jwt.VerificationKeySet
		for _, secret := range v.Secrets() {
			set.Keys = append(set.Keys, secret.OperatorKey())
		}
		return set, nil
	}
	if v.NodeKey == nil {
		return nil, errBadSigner
	}
	key, known := v.NodeKey(kid)
	switch {
	case !known || len(key) != ed25519.PublicKeySize:
		return nil, errBadSigner
	case alg == jwt.SigningMethodEdDSA.Alg():
		return key, nil
	case alg == jwt.SigningMethodHS256.Alg() && v.Pairs != nil:
		return v.Pairs.from(key)
	default:
		return nil, errBadSigner
	}
}

// explain tells differing clocks, once the signature was found good, from all
// else. Why a signature does not hold is nobody's business.
func explain(err error, c claims, now time.Time) error {
	skewed := errors.Is(err, jwt.ErrTokenExpired) || errors.Is(err, jwt.ErrTokenUsedBeforeIssued) ||
		errors.Is(err, jwt.ErrTokenNotValidYet)
	if skewed && c.IssuedAt != nil && !errors.Is(err, jwt.ErrTokenInvalidAudience) {
		return muster.Errorf(muster.Unauthorized, "signed at %s, but it is %s here",
			c.IssuedAt.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)).
			WithCode("clock_skew").WithHint("set both clocks, with NTP for instance")
	}
	if errors.Is(err, jwt.ErrTokenUnverifiable) || errors.Is(err, jwt.ErrTokenSignatureInvalid) {
		err = errBadSigner
	}
	return muster.Errorf(muster.Unauthorized, "signed call: %w", err).
		WithHint("is it the same cluster secret, and is the node registered?")
}
