package trust_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/cluster/trust"
)

func set(t *testing.T, r *trust.Ring, secrets ...trust.Secret) {
	t.Helper()
	if changed, err := r.Set(secrets); err != nil || !changed {
		t.Fatal(changed, err)
	}
}

func TestRunningNodesFollowAChangeOfTheSecretStepByStep(t *testing.T) {
	old, fresh := trust.NewSecret(), trust.NewSecret()
	ringA, ringB := ring(t, old), ring(t, old)
	a, b := trust.NewCertificates(ringA, "node-a"), trust.NewCertificates(ringB, "node-b")
	mutual, https := a.Mutual(), a.HTTPS(none)
	meet := func(when string) {
		t.Helper()
		for port, server := range map[string]*tls.Config{"raft": mutual, "HTTP": https} {
			if err := handshake(t, server, b.Client("node-a")); err != nil {
				t.Errorf("%s, %s: %v", when, port, err)
			}
		}
	}
	meet("before")
	for _, step := range []struct {
		name    string
		ring    *trust.Ring
		secrets []trust.Secret
	}{
		{"a understands", ringA, []trust.Secret{old, fresh}},
		{"b understands", ringB, []trust.Secret{old, fresh}},
		{"a speaks", ringA, []trust.Secret{fresh, old}},
		{"b speaks", ringB, []trust.Secret{fresh, old}},
		{"a forgets", ringA, []trust.Secret{fresh}},
		{"b forgets", ringB, []trust.Secret{fresh}},
	} {
		set(t, step.ring, step.secrets...)
		meet(step.name)
	}
	late := trust.NewCertificates(ring(t, old), "node-c")
	if handshake(t, mutual, late.Client("node-a")) == nil || handshake(t, https, late.Client("node-a")) == nil {
		t.Error("who has the old secret alone still comes in")
	}
}

func none() *tls.Certificate { return nil }

func TestARingKeepsOneOfItsSecrets(t *testing.T) {
	old := trust.NewSecret()
	r := ring(t, old)
	for _, secrets := range [][]trust.Secret{{trust.NewSecret()}, nil} {
		changed, err := r.Set(secrets)
		if e, ok := errors.AsType[*muster.Error](err); changed || !ok || e.Kind != muster.Invalid || e.Hint == "" {
			t.Errorf("%d secrets: %v, %v", len(secrets), changed, err)
		}
	}
	if changed, err := r.Set([]trust.Secret{old}); changed || err != nil {
		t.Errorf("the same again: %v, %v", changed, err)
	}
	if got := r.Secrets(); len(got) != 1 || got[0] != old {
		t.Error("what was refused was taken")
	}
}

func TestAFingerprintNamesASecretAndGivesNothingAway(t *testing.T) {
	s := trust.NewSecret()
	if again := trust.Secret(s[:]); again.Fingerprint() != s.Fingerprint() || s.Fingerprint() == 0 || s.Fingerprint() == trust.NewSecret().Fingerprint() {
		t.Error("it is no name")
	}
	raw := [4]byte{byte(s.Fingerprint() >> 24), byte(s.Fingerprint() >> 16), byte(s.Fingerprint() >> 8), byte(s.Fingerprint())}
	if bytes.Contains(s[:], raw[:]) || bytes.Contains(s.OperatorKey(), raw[:]) || bytes.Contains(s.GossipKey(), raw[:]) {
		t.Error("it is a part of a key")
	}
}

// public is a certificate that some other authority gave for a host name.
func public(t *testing.T, host string) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

func TestOthersGetThePublicCertificateAndNodesTheClusters(t *testing.T) {
	secret := trust.NewSecret()
	cert, roots := public(t, "shop.example")
	own := trust.NewCertificates(ring(t, secret), "node-a", "10.0.0.1", "shop.example")
	plain, shown := own.HTTPS(none), own.HTTPS(func() *tls.Certificate { return cert })
	node := trust.NewCertificates(ring(t, secret), "node-b")
	stranger := trust.NewCertificates(ring(t, trust.NewSecret()), "node-b")
	operator := operatorTLS(t, secret)
	withCA := x509.NewCertPool()
	ca, err := secret.CertificatePEM()
	if err != nil || !withCA.AppendCertsFromPEM(ca) {
		t.Fatal(err)
	}
	if block, rest := pem.Decode(ca); block == nil || len(rest) > 0 || strings.Contains(string(ca), "PRIVATE") {
		t.Errorf("%s", ca)
	}
	for _, c := range []struct {
		name   string
		client *tls.Config
		plain  bool // passes without a public certificate
		shown  bool // passes with one
	}{
		{"a node that means this one", node.Client("node-a"), true, true},
		{"a node that means another", node.Client("node-c"), false, false},
		{"a node of another cluster", stranger.Client("node-a"), false, false},
		{"an operator", operator, true, true},
		{"an operator of another cluster", operatorTLS(t, trust.NewSecret()), false, false},
		{"a browser", &tls.Config{RootCAs: roots, ServerName: "shop.example"}, false, true},
		{"a browser of some years ago", &tls.Config{RootCAs: roots, ServerName: "shop.example", MaxVersion: tls.VersionTLS12}, false, true},
		{"a browser that means another host", &tls.Config{RootCAs: roots, ServerName: "wiki.example"}, false, false},
		{"an application with the CA, by address", &tls.Config{RootCAs: withCA, ServerName: "10.0.0.1"}, true, false},
		{"an application with the CA, by name", &tls.Config{RootCAs: withCA, ServerName: "shop.example"}, true, false},
		{"an application with the CA, elsewhere", &tls.Config{RootCAs: withCA, ServerName: "10.0.0.2"}, false, false},
	} {
		if err := handshake(t, plain, c.client); (err == nil) != c.plain {
			t.Errorf("%s, no public certificate: %v", c.name, err)
		}
		if err := handshake(t, shown, c.client); (err == nil) != c.shown {
			t.Errorf("%s, with a public certificate: %v", c.name, err)
		}
	}
}

func operatorTLS(t *testing.T, secrets ...trust.Secret) *tls.Config {
	t.Helper()
	conf, err := trust.OperatorTLS(secrets)
	if err != nil {
		t.Fatal(err)
	}
	conf = conf.Clone()
	conf.ServerName = "127.0.0.1" // whatever was dialled
	return conf
}

func TestAClientCertificateIsVerifiedIfGiven(t *testing.T) {
	secret := trust.NewSecret()
	server := trust.NewCertificates(ring(t, secret), "node-a").HTTPS(none)
	foreign, _ := public(t, "node-b")
	for name, c := range map[string]struct {
		give func(*tls.Config)
		ok   bool
	}{
		"none":    {func(c *tls.Config) { c.GetClientCertificate = nil }, true},
		"its own": {func(*tls.Config) {}, true},
		"another authority's": {func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return foreign, nil }
		}, false},
	} {
		client := trust.NewCertificates(ring(t, secret), "node-b").Client("node-a")
		c.give(client)
		if err := handshake(t, server, client); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
