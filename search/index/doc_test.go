package index_test

import (
	"encoding/json"
	"strings"
	"testing"

	"muster"
	"muster/search/index"
)

func TestMetadataThatNestsTooDeepIsRefusedAndLosesNothing(t *testing.T) {
	x := open(t, t.TempDir(), index.Options{})
	nested := func(n int) muster.Metadata {
		return muster.Metadata{"a": json.RawMessage(strings.Repeat("[", n) + strings.Repeat("]", n))}
	}
	got, err := x.Put(t.Context(), []muster.Document{
		{ID: "deep", Content: "plum", Metadata: nested(63)},
		{ID: "good", Content: "plum", Metadata: nested(62)},
		{ID: "deepest", Content: "plum", Metadata: nested(9999)},
		{ID: "nul", Content: "plum", Metadata: muster.Metadata{"a\x00b": json.RawMessage("1")}},
		{ID: "broken", Content: "plum", Metadata: muster.Metadata{"a": json.RawMessage("{")}},
	})
	if err != nil || got.Failed != 4 || got.Indexed != 1 {
		t.Errorf("%+v %v", got, err)
	}
	if found := ids(ask(t, x, text("plum"))); found != "good" {
		t.Error(found)
	}
	if err := x.Rebuild(t.Context()); err != nil {
		t.Error(err)
	}
	_, faults := index.ParseNDJSON([]byte(`{"id":"1","metadata":{"a":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}}`))
	if len(faults) != 1 || !strings.Contains(faults[0].Message, "64") {
		t.Errorf("%+v", faults)
	}
}

func TestLongValuesKeepTheirDigitsAndLetters(t *testing.T) {
	x := open(t, t.TempDir(), index.Options{})
	digits := "1" + strings.Repeat("234567890", 20_000) + ".50"
	long := strings.Repeat("\u00e9", 40_000)
	put(t, x, muster.Document{ID: "1", URL: "https://x.y/" + long, Title: long, Content: "plum", Metadata: muster.Metadata{
		"n": json.RawMessage(digits), "big": json.RawMessage("-12345678901234567890e+400"), "s": json.RawMessage(`"` + long + `"`),
	}})
	if d, err := x.Get(t.Context(), "", "1"); err != nil || string(d.Metadata["n"]) != digits || d.Title != long {
		t.Error(len(d.Metadata["n"]), len(d.Title), err)
	}
	if ids(ask(t, x, text("big:-12345678901234567890e+400"))) != "1" || ids(ask(t, x, text("plum"))) != "1" {
		t.Error("not found")
	}
	if err := x.Rebuild(t.Context()); err != nil || ids(ask(t, x, text("plum"))) != "1" {
		t.Error("lost", err)
	}
}
