package muster_test

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"muster"
)

func TestWhatIsNothingIsLeftOutOfAnswers(t *testing.T) {
	for name, answer := range map[string]any{"leaked_children": muster.ActionError{Code: "exit"}, "truncated": muster.Hit{ID: "1"}} {
		if got, err := json.Marshal(answer); err != nil || strings.Contains(string(got), name) {
			t.Errorf("%s %v", got, err)
		}
	}
	if got, err := json.Marshal(muster.ActionError{Leaked: 1}); err != nil || !strings.Contains(string(got), `"leaked_children":1`) {
		t.Errorf("%s %v", got, err)
	}
}
