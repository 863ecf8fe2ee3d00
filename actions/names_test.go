package actions //nolint:testpackage // the old expressions are held against what is inside

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestNamesAreWhatTheExpressionsSay tries all short texts of a few characters.
func TestNamesAreWhatTheExpressionsSay(t *testing.T) {
	action := regexp.MustCompile(`^[a-z][a-z0-9]*([._-][a-z0-9]+)*$`)
	field := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	version := regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z][0-9A-Za-z.+-]*)?$`)
	for _, c := range []struct {
		of   string
		good func(string) bool
		want *regexp.Regexp
		head string
	}{
		{"aZ0._-é\n", goodAction, action, ""}, {"aZ0._-é\n", goodField, field, ""}, {"0.-+aé", goodVersion, version, ""}, {"0.-+aé", goodVersion, version, "1.2.3"},
	} {
		texts := make([]string, 1, 60_000)
		for range 5 {
			for _, text := range slices.Clip(texts) {
				for _, r := range c.of {
					texts = append(texts, text+string(r))
				}
			}
		}
		for _, text := range texts {
			text = c.head + text
			if c.good(text) != c.want.MatchString(text) {
				t.Fatalf("%q of %v: %v", text, c.want, c.good(text))
			}
		}
	}
	if long := strings.Repeat("a", maxName); !goodAction(long) || goodAction(long+"a") || !goodField(long) || goodField(long+"a") {
		t.Error("length is not bounded")
	}
}
