package trust

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"sync/atomic"

	"muster"
)

// Ring is the secrets a running node goes by, and the authority derived from
// them. They change while the node runs: whoever asks gets those of the moment.
type Ring struct{ now atomic.Pointer[held] }

type held struct {
	secrets   []Secret
	authority *Authority
}

// NewRing makes a ring of a secret file's secrets: the first speaks, all are
// understood.
func NewRing(secrets []Secret) (*Ring, error) {
	authority, err := NewAuthority(secrets)
	if err != nil {
		return nil, err
	}
	r := &Ring{}
	r.now.Store(&held{slices.Clone(secrets), authority})
	return r, nil
}

// Secrets lists the secrets of now; the first speaks.
func (r *Ring) Secrets() []Secret { return r.now.Load().secrets }

func (r *Ring) authority() *Authority { return r.now.Load().authority }

// Trusts reports whether a certificate holds by the secrets of now.
func (r *Ring) Trusts(cert *x509.Certificate) bool {
	_, err := cert.Verify(x509.VerifyOptions{Roots: r.authority().pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err == nil
}

// Set changes the secrets, and reports whether they differ from those before.
// One of those before must stay: with none of them this node would be alone at
// once. That error is of kind Invalid.
func (r *Ring) Set(secrets []Secret) (changed bool, err error) {
	before := r.Secrets()
	if slices.Equal(before, secrets) {
		return false, nil
	}
	if !slices.ContainsFunc(secrets, func(s Secret) bool { return slices.Contains(before, s) }) {
		return false, muster.Errorf(muster.Invalid, "none of the secrets in use is among the new ones").
			WithHint("keep the old secret as a second line until all nodes have the new one: muster secret rotate")
	}
	authority, err := NewAuthority(secrets)
	if err != nil {
		return false, err
	}
	r.now.Store(&held{slices.Clone(secrets), authority})
	return true, nil
}

// Fingerprint names a secret without giving it away: 32 bits of a derived key,
// never 0.
func (s Secret) Fingerprint() uint32 {
	raw := s.derive("fingerprint", 4)
	return max(1, uint32(raw[0])<<24|uint32(raw[1])<<16|uint32(raw[2])<<8|uint32(raw[3]))
}

// CertificatePEM is the certificate of the cluster's authority, for callers
// without the secret who want to verify its nodes. It is no secret.
func (s Secret) CertificatePEM() ([]byte, error) {
	_, cert, err := s.ca()
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), nil
}
