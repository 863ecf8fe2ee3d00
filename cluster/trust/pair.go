package trust

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"slices"
	"sync"

	"filippo.io/edwards25519"
	"github.com/golang-jwt/jwt/v5"
)

// Pairs are the keys that a node shares with each other node: only those two can
// work them out, and no word has to pass between them for it. A MAC under one
// costs a fiftieth of a signature.
//
// A key is HKDF-SHA256 of X25519 (RFC 7748) between the two node keys, taken to
// that curve by the map of its section 4.1. Calls in one direction have another
// key than those in the other.
type Pairs struct {
	id Identity
	of func(nodeID string) (ed25519.PublicKey, bool)

	mu   sync.RWMutex
	keys map[direction][]byte // guarded by mu
}

// direction is from whom to whom: the public keys of two nodes.
type direction struct {
	from, to [ed25519.PublicKeySize]byte
}

// maxPairs bounds what is kept; a cluster has at most 64 agents at a time.
const maxPairs = 1024

// NewPairs makes the pairs of a node. of gives the keys of registered nodes.
func NewPairs(id Identity, of func(nodeID string) (ed25519.PublicKey, bool)) *Pairs {
	return &Pairs{id: id, of: of, keys: map[direction][]byte{}}
}

// Sign signs a call as this node: with the key of the pair (HS256) if the one that
// is called is registered here, else as Identity.Sign does.
func (p *Pairs) Sign(c Call) (string, error) {
	if public, known := p.of(c.Audience); known {
		if key, err := p.key(p.id.PublicKey(), public); err == nil {
			return sign(c, p.id.ID, jwt.SigningMethodHS256, key)
		}
	}
	return p.id.Sign(c)
}

// from is the key under which the holder of a public key signs calls to this node.
func (p *Pairs) from(public ed25519.PublicKey) ([]byte, error) {
	return p.key(public, p.id.PublicKey())
}

// key is the one of a direction, of which one end is this node.
func (p *Pairs) key(from, to ed25519.PublicKey) ([]byte, error) {
	if len(from) != ed25519.PublicKeySize || len(to) != ed25519.PublicKeySize {
		return nil, errors.New("not an Ed25519 public key")
	}
	d := direction{[ed25519.PublicKeySize]byte(from), [ed25519.PublicKeySize]byte(to)}
	p.mu.RLock()
	key := p.keys[d]
	p.mu.RUnlock()
	if key != nil {
		return key, nil
	}
	other := from
	if from.Equal(p.id.PublicKey()) {
		other = to
	}
	shared, err := p.id.agree(other)
	if err != nil {
		return nil, err
	}
	key, err = hkdf.Key(sha256.New, shared, slices.Concat(from, to), "muster call v1", sha256.Size)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.keys) >= maxPairs {
		clear(p.keys)
	}
	p.keys[d] = key
	return key, nil
}

// agree is the X25519 secret of this node's key and another's. It fails for a
// public key that is no point, or one of small order.
func (i Identity) agree(public ed25519.PublicKey) ([]byte, error) {
	point, err := new(edwards25519.Point).SetBytes(public)
	if err != nil {
		return nil, err
	}
	theirs, err := ecdh.X25519().NewPublicKey(point.BytesMontgomery())
	if err != nil {
		return nil, err
	}
	digest := sha512.Sum512(i.key.Seed()) // the scalar of RFC 8032, 5.1.5; X25519 clamps it the same way
	ours, err := ecdh.X25519().NewPrivateKey(digest[:32])
	if err != nil {
		return nil, err
	}
	return ours.ECDH(theirs)
}
