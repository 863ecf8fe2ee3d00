package trust_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/cluster/trust"
)

// FuzzANodesSignature puts any header and any claims behind a true signature's
// place, and a true MAC's: only what the node signed for this call gets in.
func FuzzANodesSignature(f *testing.F) {
	c := newCouple(f)
	call := trust.Call{Method: "POST", Path: "/v1/x", Body: []byte("b"), Audience: c.b.ID, Rights: muster.Rights{Principal: "key:1", Scopes: []string{"search"}}}
	good := map[string]bool{}
	for _, sign := range []func(trust.Call) (string, error){c.a.Sign, trust.NewPairs(c.a, c.keyOf).Sign} {
		token, err := sign(call)
		if err != nil {
			f.Fatal(err)
		}
		var raw [3][]byte
		for i, part := range strings.Split(token, ".") {
			if raw[i], err = base64.RawURLEncoding.DecodeString(part); err != nil {
				f.Fatal(err)
			}
		}
		good[string(bytes.Join(raw[:], []byte(".")))] = true
		f.Add(raw[0], raw[1], raw[2])
		f.Add([]byte(`{"alg":"none","kid":"operator"}`), raw[1], []byte{})
		f.Add([]byte(`{"alg":"HS256","kid":"`+c.a.ID+`"}`), []byte(`{"exp":1e300,"aud":["b"],"iat":-1}`), raw[2])
	}
	f.Fuzz(func(t *testing.T, header, claims, signature []byte) {
		v := c.verifier(c.b)
		v.Secrets = those(trust.NewSecret())
		forged := make([]string, 0, 3)
		for _, part := range [][]byte{header, claims, signature} {
			forged = append(forged, base64.RawURLEncoding.EncodeToString(part))
		}
		_, err := v.Verify(strings.Join(forged, "."), call)
		if err == nil && !good[string(bytes.Join([][]byte{header, claims, signature}, []byte(".")))] {
			t.Fatalf("%s.%s passes", header, claims)
		}
		if err != nil && muster.KindOf(err) == muster.Internal {
			t.Fatal(err)
		}
	})
}

// FuzzAJoinProof shows a joiner's words that it never proved.
func FuzzAJoinProof(f *testing.F) {
	node, err := trust.LoadOrCreateIdentity(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Add("01a211a1-5664-729f-9c97-7a65fe614b9f", "a", "http://a", []byte(node.PublicKey()), make([]byte, ed25519.SignatureSize))
	f.Add("", "", "", []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, call, name, url string, key, proof []byte) {
		if len(key) == ed25519.PublicKeySize && string(key) != string(node.PublicKey()) {
			return // there are keys of small order that prove anything: who shows one harms itself
		}
		j := muster.Joining{ID: node.ID, CallID: call, Name: name, URL: url, PublicKey: key, Proof: proof}
		if err := trust.CheckJoin(j, "b", time.Now()); muster.KindOf(err) != muster.Unauthorized {
			t.Fatalf("%+v: %v", j, err)
		}
	})
}

// FuzzASealedCredential opens what nobody sealed.
func FuzzASealedCredential(f *testing.F) {
	v := vault(trust.NewSecret())
	sealed, err := v.Seal("a", "secret")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("a", sealed)
	f.Add("", []byte{})
	f.Add("a", sealed[:12])
	f.Fuzz(func(t *testing.T, owner string, raw []byte) {
		if text, err := v.Open(owner, raw); err == nil && (owner != "a" || string(raw) != string(sealed) || text != "secret") {
			t.Fatalf("%q opens", raw)
		}
		v.Fresh(raw)
	})
}
