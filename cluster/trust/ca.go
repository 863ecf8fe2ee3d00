package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"strconv"
	"sync"
	"time"
)

const (
	leafLife  = 30 * 24 * time.Hour
	leafRenew = 10 * 24 * time.Hour // age at which a running node issues itself a new one
	leafSlack = 48 * time.Hour      // clocks may differ by this much
)

// Authority is the cluster's certificate authority. Every holder of the secret
// derives the same key, so nobody has to hand out certificates.
type Authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

// CA derives the authority: a P-256 scalar by rejection sampling from HKDF,
// under a fixed name and validity.
func (s Secret) CA() (*Authority, error) {
	var key *ecdsa.PrivateKey
	var err error
	for try := range 128 {
		key, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), s.derive("ca "+strconv.Itoa(try), 32))
		if err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("derive CA key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "muster cluster"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read CA certificate: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &Authority{key: key, cert: cert, pool: pool}, nil
}

// Leaf issues a certificate for a node, for both ends of a connection. Its SAN
// is the node ID; it counts from 48 hours before now until 30 days after it, and
// lives in memory only.
func (a *Authority) Leaf(nodeID string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make node key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("draw serial: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: nodeID}, DNSNames: []string{nodeID},
		NotBefore: now.Add(-leafSlack), NotAfter: now.Add(leafLife), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// issuer hands out a node's certificate and renews it while the node runs.
type issuer struct {
	authority *Authority
	nodeID    string

	mu   sync.Mutex
	cert *tls.Certificate // guarded by mu
	at   time.Time        // guarded by mu; wall clock, which goes on while a machine sleeps
}

func (i *issuer) current() (*tls.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now().Round(0)
	if age := now.Sub(i.at); i.cert != nil && age > -leafSlack && age < leafRenew {
		return i.cert, nil
	}
	cert, err := i.authority.Leaf(i.nodeID, now)
	if err == nil {
		i.cert, i.at = cert, now
	}
	return cert, err
}

func (i *issuer) server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: i.authority.pool,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return i.current() },
	}
}

func (i *issuer) client(peerID string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: i.authority.pool, ServerName: peerID,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return i.current() },
	}
}

// ServerTLS is what a node needs to accept others of its cluster: TLS 1.3, and
// a client certificate of this authority.
func (a *Authority) ServerTLS(nodeID string) *tls.Config {
	return (&issuer{authority: a, nodeID: nodeID}).server()
}

// ClientTLS is what a node needs to dial others of its cluster: the one that
// answers must carry the peer ID that was meant.
func (a *Authority) ClientTLS(nodeID string) func(peerID string) *tls.Config {
	return (&issuer{authority: a, nodeID: nodeID}).client
}

// MutualTLS is ServerTLS and ClientTLS over one and the same certificate.
func (a *Authority) MutualTLS(nodeID string) (server *tls.Config, client func(peerID string) *tls.Config) {
	own := &issuer{authority: a, nodeID: nodeID}
	return own.server(), own.client
}
