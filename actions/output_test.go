package actions //nolint:testpackage // what is written in one piece cannot be told from outside

import (
	"slices"
	"strings"
	"testing"
)

func TestSecretThatACutGoesThroughIsHidden(t *testing.T) {
	secret := strings.Repeat("canary", 100)
	filler := strings.Repeat("0", 900)
	printed := filler + secret + strings.Repeat("1", 20_000) + secret + strings.Repeat("2", lastBytes-300)
	for _, size := range []int{1, 7, 1000, lastBytes, len(printed)} {
		c := newCapture(1<<10, redactor{secret})
		for piece := range slices.Chunk([]byte(printed), size) {
			if n, err := c.Write(piece); n != len(piece) || err != nil {
				t.Fatal(n, err)
			}
		}
		if strings.Contains(c.text(), "canary") || strings.Contains(c.last(), "canary") || !c.cut() {
			t.Errorf("in pieces of %d:\n%s\n%s", size, c.text(), c.last())
		}
		if !strings.HasPrefix(c.text(), "000") || !strings.HasSuffix(c.last(), "222") {
			t.Errorf("in pieces of %d: beginning or end is missing", size)
		}
	}
}
