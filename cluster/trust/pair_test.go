package trust_test

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"math/big"
	"slices"
	"strings"
	"testing"

	"muster"
	"muster/cluster/trust"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// couple is two nodes of one cluster, and a third.
type couple struct {
	a, b, third trust.Identity
	registered  map[string]ed25519.PublicKey
}

func newCouple(tb testing.TB) *couple {
	tb.Helper()
	c := &couple{a: identity(tb), b: identity(tb), third: identity(tb)}
	c.registered = map[string]ed25519.PublicKey{}
	for _, id := range []trust.Identity{c.a, c.b, c.third} {
		c.registered[id.ID] = id.PublicKey()
	}
	return c
}

func (c *couple) keyOf(id string) (ed25519.PublicKey, bool) {
	key, ok := c.registered[id]
	return key, ok
}

func (c *couple) verifier(id trust.Identity) *trust.Verifier {
	return &trust.Verifier{NodeID: id.ID, NodeKey: c.keyOf, Pairs: trust.NewPairs(id, c.keyOf)}
}

// between is a call to a node, as signed by another.
func between(tb testing.TB, p *trust.Pairs, to string) (token string, c trust.Call) {
	tb.Helper()
	c = call()
	c.Audience = to
	token, err := p.Sign(c)
	if err != nil {
		tb.Fatal(err)
	}
	return token, c
}

func algorithm(t *testing.T, token string) any {
	t.Helper()
	parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Header["alg"]
}

func TestTwoRegisteredNodesCallEachOtherUnderAKeyThatOnlyTheyHave(t *testing.T) {
	c := newCouple(t)
	token, signed := between(t, trust.NewPairs(c.a, c.keyOf), c.b.ID)
	if alg := algorithm(t, token); alg != "HS256" {
		t.Fatalf("signed with %v", alg)
	}
	v := c.verifier(c.b)
	got, err := v.Verify(token, signed)
	if err != nil || got.Signer != c.a.ID || !got.FromNode || got.Rights.Principal != "key:1" {
		t.Fatalf("%+v %v", got, err)
	}
	if _, err := v.Verify(token, signed); muster.CodeOf(err) != "replayed" {
		t.Errorf("twice: %v", err)
	}
	for _, other := range []trust.Identity{c.a, c.third} {
		if _, err := c.verifier(other).Verify(token, signed); err == nil {
			t.Error("holds at another node")
		}
	}
	again, signed := between(t, trust.NewPairs(c.a, c.keyOf), c.b.ID)
	delete(c.registered, c.a.ID)
	if _, err := v.Verify(again, signed); muster.KindOf(err) != muster.Unauthorized {
		t.Errorf("of a removed node: %v", err)
	}
}

func TestACallToANodeThatIsNotRegisteredHereIsSignedWithTheNodeKey(t *testing.T) {
	c := newCouple(t)
	v := c.verifier(c.b)
	for name, known := range map[string]ed25519.PublicKey{
		"none":           nil,
		"half a key":     c.b.PublicKey()[:16],
		"of small order": append([]byte{1}, make([]byte, 31)...),
		"not a point":    append([]byte{2}, make([]byte, 31)...),
	} {
		pairs := trust.NewPairs(c.a, func(string) (ed25519.PublicKey, bool) { return known, known != nil })
		token, signed := between(t, pairs, c.b.ID)
		if alg := algorithm(t, token); alg != "EdDSA" {
			t.Errorf("%s: signed with %v", name, alg)
		}
		if _, err := v.Verify(token, signed); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTheKeyOfAPairIsX25519BetweenTheNodeKeys works it out by the formulas of RFC
// 7748 alone, and signs with it.
func TestTheKeyOfAPairIsX25519BetweenTheNodeKeys(t *testing.T) {
	c := newCouple(t)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.NewString()
	c.registered[id] = public
	scalar := sha512.Sum512(private.Seed())
	ours, err := ecdh.X25519().NewPrivateKey(scalar[:32])
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := ecdh.X25519().NewPublicKey(montgomery(c.b.PublicKey()))
	if err != nil {
		t.Fatal(err)
	}
	shared, err := ours.ECDH(theirs)
	if err != nil {
		t.Fatal(err)
	}
	key := func(from, to ed25519.PublicKey) []byte {
		key, err := hkdf.Key(sha256.New, shared, slices.Concat(from, to), "muster call v1", 32)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	b := newBench(t)
	as := func(m jwt.MapClaims) { m["aud"] = c.b.ID }
	arrived := call()
	for _, f := range []struct {
		name string
		key  []byte
		ok   bool
	}{
		{"the key of the pair", key(public, c.b.PublicKey()), true},
		{"that of the way back", key(c.b.PublicKey(), public), false},
		{"the shared secret itself", shared, false},
		{"the signer's public key", public, false},
		{"an empty key", []byte{}, false},
	} {
		_, err := c.verifier(c.b).Verify(b.forged(t, jwt.SigningMethodHS256, f.key, id, as), arrived)
		if (err == nil) != f.ok {
			t.Errorf("%s: %v", f.name, err)
		}
	}
	low := uuid.NewString() // whoever shows such a key has "agreed" on zeros with everybody
	c.registered[low] = append([]byte{1}, make([]byte, 31)...)
	zeros, err := hkdf.Key(sha256.New, make([]byte, 32), slices.Concat(c.registered[low], c.b.PublicKey()), "muster call v1", 32)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.verifier(c.b).Verify(b.forged(t, jwt.SigningMethodHS256, zeros, low, as), arrived); err == nil {
		t.Error("a key of small order agrees with everybody")
	}
}

// montgomery is u = (1 + y) / (1 - y) mod 2^255 - 19 (RFC 7748, 4.1).
func montgomery(public ed25519.PublicKey) []byte {
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	raw := slices.Clone(public)
	raw[31] &= 0x7f
	slices.Reverse(raw)
	y, one := new(big.Int).SetBytes(raw), big.NewInt(1)
	below := new(big.Int).ModInverse(new(big.Int).Mod(new(big.Int).Sub(one, y), p), p)
	u := below.Mul(below, new(big.Int).Add(one, y))
	out := u.Mod(u, p).FillBytes(make([]byte, 32))
	slices.Reverse(out)
	return out
}

func TestATamperedCallUnderAPairsKeyIsRefused(t *testing.T) {
	c := newCouple(t)
	token, signed := between(t, trust.NewPairs(c.a, c.keyOf), c.b.ID)
	parts := strings.Split(token, ".")
	eddsa, err := c.a.Sign(signed)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Split(eddsa, ".")
	v := c.verifier(c.b)
	for name, forged := range map[string]string{
		"no signature":                        parts[0] + "." + parts[1] + ".",
		"zeros":                               parts[0] + "." + parts[1] + "." + strings.Repeat("A", 43),
		"the node key's signature":            parts[0] + "." + parts[1] + "." + other[2],
		"the MAC for what was signed":         other[0] + "." + other[1] + "." + parts[2],
		"the MAC with the other's algorithm":  other[0] + "." + parts[1] + "." + parts[2],
		"the claims of the other, MAC of one": parts[0] + "." + other[1] + "." + parts[2],
	} {
		if _, err := v.Verify(forged, signed); muster.KindOf(err) != muster.Unauthorized {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := v.Verify(token, signed); err != nil {
		t.Error(err)
	}
}

// BenchmarkCall signs a call and checks it, by a MAC under the key of a pair and by
// a node key.
func BenchmarkCall(b *testing.B) {
	c := newCouple(b)
	pairs := trust.NewPairs(c.a, c.keyOf)
	for name, sign := range map[string]func(trust.Call) (string, error){"pair": pairs.Sign, "node key": c.a.Sign} {
		b.Run(name, func(b *testing.B) {
			v := c.verifier(c.b)
			v.Harmless = func(string, string) bool { return true }
			arrived := call()
			arrived.Audience = c.b.ID
			for b.Loop() {
				token, err := sign(arrived)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := v.Verify(token, arrived); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
