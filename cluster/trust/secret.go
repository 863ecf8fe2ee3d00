// Package trust holds the cluster secret and all that is derived from it,
// certificates, node keys, bearer keys and signed calls. It never opens a
// socket and knows no registry: whose key is whose, it is told.
package trust

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"muster"
)

// Secret is the one secret that admits: 32 random bytes.
type Secret [32]byte

// NewSecret draws a secret.
func NewSecret() Secret {
	var s Secret
	_, _ = rand.Read(s[:]) // never fails: it ends the program instead
	return s
}

// Hex is the secret as its file holds it, 64 digits.
func (s Secret) Hex() string { return hex.EncodeToString(s[:]) }

// String hides the secret from logs.
func (s Secret) String() string { return "(secret)" }

// GoString hides it from %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue hides it from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// derive makes a key for one purpose (HKDF-SHA256, RFC 5869).
func (s Secret) derive(purpose string, size int) []byte {
	key, err := hkdf.Key(sha256.New, s[:], nil, "muster "+purpose+" v1", size)
	if err != nil {
		panic(err) // only for sizes over 255 hashes
	}
	return key
}

// GossipKey is the key of gossip's encryption, 32 bytes.
func (s Secret) GossipKey() []byte { return s.derive("gossip", 32) }

// OperatorKey is the HMAC key, 32 bytes, that signs calls of whoever holds the
// secret.
func (s Secret) OperatorKey() []byte { return s.derive("operator", 32) }

// ParseSecrets reads a secret file's text: one secret a line, the first
// speaks, all are understood. Lines that begin with # are remarks.
func ParseSecrets(text string) ([]Secret, error) {
	var out []Secret
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		raw, err := hex.DecodeString(line)
		if err != nil || len(raw) != len(Secret{}) {
			return nil, muster.Errorf(muster.Invalid, "secret: line %d is not 64 hex digits", i+1).
				WithHint("make one with: muster secret new")
		}
		if s := Secret(raw); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, muster.Errorf(muster.Invalid, "secret: is empty").WithHint("make one with: muster secret new")
	}
	return out, nil
}

// LoadSecrets reads a secret file. One that others can read is refused.
func LoadSecrets(path string) ([]Secret, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, muster.Errorf(muster.Invalid, "secret file: %w", err).WithHint("make one with: muster secret new > " + path)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, muster.Errorf(muster.Invalid, "secret file: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, muster.Errorf(muster.Invalid, "secret file %s can be read by others", path).WithHint("chmod 600 " + path)
	}
	raw, err := io.ReadAll(file)
	if err != nil {
		return nil, muster.Errorf(muster.Invalid, "secret file: %w", err)
	}
	return ParseSecrets(string(raw))
}

// DefaultSecretPath is where the agents of one person on one machine share a
// secret without any set-up.
func DefaultSecretPath(getenv func(string) string) string {
	if home := getenv("MUSTER_HOME"); home != "" {
		return filepath.Join(home, "secret")
	}
	state := getenv("XDG_STATE_HOME")
	if state == "" {
		state = filepath.Join(getenv("HOME"), ".local", "state")
	}
	return filepath.Join(state, "muster", "secret")
}

// EnsureSecretFile reads a secret file and makes it first if it is missing.
// Of several processes that start at once, all get the same one.
func EnsureSecretFile(path string) ([]Secret, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fmt.Errorf("make directory of secret: %w", err)
		}
		temp, err := os.CreateTemp(filepath.Dir(path), ".secret-*") // made 0600
		if err != nil {
			return nil, fmt.Errorf("make secret file: %w", err)
		}
		_, err = temp.WriteString(NewSecret().Hex() + "\n")
		err = errors.Join(err, temp.Sync(), temp.Close())
		if err == nil {
			err = os.Link(temp.Name(), path) // fails if another was faster
		}
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
		if err = errors.Join(err, os.Remove(temp.Name())); err != nil {
			return nil, fmt.Errorf("make secret file: %w", err)
		}
	}
	return LoadSecrets(path)
}
