package trust

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"muster"
)

// Vault seals what the cluster keeps but must not show: the credentials that
// external nodes are called with. It tells the secrets in use, as Ring.Secrets
// does: the first seals, all open.
type Vault func() []Secret

// What is sealed is the version, the ID of the key, the nonce and the text
// (AES-256-GCM, NIST SP 800-38D). Whose it is, is authenticated with it, so that
// a sealed text cannot be moved to another owner.
const (
	vaultVersion = 1
	vaultKeyID   = 8
	vaultHead    = 1 + vaultKeyID
)

// NewCredential draws a credential for calls to an application.
func NewCredential() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails: it ends the program instead
	return "mc_" + hex.EncodeToString(raw)
}

// vaultHeader names the key that a secret seals with, and says nothing of it.
func (s Secret) vaultHeader() []byte {
	return append([]byte{vaultVersion}, s.derive("credentials id", vaultKeyID)...)
}

func (s Secret) vaultCipher() (cipher.AEAD, error) {
	block, err := aes.NewCipher(s.derive("credentials", 32))
	if err != nil {
		return nil, fmt.Errorf("cipher of credentials: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Seal seals an owner's text.
func (v Vault) Seal(owner, text string) ([]byte, error) {
	first := v()[0]
	box, err := first.vaultCipher()
	if err != nil {
		return nil, err
	}
	return box.Seal(first.vaultHeader(), nil, []byte(text), []byte(owner)), nil
}

// Open returns an owner's text. It is Unavailable when this node has not, or not
// any more, the secret that sealed it.
func (v Vault) Open(owner string, sealed []byte) (string, error) {
	for _, s := range v() {
		if len(sealed) < vaultHead || !bytes.Equal(sealed[:vaultHead], s.vaultHeader()) {
			continue
		}
		box, err := s.vaultCipher()
		if err != nil {
			return "", err
		}
		text, err := box.Open(nil, nil, sealed[vaultHead:], []byte(owner))
		if err != nil {
			return "", muster.Errorf(muster.Internal, "credential of node %s: %w", owner, err)
		}
		return string(text), nil
	}
	return "", muster.Errorf(muster.Unavailable, "the credential of node %s was sealed with a secret that is not in use here", owner).
		WithCode("credential_sealed").WithHint("put that secret back as a second line of the secret file, or remove the node and register it again")
}

// Fresh reports whether the present secret sealed a text.
func (v Vault) Fresh(sealed []byte) bool {
	return len(sealed) >= vaultHead && bytes.Equal(sealed[:vaultHead], v()[0].vaultHeader())
}
