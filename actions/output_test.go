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

func TestSecretAgainAndAgainIsHiddenWhereverTheCutIs(t *testing.T) {
	secret := "canary-" + strings.Repeat("0123456789", 9) + "-tail"
	other := secret[:40] // all of it is the beginning of the first
	for _, c := range []struct{ name, printed string }{
		{"nothing else", strings.Repeat(secret, 400)},
		{"apart", strings.Repeat(secret+"\n", 400)},
		{"whole before the cut", strings.Repeat("x", 2<<10-len(secret)-10) + secret + strings.Repeat("y", 9000)},
		{"cut after another", strings.Repeat("x", 2<<10-60) + secret + strings.Repeat("y", 9000)},
	} {
		for size := 1; size < 3*len(secret); size += 7 {
			capture := newCapture(2<<10, redactor{secret, other})
			for piece := range slices.Chunk([]byte(c.printed), 4096+size) {
				_, _ = capture.Write(piece)
			}
			for _, said := range []string{capture.text(), capture.last()} {
				for i := 0; i+6 <= len(secret); i++ {
					if strings.Contains(said, secret[i:i+6]) {
						t.Fatalf("%s, pieces of %d: %q is in\n%s", c.name, 4096+size, secret[i:i+6], said)
					}
				}
			}
		}
	}
}

func TestSecretsThatOverlapAreHiddenWhole(t *testing.T) {
	r := redactor{"defghijk", "abcdefg", "xyxyxy"}
	for text, want := range map[string]string{
		"abcdefghijk": redacted, "-abcdefghijk-abcdefg": "-[redacted]-[redacted]", "xyxyxyxy.": "[redacted].", "abcdef": "abcdef",
	} {
		if got := r.text(text); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
}

func TestHiddenNamesStayDifferent(t *testing.T) {
	r := redactor{"secret-1", "secret-2"}
	got := string(r.json([]byte(`{"secret-1":1,"secret-2":{"secret-1":2},"[redacted]":3,"a":"secret-2"}`)))
	if want := `{"[redacted]":1,"[redacted] 2":{"[redacted]":2},"[redacted] 3":3,"a":"[redacted]"}`; got != want {
		t.Fatalf("%s", got)
	}
}
