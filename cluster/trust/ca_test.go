package trust_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/cluster/trust"
)

func authority(t *testing.T, secrets ...trust.Secret) *trust.Authority {
	t.Helper()
	ca, err := trust.NewAuthority(secrets)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func ring(t *testing.T, secrets ...trust.Secret) *trust.Ring {
	t.Helper()
	r, err := trust.NewRing(secrets)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// serverTLS is what a node's raft port goes by at this moment.
func serverTLS(t *testing.T, id string, secrets ...trust.Secret) *tls.Config {
	t.Helper()
	server, err := trust.NewCertificates(ring(t, secrets...), id).Mutual().GetConfigForClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	return server
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
	roots := serverTLS(t, "node-c", secret).ClientCAs
	strange := serverTLS(t, "node-c", trust.NewSecret()).ClientCAs
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

func TestAHostThatIsNoNameIsLeftOutOfALeaf(t *testing.T) {
	odd := []string{"", "bücher.example", "a..b", "-a", "a_b", "x y", "*.example", strings.Repeat("a", 64), "shop.example", "::1", "10.0.0.1"}
	pair, err := authority(t, trust.NewSecret()).Leaf("node-a", time.Now(), odd...)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil || !slices.Equal(cert.DNSNames, []string{"node-a", "shop.example"}) || len(cert.IPAddresses) != 2 {
		t.Errorf("%v %v %v", cert.DNSNames, cert.IPAddresses, err)
	}
}

func TestNodesMeetWhileTheSecretIsBeingChanged(t *testing.T) {
	old, fresh := trust.NewSecret(), trust.NewSecret()
	files := map[string][]trust.Secret{
		"old alone": {old}, "old speaks": {old, fresh}, "fresh speaks": {fresh, old}, "fresh alone": {fresh},
	}
	for a, ours := range files {
		for b, theirs := range files {
			server := serverTLS(t, "node-a", ours...)
			dial := trust.NewCertificates(ring(t, theirs...), "node-b").Client
			want := slices.Contains(ours, theirs[0]) && slices.Contains(theirs, ours[0])
			if err := handshake(t, server, dial("node-a")); (err == nil) != want {
				t.Errorf("%s to %s: %v", b, a, err)
			}
		}
	}
}

func TestEachSecretsAuthorityHasItsOwnSteadyName(t *testing.T) {
	one, two := trust.NewSecret(), trust.NewSecret()
	first, again := leaf(t, authority(t, one), "node-a", time.Now()), leaf(t, authority(t, one), "node-a", time.Now())
	other := leaf(t, authority(t, two, one), "node-a", time.Now())
	if first.Issuer.String() != again.Issuer.String() || !bytes.Equal(first.AuthorityKeyId, again.AuthorityKeyId) {
		t.Error("an authority changes its name")
	}
	if first.Issuer.String() == other.Issuer.String() || bytes.Equal(first.AuthorityKeyId, other.AuthorityKeyId) {
		t.Error("two authorities share a name")
	}
	if _, err := trust.NewAuthority(nil); err == nil {
		t.Error("an authority without a secret")
	}
}

func TestAClientWithoutCertificateOrWithAnOldProtocolIsRefused(t *testing.T) {
	secret := trust.NewSecret()
	for name, spoil := range map[string]func(*tls.Config){
		"no certificate": func(c *tls.Config) { c.GetClientCertificate = nil },
		"TLS 1.2":        func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
	} {
		server, dial := tlsOf(t, secret, "node-a")
		client := dial("node-a")
		spoil(client)
		if handshake(t, server, client) == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestARunningNodeRenewsItsCertificateAfterTenDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := serverTLS(t, "node-a", trust.NewSecret())
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
