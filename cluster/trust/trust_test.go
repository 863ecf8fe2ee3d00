package trust_test

import (
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"muster"
	"muster/cluster/trust"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAgentsThatStartAtOnceShareOneSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "home", "secret")
	var wg sync.WaitGroup
	got := make([]trust.Secret, 8)
	for i := range got {
		wg.Go(func() {
			if s, err := trust.EnsureSecretFile(path); err == nil {
				got[i] = s[0]
			}
		})
	}
	wg.Wait()
	for _, s := range got {
		if s != got[0] || s == (trust.Secret{}) {
			t.Fatal("secrets differ")
		}
	}
}

func TestABadSecretIsRefusedWithoutShowingIt(t *testing.T) {
	for _, bad := range []string{"", "\n", "xyz", strings.Repeat("a", 63), strings.Repeat("a", 64) + "\nzz"} {
		_, err := trust.ParseSecrets(bad)
		if muster.KindOf(err) != muster.Invalid || strings.Contains(err.Error(), "aaa") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTwoNodesOfOneSecretMeetOverMutualTLS(t *testing.T) {
	ours, theirs := trust.NewSecret(), trust.NewSecret()
	for _, c := range []struct {
		name   string
		client trust.Secret
		dialed string
		ok     bool
	}{
		{"same secret", ours, "node-a", true},
		{"another node answers", ours, "node-c", false},
		{"another secret", theirs, "node-a", false},
	} {
		server, _ := tlsOf(t, ours, "node-a")
		_, client := tlsOf(t, c.client, "node-b")
		err := handshake(t, server, client(c.dialed))
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func tlsOf(t *testing.T, s trust.Secret, id string) (*tls.Config, func(string) *tls.Config) {
	t.Helper()
	certs := trust.NewCertificates(ring(t, s), id)
	return certs.Mutual(), certs.Client
}

func handshake(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	a, b := net.Pipe()
	s, c := tls.Server(a, server), tls.Client(b, client)
	errs := make(chan error, 1)
	go func() {
		err := s.HandshakeContext(t.Context())
		if err == nil {
			_, err = s.Write([]byte("x"))
		}
		_ = a.Close()
		errs <- err
	}()
	_, err := io.ReadAll(io.LimitReader(c, 1))
	_ = b.Close()
	return errors.Join(err, <-errs)
}

func TestAnIdentityStaysAndADamagedOneIsRefused(t *testing.T) {
	dir := t.TempDir()
	first, err := trust.LoadOrCreateIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := trust.LoadOrCreateIdentity(dir)
	if err != nil || again.ID != first.ID || !again.PublicKey().Equal(first.PublicKey()) {
		t.Fatalf("%v %v %v", first.ID, again.ID, err)
	}
}

func TestASignedCallHoldsForItsOwnRequestOnly(t *testing.T) {
	secret := trust.NewSecret()
	node, err := trust.LoadOrCreateIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	v := &trust.Verifier{NodeID: "b", Secrets: those(trust.NewSecret(), secret), NodeKey: func(id string) (ed25519.PublicKey, bool) {
		return node.PublicKey(), id == node.ID
	}}
	call := trust.Call{
		Method: "POST", Path: "/v1/x?y=1", Body: []byte("body"), Audience: "b",
		Rights: muster.Rights{Principal: "key:1", Scopes: []string{"search"}},
	}
	sign := func(f func(trust.Call) (string, error), c trust.Call) string {
		t.Helper()
		token, err := f(c)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	verify := func(token, method, path, body string) error {
		_, err := v.Verify(token, trust.Call{Method: method, Path: path, Body: []byte(body)})
		return err
	}
	other := call
	other.Audience = "c"
	stranger, err := trust.LoadOrCreateIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	once := sign(node.Sign, call)
	got, err := v.Verify(once, call)
	if err != nil || !got.FromNode || got.Rights.Principal != "key:1" || got.Rights.May("admin") {
		t.Fatalf("%+v %v", got, err)
	}
	got, err = v.Verify(sign(secret.SignOperator, call), call)
	if err != nil || got.FromNode || !got.Rights.Operator() {
		t.Fatalf("operator: %+v %v", got, err)
	}
	for name, err := range map[string]error{
		"replayed":         verify(once, "POST", "/v1/x?y=1", "body"),
		"another method":   verify(sign(node.Sign, call), "GET", "/v1/x?y=1", "body"),
		"another query":    verify(sign(node.Sign, call), "POST", "/v1/x?y=2", "body"),
		"another body":     verify(sign(node.Sign, call), "POST", "/v1/x?y=1", "bodY"),
		"another node":     verify(sign(node.Sign, other), "POST", "/v1/x?y=1", "body"),
		"a stranger":       verify(sign(stranger.Sign, call), "POST", "/v1/x?y=1", "body"),
		"another secret":   verify(sign(trust.NewSecret().SignOperator, call), "POST", "/v1/x?y=1", "body"),
		"join elsewhere":   verify(sign(secret.SignJoin, call), "POST", "/v1/x?y=1", "body"),
		"no signature":     verify("eyJhbGciOiJub25lIiwia2lkIjoib3BlcmF0b3IifQ.e30.", "POST", "/v1/x?y=1", "body"),
		"nothing":          verify("", "POST", "/v1/x?y=1", "body"),
		"a very long text": verify(strings.Repeat("x", 9000), "POST", "/v1/x?y=1", "body"),
	} {
		if muster.KindOf(err) != muster.Unauthorized {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAKeyIsTakenApartAsItWasMade(t *testing.T) {
	id, plain, hash := trust.NewKey()
	gotID, gotHash, ok := trust.ParseKey(plain)
	if !ok || gotID != id || !trust.SameHash(hash, gotHash) {
		t.Fatalf("%s: %v", plain, ok)
	}
	for _, bad := range []string{"", "mk_", "mk__", plain + "0", plain[1:], strings.ToUpper(plain)} {
		if _, h, ok := trust.ParseKey(bad); ok && trust.SameHash(h, hash) {
			t.Errorf("%q passes", bad)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIiwia2lkIjoib3BlcmF0b3IifQ.e30.")
	if token, err := trust.NewSecret().SignOperator(trust.Call{Method: "GET", Path: "/", Audience: "b"}); err == nil {
		f.Add(token)
	}
	v := &trust.Verifier{NodeID: "b", Secrets: those(trust.NewSecret()), NodeKey: func(string) (ed25519.PublicKey, bool) { return nil, false }}
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := v.Verify(token, trust.Call{Method: "GET", Path: "/"}); err == nil {
			t.Fatal("accepted")
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add("mk_0_0")
	_, plain, _ := trust.NewKey()
	f.Add(plain)
	f.Fuzz(func(t *testing.T, s string) {
		if id, _, ok := trust.ParseKey(s); ok && (len(id) != 12 || strings.Count(s, "_") != 2 || !strings.HasPrefix(s, "mk_"+id+"_")) {
			t.Fatalf("%q is no key", s)
		}
	})
}
