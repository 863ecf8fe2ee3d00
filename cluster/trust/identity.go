package trust

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

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

// ProveJoin signs, with this node's own key, all that a joining node says about
// itself, made out to the node with ID audience. The CallID must be a UUIDv7:
// the proof holds from its time on for as long as a signed call does.
func (i Identity) ProveJoin(j muster.Joining, audience string) ([]byte, error) {
	text, err := joinText(j, audience)
	if err != nil {
		return nil, fmt.Errorf("prove join: %w", err)
	}
	return ed25519.Sign(i.key, text), nil
}

// CheckJoin checks at audience that the holder of the key in j proved all of it
// of late. Its error is of kind Unauthorized.
func CheckJoin(j muster.Joining, audience string, now time.Time) error {
	text, err := joinText(j, audience)
	if err != nil || len(j.PublicKey) != ed25519.PublicKeySize || !ed25519.Verify(j.PublicKey, text, j.Proof) {
		return muster.Errorf(muster.Unauthorized, "the joining node does not hold the key that it shows, or proved something else with it")
	}
	id, err := uuid.Parse(j.CallID)
	if err != nil || id.Version() != 7 {
		return muster.Errorf(muster.Unauthorized, "the joining node's proof has no time: its call ID is no UUIDv7")
	}
	at := time.Unix(id.Time().UnixTime())
	if age := now.Sub(at); age < -callLeeway || age > callLife+callLeeway {
		return muster.Errorf(muster.Unauthorized, "the joining node proved its key at %s, but it is %s here",
			at.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)).
			WithCode("clock_skew").WithHint("set both clocks, with NTP for instance")
	}
	return nil
}

// joinText is what a join proof signs: the audience, and the SHA-256 of the
// joining node's words without the proof. What is empty and what is absent are
// the same, since the wire does not keep them apart.
func joinText(j muster.Joining, audience string) ([]byte, error) {
	j.Proof = nil
	if len(j.Capabilities) == 0 {
		j.Capabilities = nil
	}
	if len(j.Metadata) == 0 {
		j.Metadata = nil
	}
	raw, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "muster join v2 %q %x", audience, sha256.Sum256(raw)), nil
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
