package trust

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync"
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
	maxReplays = 100_000

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
}

type claims struct {
	jwt.RegisteredClaims

	Method string        `json:"m"`
	Path   string        `json:"p"`
	Body   string        `json:"b"`
	Rights muster.Rights `json:"r"`
}

func newClaims(c Call) claims {
	now := time.Now()
	sum := sha256.Sum256(c.Body)
	return claims{
		RegisteredClaims: jwt.RegisteredClaims{
			ID: uuid.NewString(), Audience: jwt.ClaimStrings{c.Audience},
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(callLife)),
		},
		Method: c.Method, Path: c.Path, Body: hex.EncodeToString(sum[:]), Rights: c.Rights,
	}
}

// Sign signs a call as this node.
func (i Identity) Sign(c Call) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, newClaims(c))
	token.Header["kid"] = i.ID
	return token.SignedString(i.key)
}

// SignJoin signs a node's first call, when the registry does not know its key.
func (s Secret) SignJoin(c Call) (string, error) { return s.sign(c, kidJoin) }

// SignOperator signs a call of whoever holds the secret.
func (s Secret) SignOperator(c Call) (string, error) {
	c.Rights = muster.Rights{Principal: "operator", Scopes: []string{muster.ScopeAdmin}}
	return s.sign(c, kidOperator)
}

func (s Secret) sign(c Call, kid string) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, newClaims(c))
	token.Header["kid"] = kid
	return token.SignedString(s.operatorKey())
}

// Verifier checks signed calls that arrive at one node.
type Verifier struct {
	NodeID  string
	Secrets []Secret
	NodeKey func(nodeID string) (ed25519.PublicKey, bool) // of registered nodes

	mu   sync.Mutex
	seen map[string]time.Time // guarded by mu; call IDs until they expire
}

var errAnotherSecret = errors.New("signed with another secret")

// Verify returns the rights of the original caller, and whether a registered
// or joining node signed. Its errors are of kind Unauthorized; the code is
// clock_skew when only the clocks differ.
func (v *Verifier) Verify(token, method, path string, body []byte) (rights muster.Rights, fromNode bool, err error) {
	if len(token) > maxToken {
		return rights, false, muster.Errorf(muster.Unauthorized, "signed call is too long")
	}
	var c claims
	var kid string
	for _, secret := range v.Secrets {
		c = claims{}
		kid, err = v.parse(token, secret, &c)
		if err == nil || !errors.Is(err, jwt.ErrTokenSignatureInvalid) {
			break
		}
	}
	if err != nil {
		return rights, false, v.explain(err, c)
	}
	sum := sha256.Sum256(body)
	if c.Method != method || c.Path != path || c.Body != hex.EncodeToString(sum[:]) {
		return rights, false, muster.Errorf(muster.Unauthorized, "this call was signed for another request")
	}
	if kid == kidJoin && path != JoinPath {
		return rights, false, muster.Errorf(muster.Unauthorized, "a joining node may only join")
	}
	if !v.fresh(c.ID, c.ExpiresAt.Time) {
		return rights, false, muster.Errorf(muster.Unauthorized, "this call was seen before").WithCode("replayed")
	}
	return c.Rights, kid != kidOperator, nil
}

// parse checks signature, times and audience. The key ID alone decides which
// algorithm a signature must have.
func (v *Verifier) parse(token string, secret Secret, c *claims) (kid string, err error) {
	_, err = jwt.ParseWithClaims(token, c, func(t *jwt.Token) (any, error) {
		kid, _ = t.Header["kid"].(string)
		if kid == kidOperator || kid == kidJoin {
			if t.Method != jwt.SigningMethodHS256 {
				return nil, errAnotherSecret
			}
			return secret.operatorKey(), nil
		}
		key, known := v.NodeKey(kid)
		if !known || t.Method.Alg() != jwt.SigningMethodEdDSA.Alg() {
			return nil, errAnotherSecret
		}
		return key, nil
	}, jwt.WithValidMethods([]string{"HS256", "EdDSA"}), jwt.WithAudience(v.NodeID), jwt.WithLeeway(callLeeway),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	return kid, err
}

func (v *Verifier) explain(err error, c claims) error {
	late := errors.Is(err, jwt.ErrTokenExpired) || errors.Is(err, jwt.ErrTokenUsedBeforeIssued)
	if late && c.IssuedAt != nil {
		return muster.Errorf(muster.Unauthorized, "signed at %s, but it is %s here",
			c.IssuedAt.UTC().Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339)).
			WithCode("clock_skew").WithHint("set both clocks, with NTP for instance")
	}
	return muster.Errorf(muster.Unauthorized, "signed call: %w", err).
		WithHint("is it the same cluster secret, and is the node registered?")
}

// fresh remembers a call's ID and reports whether it is new. When too many are
// remembered it refuses rather than forgets.
func (v *Verifier) fresh(id string, expires time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	if v.seen == nil {
		v.seen = map[string]time.Time{}
	}
	if len(v.seen) >= maxReplays {
		for old, until := range v.seen {
			if now.After(until) {
				delete(v.seen, old)
			}
		}
	}
	if _, again := v.seen[id]; again || id == "" || len(v.seen) >= maxReplays {
		return false
	}
	v.seen[id] = expires.Add(callLeeway)
	return true
}
