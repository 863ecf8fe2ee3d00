package trust

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync"
	"time"
)

// leafRenew is the age at which a running node issues itself a new certificate.
const leafRenew = 10 * 24 * time.Hour

// alpn is what nodes and operators offer (RFC 7301): they want the cluster's
// certificate, whichever one a server shows to others.
const alpn = "muster"

// Certificates are one node's, for all its connections. They follow the ring and
// are renewed while the node runs.
type Certificates struct {
	ring   *Ring
	nodeID string
	hosts  []string

	mu   sync.Mutex
	cert *tls.Certificate // guarded by mu
	by   *Authority       // guarded by mu; who issued it
	at   time.Time        // guarded by mu; wall clock, which goes on while a machine sleeps
}

// NewCertificates makes the certificates of the node with an ID, which others
// find under hosts.
func NewCertificates(ring *Ring, nodeID string, hosts ...string) *Certificates {
	return &Certificates{ring: ring, nodeID: nodeID, hosts: hosts}
}

func (c *Certificates) current() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, authority := time.Now().Round(0), c.ring.authority()
	if age := now.Sub(c.at); c.by == authority && age > -leafSlack && age < leafRenew {
		return c.cert, nil
	}
	cert, err := authority.Leaf(c.nodeID, now, c.hosts...)
	if err == nil {
		c.cert, c.by, c.at = cert, authority, now
	}
	return cert, err
}

// Mutual accepts nodes of the cluster and nobody else: TLS 1.3, and a client
// certificate of its authority.
func (c *Certificates) Mutual() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{
			MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: c.ring.authority().pool,
			SessionTicketsDisabled: true, GetCertificate: c.get,
		}, nil
	}}
}

func (c *Certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current() }

// HTTPS accepts everybody. Nodes and operators, who say so by ALPN, get the
// cluster's certificate; others get the public one, if there is any. A client
// certificate is not needed; one that is given to the cluster's certificate must
// be of its authority.
func (c *Certificates) HTTPS(public func() *tls.Certificate) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if cert := public(); cert != nil && !slices.Contains(hello.SupportedProtos, alpn) {
			return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*cert}}, nil
		}
		return &tls.Config{
			MinVersion: tls.VersionTLS12, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: c.ring.authority().pool,
			GetCertificate: c.get,
		}, nil
	}}
}

// Client dials the node with an ID: what answers must prove to be that one.
func (c *Certificates) Client(peerID string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: c.ring.authority().pool, ServerName: peerID, NextProtos: []string{alpn},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.current() },
	}
}

// OperatorTLS dials nodes for whoever holds the secret. What answers must be a
// node of the cluster, whichever, under whatever address; or have a certificate
// for that address which this machine trusts anyway.
func OperatorTLS(secrets []Secret) (*tls.Config, error) {
	authority, err := NewAuthority(secrets)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{alpn, "http/1.1"},
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection:   func(s tls.ConnectionState) error { return authority.verify(s) },
	}, nil
}

// verify checks a server as OperatorTLS says.
func (a *Authority) verify(s tls.ConnectionState) error {
	leaf, between := s.PeerCertificates[0], x509.NewCertPool()
	for _, cert := range s.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: a.pool}); err == nil {
		return nil
	}
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: s.ServerName, Intermediates: between})
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
	}
	return nil
}
