package trust

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"
)

// Bearer keys are mk_<id>_<secret>: 12 and 64 hex digits. Only the ID and the
// SHA-256 of the secret are ever stored.
const (
	keyIDDigits     = 12
	keySecretDigits = 64
)

// NewKey draws a bearer key.
func NewKey() (id, plain string, hash [32]byte) {
	raw := make([]byte, (keyIDDigits+keySecretDigits)/2)
	_, _ = rand.Read(raw) // never fails: it ends the program instead
	digits := hex.EncodeToString(raw)
	id, secret := digits[:keyIDDigits], digits[keyIDDigits:]
	return id, "mk_" + id + "_" + secret, sha256.Sum256([]byte(secret))
}

// RenewKey draws another secret for a bearer key.
func RenewKey(id string) (plain string, hash [32]byte) {
	raw := make([]byte, keySecretDigits/2)
	_, _ = rand.Read(raw)
	secret := hex.EncodeToString(raw)
	return "mk_" + id + "_" + secret, sha256.Sum256([]byte(secret))
}

// ParseKey takes a bearer key apart; ok is false for what cannot be one.
func ParseKey(plain string) (id string, hash [32]byte, ok bool) {
	rest, found := strings.CutPrefix(plain, "mk_")
	id, secret, split := strings.Cut(rest, "_")
	if !found || !split || !digits(id, keyIDDigits) || !digits(secret, keySecretDigits) {
		return "", hash, false
	}
	return id, sha256.Sum256([]byte(secret)), true
}

// digits reports whether s is size lower hex digits.
func digits(s string, size int) bool {
	return len(s) == size && strings.Trim(s, "0123456789abcdef") == ""
}

// SameHash compares two hashes in constant time.
func SameHash(a, b [32]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }
