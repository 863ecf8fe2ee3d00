package gossip

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"
)

// Facts are what a node tells all others with its gossip. They ride in
// memberlist's metadata, which holds 512 bytes; ours are about 135, and 506 with
// the longest name and addresses.
type Facts struct {
	Name       string // cut to 63 bytes
	ClusterID  string // UUID, or empty
	Raft       string // host:port, at most 160 bytes
	HTTP       string // host:port, at most 160 bytes
	Started    int64  // when the process started, in microseconds since 1970; 0: Pool.Start sets it
	Stateless  bool
	Restarting bool // set while stopping: the node will be back
	Leaving    bool // set while stopping: the node leaves for good
	Expect     int
	Promise    string // UUID, or empty
	IndexID    string // UUID of its index, or empty
	Generation uint64
	Documents  uint64
	TLS        bool      // HTTP is HTTPS
	Secrets    [2]uint32 // fingerprints of the secrets this node goes by: the one that speaks, and one more; 0: none
}

// The encoding: a version byte, a flag byte, Expect as a byte, Generation,
// Documents and Started as uvarints, the three UUIDs as 16 bytes each, then Name,
// Raft and HTTP, each with a length byte, then Secrets as 4 bytes each. What
// follows is of a later version and is not read; a version that cannot be read so
// has another version byte.
const (
	factsVersion = 3
	maxName      = 63
	maxAddr      = 160
	uuidBytes    = 16
	secretsBytes = 8
	maxPad       = 31 // bytes that say nothing: see padded
	maxFacts     = 3 + 3*binary.MaxVarintLen64 + 3*uuidBytes + 3 + maxName + 2*maxAddr + secretsBytes

	flagStateless  = 1
	flagRestarting = 2
	flagLeaving    = 4
	flagTLS        = 8
)

var (
	errFacts = errors.New("gossip metadata is not understood")

	_ [memberlist.MetaMaxSize - maxFacts - maxPad]struct{} // it fits
)

func (f Facts) encode() []byte {
	flags := byte(0)
	if f.Stateless {
		flags |= flagStateless
	}
	if f.Restarting {
		flags |= flagRestarting
	}
	if f.Leaving {
		flags |= flagLeaving
	}
	if f.TLS {
		flags |= flagTLS
	}
	b := []byte{factsVersion, flags, byte(min(max(f.Expect, 0), 255))}
	b = binary.AppendUvarint(b, f.Generation)
	b = binary.AppendUvarint(b, f.Documents)
	b = binary.AppendUvarint(b, uint64(max(f.Started, 0)))
	b = append(b, packUUID(f.ClusterID)...)
	b = append(b, packUUID(f.Promise)...)
	b = append(b, packUUID(f.IndexID)...)
	name := f.Name
	for len(name) > maxName || !utf8.ValidString(name) {
		name = name[:len(name)-1]
	}
	for _, s := range []string{name, cut(f.Raft, maxAddr), cut(f.HTTP, maxAddr)} {
		b = append(b, byte(len(s))) //nolint:gosec // at most 160
		b = append(b, s...)
	}
	b = binary.BigEndian.AppendUint32(b, f.Secrets[0])
	return binary.BigEndian.AppendUint32(b, f.Secrets[1])
}

// padded is encode with a random number of bytes behind it, which nobody reads.
// memberlist's queue takes two messages for one if they are as long, as often sent
// and of the same number, and it numbers anew whenever it was empty for a moment:
// of several nodes that tell something of one length in the same rhythm, one would
// be heard by nobody, again and again.
func (f Facts) padded() []byte { return append(f.encode(), make([]byte, rand.N(maxPad+1))...) }

// check refuses addresses that are too long to be told, naming the flag.
func (f Facts) check() error {
	for _, a := range []struct{ flag, addr string }{{"advertise-raft", f.Raft}, {"advertise-http", f.HTTP}} {
		if len(a.addr) > maxAddr {
			return flagError(a.flag, fmt.Sprintf("%d bytes are too long for an address, at most %d can be told to other nodes", len(a.addr), maxAddr), nil)
		}
	}
	return nil
}

// cut drops an address that is too long rather than send half of it. check has
// refused it before.
func cut(s string, limit int) string {
	if len(s) > limit {
		return ""
	}
	return s
}

func decodeFacts(b []byte) (f Facts, err error) {
	if len(b) < 3 || b[0] != factsVersion {
		return f, errFacts
	}
	f.Stateless, f.Restarting = b[1]&flagStateless != 0, b[1]&flagRestarting != 0
	f.Leaving, f.TLS, f.Expect = b[1]&flagLeaving != 0, b[1]&flagTLS != 0, int(b[2])
	b = b[3:]
	var started uint64
	for _, n := range []*uint64{&f.Generation, &f.Documents, &started} {
		v, size := binary.Uvarint(b)
		if size <= 0 {
			return f, errFacts
		}
		*n, b = v, b[size:]
	}
	if f.Started = int64(started & math.MaxInt64); len(b) < 3*uuidBytes { //nolint:gosec // it fits
		return f, errFacts
	}
	for _, id := range []*string{&f.ClusterID, &f.Promise, &f.IndexID} {
		*id, b = unpackUUID(b[:uuidBytes]), b[uuidBytes:]
	}
	for _, s := range []*string{&f.Name, &f.Raft, &f.HTTP} {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return f, errFacts
		}
		end := 1 + int(b[0]) // as a byte it would be 0 after 255
		*s, b = string(b[1:end]), b[end:]
	}
	if !utf8.ValidString(f.Name) || len(b) < secretsBytes {
		return f, errFacts
	}
	f.Secrets = [2]uint32{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
	return f, nil
}

// packUUID gives a UUID's 16 bytes; what is none becomes zeros, as empty does.
func packUUID(text string) []byte {
	raw, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(raw) != uuidBytes {
		return make([]byte, uuidBytes)
	}
	return raw
}

func unpackUUID(raw []byte) string {
	if bytes.Equal(raw, make([]byte, uuidBytes)) {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:])
}
