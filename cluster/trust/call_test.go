package trust_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/cluster/trust"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// bench is a verifier, and the signers that it knows.
type bench struct {
	secret, old trust.Secret
	node        trust.Identity
	v           *trust.Verifier
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{secret: trust.NewSecret(), old: trust.NewSecret(), node: identity(t)}
	b.v = &trust.Verifier{
		NodeID: "target", Secrets: those(b.secret, b.old),
		NodeKey: func(id string) (ed25519.PublicKey, bool) { return b.node.PublicKey(), id == b.node.ID },
	}
	return b
}

func those(secrets ...trust.Secret) func() []trust.Secret {
	return func() []trust.Secret { return secrets }
}

func (b *bench) verify(token string) (trust.Verified, error) {
	return b.v.Verify(token, call())
}

func call() trust.Call {
	return trust.Call{
		Method: "POST", Path: "/v1/x?y=1", Key: "once", Body: []byte("body"), Audience: "target",
		Rights: muster.Rights{Principal: "key:1", Scopes: []string{"search", "run:a*"}, NodeID: "n", MaxRisk: muster.RiskLow},
	}
}

func TestTheCallersRightsTravelWhole(t *testing.T) {
	b := newBench(t)
	c := call()
	c.ID = uuid.NewString()
	token, err := b.node.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.verify(token)
	if err != nil || got.Signer != b.node.ID || !got.FromNode || got.ID != c.ID {
		t.Fatalf("%+v %v", got, err)
	}
	if r := got.Rights; r.Principal != "key:1" || !r.May("search") || !r.May("run:abc") || r.May("admin") || r.May(muster.ScopeNode) ||
		r.NodeID != "n" || r.MaxRisk != muster.RiskLow {
		t.Errorf("%+v", r)
	}
}

func TestEverySecretOfARotationSignsForAnOperator(t *testing.T) {
	b := newBench(t)
	for _, s := range []trust.Secret{b.secret, b.old} {
		token, err := trust.OperatorSigner{Secret: s}.Sign(call())
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.verify(token)
		if err != nil || got.Signer != "operator" || got.FromNode || !got.Rights.Operator() || !got.Rights.May("admin") || got.Rights.May(muster.ScopeNode) {
			t.Errorf("%+v %v", got, err)
		}
	}
}

func TestAJoinerMayJoinAndNothingElse(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		name, path, principal string
		ok                    bool
	}{
		{"its own join", trust.JoinPath, "node:n1", true},
		{"another path", "/v1/x", "node:n1", false},
		{"a query on the path", trust.JoinPath + "?x", "node:n1", false},
		{"as an operator", trust.JoinPath, "operator", false},
		{"as nobody", trust.JoinPath, "node:", false},
	} {
		token, err := b.secret.SignJoin(trust.Call{
			Method: "POST", Path: c.path, Audience: "target",
			Rights: muster.Rights{Principal: c.principal, Scopes: []string{muster.ScopeNode, muster.ScopeAdmin}},
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.v.Verify(token, trust.Call{Method: "POST", Path: c.path})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.ok && (got.Signer != "join" || !got.FromNode || !got.Rights.May(muster.ScopeNode) || got.Rights.May("admin")) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestATamperedCallIsRefused(t *testing.T) {
	b := newBench(t)
	for name, spoil := range map[string]func(*trust.Call){
		"method": func(c *trust.Call) { c.Method = "GET" },
		"path":   func(c *trust.Call) { c.Path = "/v1/y?y=1" },
		"query":  func(c *trust.Call) { c.Path = "/v1/x?y=2" },
		"key":    func(c *trust.Call) { c.Key = "twice" },
		"no key": func(c *trust.Call) { c.Key = "" },
		"body":   func(c *trust.Call) { c.Body = nil },
		"aud":    func(c *trust.Call) { c.Audience = "another" },
		"no aud": func(c *trust.Call) { c.Audience = "" },
		"jti":    func(c *trust.Call) { c.ID = "1" },
	} {
		c := call()
		spoil(&c)
		for _, sign := range []func(trust.Call) (string, error){b.node.Sign, b.secret.SignOperator} {
			token, err := sign(c)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.verify(token); muster.KindOf(err) != muster.Unauthorized || muster.CodeOf(err) != "unauthorized" {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// forged is a token as good as the real one, but for what spoil does.
func (b *bench) forged(t *testing.T, method jwt.SigningMethod, key any, kid string, spoil func(jwt.MapClaims)) string {
	t.Helper()
	sum, now := sha256.Sum256([]byte("body")), time.Now()
	c := jwt.MapClaims{
		"jti": uuid.NewString(), "iss": kid, "sub": "key:1", "aud": "target", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
		"m": "POST", "p": "/v1/x?y=1", "k": "once", "t": now.UnixMilli(), "b": hex.EncodeToString(sum[:]), "r": muster.Rights{Principal: "key:1"},
	}
	spoil(c)
	token := jwt.NewWithClaims(method, c)
	token.Header["kid"] = kid
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheKeyIDAloneDecidesTheAlgorithm(t *testing.T) {
	b := newBench(t)
	_, own, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	as := func(jwt.MapClaims) {}
	public, operator := []byte(b.node.PublicKey()), b.secret.OperatorKey()
	if _, err := b.verify(b.forged(t, jwt.SigningMethodHS256, operator, "operator", as)); err != nil {
		t.Fatalf("the untouched forgery must pass, or this test shows nothing: %v", err)
	}
	for name, token := range map[string]string{
		"HS256 with a node's public key":     b.forged(t, jwt.SigningMethodHS256, public, b.node.ID, as),
		"HS256 of the operator for a node":   b.forged(t, jwt.SigningMethodHS256, operator, b.node.ID, as),
		"EdDSA for the operator":             b.forged(t, jwt.SigningMethodEdDSA, own, "operator", as),
		"EdDSA for a joiner":                 b.forged(t, jwt.SigningMethodEdDSA, own, "join", as),
		"EdDSA of another key":               b.forged(t, jwt.SigningMethodEdDSA, own, b.node.ID, as),
		"EdDSA of a node nobody knows":       b.forged(t, jwt.SigningMethodEdDSA, own, uuid.NewString(), as),
		"HS512 for the operator":             b.forged(t, jwt.SigningMethodHS512, operator, "operator", as),
		"HS256 with an empty key":            b.forged(t, jwt.SigningMethodHS256, []byte{}, "operator", as),
		"no algorithm for the operator":      b.forged(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "operator", as),
		"no algorithm for a node":            b.forged(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, b.node.ID, as),
		"HS256 without key ID":               b.forged(t, jwt.SigningMethodHS256, operator, "", as),
		"HS256 of a secret nobody here has":  b.forged(t, jwt.SigningMethodHS256, trust.NewSecret().OperatorKey(), "operator", as),
		"the gossip key in place of the own": b.forged(t, jwt.SigningMethodHS256, b.secret.GossipKey(), "operator", as),
	} {
		if _, err := b.verify(token); muster.KindOf(err) != muster.Unauthorized {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClaimsThatNoNodeSignsAreRefused(t *testing.T) {
	b := newBench(t)
	for name, spoil := range map[string]func(jwt.MapClaims){
		"an hour of life":        func(c jwt.MapClaims) { c["exp"] = time.Now().Add(time.Hour).Unix() },
		"two audiences":          func(c jwt.MapClaims) { c["aud"] = []string{"target", "another"} },
		"no audience":            func(c jwt.MapClaims) { delete(c, "aud") },
		"no expiry":              func(c jwt.MapClaims) { delete(c, "exp") },
		"no time of issue":       func(c jwt.MapClaims) { delete(c, "iat") },
		"another time of issue":  func(c jwt.MapClaims) { c["t"] = time.Now().Add(2 * time.Second).UnixMilli() },
		"no exact time":          func(c jwt.MapClaims) { delete(c, "t") },
		"no call ID":             func(c jwt.MapClaims) { delete(c, "jti") },
		"another signer":         func(c jwt.MapClaims) { c["iss"] = "join" },
		"another principal":      func(c jwt.MapClaims) { c["sub"] = "operator" },
		"a body hash left out":   func(c jwt.MapClaims) { delete(c, "b") },
		"expired when issued":    func(c jwt.MapClaims) { c["exp"] = c["iat"] },
		"an ID of another shape": func(c jwt.MapClaims) { c["jti"] = strings.Repeat("x", 4000) },
	} {
		token := b.forged(t, jwt.SigningMethodHS256, b.secret.OperatorKey(), "operator", spoil)
		if _, err := b.verify(token); muster.KindOf(err) != muster.Unauthorized {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestACallHoldsForAMinuteAndALeewayOnly(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		ahead time.Duration // the verifier's clock
		ok    bool
	}{
		{0, true},
		{-25 * time.Second, true},
		{-35 * time.Second, false},
		{85 * time.Second, true},
		{95 * time.Second, false},
		{time.Hour, false},
	} {
		token, err := b.node.Sign(call())
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now().Add(c.ahead)
		b.v.Now = func() time.Time { return now }
		_, err = b.verify(token)
		if (err == nil) != c.ok {
			t.Errorf("%v ahead: %v", c.ahead, err)
		}
		if !c.ok && (muster.CodeOf(err) != "clock_skew" || muster.KindOf(err) != muster.Unauthorized ||
			!strings.Contains(err.Error(), now.UTC().Format(time.RFC3339)) || strings.Count(err.Error(), "Z") != 2) {
			t.Errorf("%v ahead: not both times in %v (%s)", c.ahead, err, muster.CodeOf(err))
		}
	}
}

func TestARepeatedCallIsRefusedUntilItHasExpired(t *testing.T) {
	b := newBench(t)
	start := time.Now()
	now := start.Add(-29 * time.Second)
	b.v.Now = func() time.Time { return now }
	token, err := b.node.Sign(call())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.verify(token); err != nil {
		t.Fatal(err)
	}
	for now.Before(start.Add(100 * time.Second)) {
		_, err := b.verify(token)
		want := "replayed"
		if now.After(start.Add(91 * time.Second)) {
			want = "clock_skew"
		}
		if edge := now.Sub(start) > 88*time.Second && now.Sub(start) <= 91*time.Second; err == nil || !edge && muster.CodeOf(err) != want {
			t.Fatalf("%v after signing: %v", now.Sub(start), err)
		}
		now = now.Add(500 * time.Millisecond)
	}
}

func TestOnlyCallsThatChangeSomethingAreRemembered(t *testing.T) {
	b := newBench(t)
	b.v.Harmless = func(method, _ string) bool { return method == "GET" }
	for method, want := range map[string]string{"GET": "", "POST": "replayed"} {
		c := call()
		c.Method = method
		token, err := b.node.Sign(c)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			_, err := b.v.Verify(token, c)
			if first := i == 0 || want == ""; first != (err == nil) || !first && muster.CodeOf(err) != want {
				t.Errorf("%s, time %d: %v", method, i+1, err)
			}
		}
	}
}

func TestACallFromBeforeARestartIsRefusedAndOneSignedAgainHolds(t *testing.T) {
	b := newBench(t)
	token, err := b.node.Sign(call())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.verify(token); err != nil {
		t.Fatal(err)
	}
	<-time.After(2 * time.Millisecond)
	v := &trust.Verifier{NodeID: b.v.NodeID, Secrets: b.v.Secrets, NodeKey: b.v.NodeKey, Started: time.Now()}
	if _, err := v.Verify(token, call()); muster.KindOf(err) != muster.Unauthorized || muster.CodeOf(err) != "restarted" {
		t.Errorf("repeated after a restart: %v", err)
	}
	again, err := b.node.Sign(call())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(again, call()); err != nil {
		t.Errorf("signed again: %v", err)
	}
}

func TestACallerWhoseClockIsBehindIsLetInWithinHalfAMinuteOfARestart(t *testing.T) {
	b := newBench(t)
	start := time.Now()
	b.v.Started = start.Add(25 * time.Second) // to the caller it is 25 s earlier
	for _, c := range []struct {
		after time.Duration // the restart
		code  string
	}{{0, "restarted"}, {24 * time.Second, "restarted"}, {26 * time.Second, ""}} {
		now := b.v.Started.Add(c.after)
		b.v.Now = func() time.Time { return now }
		sent := start.Add(c.after)
		token := b.forged(t, jwt.SigningMethodHS256, b.secret.OperatorKey(), "operator", func(m jwt.MapClaims) {
			m["t"], m["iat"], m["exp"] = sent.UnixMilli(), sent.Unix(), sent.Add(time.Minute).Unix()
		})
		_, err := b.verify(token)
		if (err == nil) != (c.code == "") || err != nil && muster.CodeOf(err) != c.code {
			t.Errorf("%v after the restart: %v", c.after, err)
		}
	}
}

func TestAnAnswerDoesNotTellWhoIsRegistered(t *testing.T) {
	b := newBench(t)
	_, own, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	as := func(jwt.MapClaims) {}
	_, known := b.verify(b.forged(t, jwt.SigningMethodEdDSA, own, b.node.ID, as))
	_, unknown := b.verify(b.forged(t, jwt.SigningMethodEdDSA, own, uuid.NewString(), as))
	if known == nil || unknown == nil || known.Error() != unknown.Error() {
		t.Errorf("%v\n%v", known, unknown)
	}
}

func TestTheSameIDWrittenInAnotherWayIsARepeat(t *testing.T) {
	b, id := newBench(t), uuid.NewString()
	for i, text := range []string{id, strings.ToUpper(id), "urn:uuid:" + id, strings.ReplaceAll(id, "-", "")} {
		c := call()
		c.ID = text
		token, err := b.node.Sign(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.verify(token); (err == nil) != (i == 0) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestARefusedCallDoesNotUseUpItsID(t *testing.T) {
	b := newBench(t)
	token, err := b.node.Sign(call())
	if err != nil {
		t.Fatal(err)
	}
	another := call()
	another.Body = []byte("another")
	if _, err := b.v.Verify(token, another); err == nil {
		t.Fatal("another body passes")
	}
	if _, err := b.verify(token); err != nil {
		t.Error(err)
	}
}

func TestAVerifierWithoutAnIDOrKeysRefusesAll(t *testing.T) {
	b := newBench(t)
	c := call()
	c.Audience = ""
	for _, v := range []*trust.Verifier{{Secrets: b.v.Secrets, NodeKey: b.v.NodeKey}, {NodeID: "target"}} {
		for _, sign := range []func(trust.Call) (string, error){b.node.Sign, b.secret.SignOperator} {
			for _, c := range []trust.Call{c, call()} {
				token, err := sign(c)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := v.Verify(token, c); err == nil {
					t.Error("passes")
				}
			}
		}
	}
}
