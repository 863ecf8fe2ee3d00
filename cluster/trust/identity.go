package trust

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"muster"

	"github.com/google/uuid"
)

// Identity is who a node is: its ID and the key that proves it. Both live in
// the data directory and never change.
type Identity struct {
	ID  string
	key ed25519.PrivateKey
}

// PublicKey is the key's public half, 32 bytes.
func (i Identity) PublicKey() ed25519.PublicKey {
	public, _ := i.key.Public().(ed25519.PublicKey)
	return public
}

// ProveJoin signs that this node's key belongs to its ID, for one cluster and
// one call (jti, see Call.ID).
func (i Identity) ProveJoin(clusterID, jti string) []byte {
	return ed25519.Sign(i.key, joinText(clusterID, i.ID, jti))
}

// CheckJoin checks what ProveJoin signed. Its error is of kind Unauthorized.
func CheckJoin(public ed25519.PublicKey, clusterID, nodeID, jti string, sig []byte) error {
	if len(public) != ed25519.PublicKeySize || !ed25519.Verify(public, joinText(clusterID, nodeID, jti), sig) {
		return muster.Errorf(muster.Unauthorized, "the joining node does not hold the key that it shows")
	}
	return nil
}

// joinText quotes its parts, so that no two triples have the same text.
func joinText(clusterID, nodeID, jti string) []byte {
	return fmt.Appendf(nil, "muster join v1 %q %q %q", clusterID, nodeID, jti)
}

// LoadOrCreateIdentity reads the identity in a data directory, or makes one.
// It lives in one file, so that there is never half of it.
func LoadOrCreateIdentity(dir string) (Identity, error) {
	path := filepath.Join(dir, "identity")
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return createIdentity(path)
	case err != nil:
		return Identity{}, muster.Errorf(muster.Unavailable, "read identity: %w", err).
			WithHint("make the data directory readable for this user, or choose another with --data-dir")
	}
	id, digits, _ := strings.Cut(strings.TrimSpace(string(raw)), "\n")
	seed, err := hex.DecodeString(digits)
	if _, bad := uuid.Parse(id); bad != nil || err != nil || len(seed) != ed25519.SeedSize {
		return Identity{}, muster.Errorf(muster.Unavailable, "the identity in %s is damaged", path).
			WithHint("restore the file; or move the whole data directory away, and the node joins as a new one")
	}
	return Identity{ID: id, key: ed25519.NewKeyFromSeed(seed)}, nil
}

func createIdentity(path string) (Identity, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Identity{}, fmt.Errorf("make node ID: %w", err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("make node key: %w", err)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".identity-*") // made 0600
	if err != nil {
		return Identity{}, fmt.Errorf("write identity: %w", err)
	}
	_, err = temp.WriteString(id.String() + "\n" + hex.EncodeToString(key.Seed()) + "\n")
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("write identity: %w", errors.Join(err, os.Remove(temp.Name())))
	}
	return Identity{ID: id.String(), key: key}, nil
}
