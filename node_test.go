package muster_test

import (
	"strings"
	"testing"

	"muster"
)

func TestACapabilityIsLowerCaseWordsJoinedByDashes(t *testing.T) {
	for word, want := range map[muster.Capability]bool{
		"a": true, "search": true, "a-b-2": true, "0": true, muster.Capability(strings.Repeat("a", 63)): true,
		"": false, "-": false, "-a": false, "a-": false, "a--b": false, "A": false, "ä": false, "a b": false, "a_b": false,
		muster.Capability(strings.Repeat("a", 64)): false,
	} {
		if word.Valid() != want {
			t.Errorf("%q: %v", word, !want)
		}
	}
}
