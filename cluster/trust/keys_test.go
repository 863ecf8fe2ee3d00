package trust_test

import (
	"crypto/sha256"
	"strings"
	"testing"

	"muster/cluster/trust"
)

func TestAKeyOfAnyOtherShapeIsNoKey(t *testing.T) {
	id, plain, hash := trust.NewKey()
	secret := strings.TrimPrefix(plain, "mk_"+id+"_")
	if len(id) != 12 || len(secret) != 64 || hash != sha256.Sum256([]byte(secret)) {
		t.Fatalf("%s %s", id, secret)
	}
	for _, bad := range []string{
		"", "mk", "mk_" + id, "mk__" + secret, "mk_" + id + "_", "mk_" + id + "_" + secret + "_", "mk_" + id + "__" + secret[1:],
		"MK_" + id + "_" + secret, "mk_" + id + "_" + strings.Repeat("G", 64), "mk_" + id[:11] + "\n_" + secret, " " + plain, plain + "\n",
	} {
		if _, _, ok := trust.ParseKey(bad); ok {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestOnlyEqualHashesAreTheSame(t *testing.T) {
	a := sha256.Sum256([]byte("a"))
	b := a
	b[31] ^= 1
	if !trust.SameHash(a, a) || trust.SameHash(a, b) {
		t.Error("compared wrongly")
	}
}
