package muster_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"muster"
)

func TestAKeyReachesTheNodesThatMeetItsTargets(t *testing.T) {
	prod := muster.Metadata{"env": json.RawMessage(`"prod"`), "zone": json.RawMessage(`"a"`)}
	for targets, want := range map[string]bool{
		"": true, "env=prod": true, "env=test": false, "env=prod && zone in (a,b)": true, "env=prod && zone=b": false, "env": false,
	} {
		if got := (muster.Rights{Targets: targets}).Reaches(prod); got != want {
			t.Errorf("%q: %v", targets, got)
		}
	}
}

func TestAKeyIsConfinedByItsMakersTargetsAndFilter(t *testing.T) {
	by := muster.Rights{Targets: "env=prod", Filter: muster.Metadata{"tenant": json.RawMessage(`["a","b"]`)}}
	for _, c := range []struct {
		by          muster.Rights
		targets     string
		filter      string
		wantTargets string
		wantFilter  string // empty: refused
	}{
		{muster.Rights{}, "", `{}`, "", `{}`},
		{muster.Rights{}, "zone=a", `{"x":1}`, "zone=a", `{"x":1}`},
		{by, "", `{}`, "env=prod", `{"tenant":["a","b"]}`},
		{by, "env=prod", `{"tenant":"a"}`, "env=prod", `{"tenant":"a"}`},
		{by, "zone=a", `{"x":1}`, "env=prod && zone=a", `{"tenant":["a","b"],"x":1}`},
		{by, "", `{"tenant":["b","a"]}`, "env=prod", `{"tenant":["b","a"]}`},
		{by, "", `{"tenant":"c"}`, "env=prod", ""},
		{by, "", `{"tenant":["a","c"]}`, "env=prod", ""},
	} {
		var filter, want muster.Metadata
		if err := json.Unmarshal([]byte(c.filter), &filter); err != nil {
			t.Fatal(err)
		}
		targets, got, ok := c.by.Confine(c.targets, filter)
		if ok != (c.wantFilter != "") || targets != c.wantTargets {
			t.Errorf("%q %s: %q %v", c.targets, c.filter, targets, ok)
		}
		if !ok {
			continue
		}
		if err := json.Unmarshal([]byte(c.wantFilter), &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s, want %s", c.filter, got, want)
		}
	}
}
