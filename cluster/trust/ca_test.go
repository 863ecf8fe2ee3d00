package trust_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"testing/synctest"
	"time"

	"muster/cluster/trust"
)

func authority(t *testing.T, s trust.Secret) *trust.Authority {
	t.Helper()
	ca, err := s.CA()
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func leaf(t *testing.T, ca *trust.Authority, id string, now time.Time) *x509.Certificate {
	t.Helper()
	pair, err := ca.Leaf(id, now)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestALeafOfOneDerivedAuthorityHoldsForAnother(t *testing.T) {
	secret, now := trust.NewSecret(), time.Now()
	cert := leaf(t, authority(t, secret), "node-a", now)
	other := leaf(t, authority(t, secret), "node-b", now)
	if len(cert.AuthorityKeyId) == 0 || !bytes.Equal(cert.AuthorityKeyId, other.AuthorityKeyId) {
		t.Error("derived authorities have different key IDs")
	}
	roots := authority(t, secret).ServerTLS("node-c").ClientCAs
	strange := authority(t, trust.NewSecret()).ServerTLS("node-c").ClientCAs
	for _, c := range []struct {
		name  string
		roots *x509.CertPool
		id    string
		at    time.Duration
		use   x509.ExtKeyUsage
		ok    bool
	}{
		{"as server", roots, "node-a", 0, x509.ExtKeyUsageServerAuth, true},
		{"as client", roots, "node-a", 0, x509.ExtKeyUsageClientAuth, true},
		{"to a clock two days behind", roots, "node-a", -47 * time.Hour, x509.ExtKeyUsageServerAuth, true},
		{"to a clock three days behind", roots, "node-a", -72 * time.Hour, x509.ExtKeyUsageServerAuth, false},
		{"after 29 days", roots, "node-a", 29 * 24 * time.Hour, x509.ExtKeyUsageServerAuth, true},
		{"after 31 days", roots, "node-a", 31 * 24 * time.Hour, x509.ExtKeyUsageServerAuth, false},
		{"for another node", roots, "node-b", 0, x509.ExtKeyUsageServerAuth, false},
		{"under another secret", strange, "node-a", 0, x509.ExtKeyUsageServerAuth, false},
	} {
		_, err := cert.Verify(x509.VerifyOptions{
			Roots: c.roots, DNSName: c.id, CurrentTime: now.Add(c.at), KeyUsages: []x509.ExtKeyUsage{c.use},
		})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestNodesMeetOverSeparateServerAndClientConfigs(t *testing.T) {
	secret := trust.NewSecret()
	server := authority(t, secret).ServerTLS("node-a")
	if err := handshake(t, server, authority(t, secret).ClientTLS("node-b")("node-a")); err != nil {
		t.Error(err)
	}
	if handshake(t, server, authority(t, secret).ClientTLS("node-b")("node-c")) == nil {
		t.Error("another peer's certificate passes")
	}
}

func TestAClientWithoutCertificateOrWithAnOldProtocolIsRefused(t *testing.T) {
	secret := trust.NewSecret()
	for name, spoil := range map[string]func(*tls.Config){
		"no certificate": func(c *tls.Config) { c.GetClientCertificate = nil },
		"TLS 1.2":        func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
	} {
		client := authority(t, secret).ClientTLS("node-b")("node-a")
		spoil(client)
		if handshake(t, authority(t, secret).ServerTLS("node-a"), client) == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestARunningNodeRenewsItsCertificateAfterTenDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := authority(t, trust.NewSecret()).ServerTLS("node-a")
		serve := func() []byte {
			pair, err := server.GetCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			return pair.Certificate[0]
		}
		first := serve()
		<-time.After(9 * 24 * time.Hour)
		if !bytes.Equal(first, serve()) {
			t.Error("renewed after nine days")
		}
		<-time.After(2 * 24 * time.Hour)
		if bytes.Equal(first, serve()) {
			t.Error("not renewed after eleven days")
		}
	})
}
