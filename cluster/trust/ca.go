package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"regexp"
	"strconv"
	"time"
)

const (
	leafLife  = 30 * 24 * time.Hour
	leafSlack = 48 * time.Hour // clocks may differ by this much
)

// Authority is the cluster's certificate authority. Every holder of the secret
// derives the same key, so nobody has to hand out certificates.
type Authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

// NewAuthority derives the authority of a secret file: the first secret issues,
// and what any of them issued holds, so that nodes meet while the secret is
// being changed.
func NewAuthority(secrets []Secret) (*Authority, error) {
	if len(secrets) == 0 {
		return nil, errors.New("derive CA: no secret")
	}
	a := &Authority{pool: x509.NewCertPool()}
	for _, s := range secrets {
		key, cert, err := s.ca()
		if err != nil {
			return nil, err
		}
		a.pool.AddCert(cert)
		if a.key == nil {
			a.key, a.cert = key, cert
		}
	}
	return a, nil
}

// ca derives one secret's CA: a P-256 scalar by rejection sampling from HKDF.
// Its name and key ID follow from the key, so that of several CAs a verifier
// tries the right one.
func (s Secret) ca() (*ecdsa.PrivateKey, *x509.Certificate, error) {
	key, err := s.caKey()
	if err != nil {
		return nil, nil, fmt.Errorf("derive CA key: %w", err)
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, nil, fmt.Errorf("derive CA name: %w", err)
	}
	sum := sha256.Sum256(public)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "muster cluster " + hex.EncodeToString(sum[:8])},
		SubjectKeyId: sum[:20], NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("make CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("read CA certificate: %w", err)
	}
	return key, cert, nil
}

func (s Secret) caKey() (key *ecdsa.PrivateKey, err error) {
	for try := range 128 {
		key, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), s.derive("ca "+strconv.Itoa(try), 32))
		if err == nil {
			break
		}
	}
	return key, err
}

// Leaf issues a certificate for a node, for both ends of a connection. Its SANs
// are the node ID, by which nodes verify each other, and the host names and
// addresses by which others find it; it counts from 48 hours before now until 30
// days after it, and lives in memory only.
func (a *Authority) Leaf(nodeID string, now time.Time, hosts ...string) (*tls.Certificate, error) {
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
	addHosts(template, hosts)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// addHosts puts hosts into a certificate. A name that is none by RFC 1123 is left
// out: no peer would read a certificate that holds it.
func addHosts(template *x509.Certificate, hosts []string) {
	name := regexp.MustCompile(`^([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)*[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if len(host) <= 253 && name.MatchString(host) {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
}
