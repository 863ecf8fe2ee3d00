package trust_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/cluster/trust"
)

// FuzzANodesSignature puts any header and any claims behind a true signature's
// place: only what the node signed for this call gets in.
func FuzzANodesSignature(f *testing.F) {
	node, err := trust.LoadOrCreateIdentity(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	call := trust.Call{Method: "POST", Path: "/v1/x", Body: []byte("b"), Audience: "b", Rights: muster.Rights{Principal: "key:1", Scopes: []string{"search"}}}
	token, err := node.Sign(call)
	if err != nil {
		f.Fatal(err)
	}
	parts := strings.Split(token, ".")
	raw := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(raw(parts[0]), raw(parts[1]), raw(parts[2]))
	f.Add([]byte(`{"alg":"none","kid":"operator"}`), raw(parts[1]), []byte{})
	f.Add([]byte(`{"alg":"HS256","kid":"`+node.ID+`"}`), []byte(`{"exp":1e300,"aud":["b"],"iat":-1}`), raw(parts[2]))
	good := string(raw(parts[0])) + "." + string(raw(parts[1])) + "." + string(raw(parts[2]))
	f.Fuzz(func(t *testing.T, header, claims, signature []byte) {
		v := &trust.Verifier{NodeID: "b", Secrets: those(trust.NewSecret()), NodeKey: func(id string) (ed25519.PublicKey, bool) { return node.PublicKey(), id == node.ID }}
		forged := make([]string, 0, 3)
		for _, part := range [][]byte{header, claims, signature} {
			forged = append(forged, base64.RawURLEncoding.EncodeToString(part))
		}
		_, err := v.Verify(strings.Join(forged, "."), call)
		if err == nil && string(header)+"."+string(claims)+"."+string(signature) != good {
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
