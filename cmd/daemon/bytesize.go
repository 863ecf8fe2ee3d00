package daemon

import (
	"math/bits"
	"strconv"
	"strings"

	"muster"
)

// ByteSize is a number of bytes, written as a whole number and a unit: B, KiB,
// MiB, GiB, or none for bytes.
type ByteSize uint64

// UnmarshalText reads a size. Its error is of kind Invalid.
func (s *ByteSize) UnmarshalText(text []byte) error {
	bad := muster.Errorf(muster.Invalid, "%q is not a size like 64MiB", text)
	number := strings.TrimRight(string(text), "BKMGi")
	units := map[string]uint64{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
	unit, known := units[string(text)[len(number):]]
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 64)
	if err != nil || !known {
		return bad
	}
	over, n := bits.Mul64(n, unit)
	if over > 0 {
		return bad
	}
	*s = ByteSize(n)
	return nil
}
