package muster //nolint:testpackage // the terms have no door of their own

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestConditionsMeetTheirMetadata(t *testing.T) {
	m := Metadata{
		"env": json.RawMessage(`"prod"`), "rank": json.RawMessage(`9007199254740993`), "hot": json.RawMessage(`true`),
		"a b": json.RawMessage(`"c \" d"`), "zone": json.RawMessage(`"eu-west/1"`), "ünit": json.RawMessage(`"ä"`), "in": json.RawMessage(`"in"`),
	}
	for text, want := range map[string]bool{
		"env=prod": true, "env = prod": true, "env!=prod": false, "env!=test": true, "env=test": false, "env=PROD": false,
		"rank=9007199254740993": true, "rank=9007199254740992": false, "hot=true": true,
		"none=x": false, "none!=x": true, "none in (x)": false,
		"env in (test, prod)": true, "env in(test)": false, "env in ( prod )": true,
		`"a b"="c \" d"`: true, `"a b"!="c \" d"`: false, "zone=eu-west/1": true, "ünit=ä": true,
		"env=prod&&hot=true": true, "env=prod && hot=false": false, "in=in && in in (in)": true, `env=""`: false,
	} {
		w, err := ParseWhere(text)
		if err != nil || w.Meets(m) != want {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
}

func TestBadConditionsSayWhereTheyAreBad(t *testing.T) {
	for text, want := range map[string]string{
		"": "a key is expected at character 1", "   ": "a key is expected at character 4", "env": "=, != or in (…) is expected at character 4",
		"env=": "a value is expected at character 5", "=x": "a key is expected at character 1", "env==x": "a value is expected at character 5",
		"env=a b=c": "&& or the end is expected at character 7", "env=a && ": "a key is expected at character 10",
		"env=a || b=c": "&& or the end is expected at character 7", "env in a": "=, != or in (…) is expected at character 5",
		"env in (": "a value is expected at character 9", "env in (a": ", or ) is expected at character 10", "env in ()": "a value is expected at character 9",
		"é not in (a)": "=, != or in (…) is expected at character 3", `env="a`: `" is expected at character 7`, `env="a\"`: `" is expected`,
		"env=a\xff": "must be UTF-8", "env=" + strings.Repeat("a", 5000): "at most 4096 bytes",
	} {
		if _, err := ParseWhere(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// FuzzWhere holds that a condition that was read can be written with quotes and
// read again as the same.
func FuzzWhere(f *testing.F) {
	f.Add("env=prod && zone in (a, b) && \"x y\"!=\"\\\"\"")
	f.Add("a!=b")
	f.Fuzz(func(t *testing.T, text string) {
		w, err := ParseWhere(text)
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Fatal("an error without words")
			}
			return
		}
		quote := func(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }
		var terms []string
		for _, c := range w.terms {
			op := " in ("
			if c.not {
				op = "!="
			}
			var values []string
			for _, v := range c.values {
				values = append(values, quote(v))
			}
			term := quote(c.key) + op + strings.Join(values, ",")
			if !c.not {
				term += ")"
			}
			terms = append(terms, term)
		}
		longer := strings.Join(terms, "&&")
		again, err := ParseWhere(longer)
		if len(longer) > maxWhere {
			return
		}
		if err != nil || len(again.terms) != len(w.terms) {
			t.Fatalf("%q became %q: %v", text, longer, err)
		}
		for i, a := range w.terms {
			b := again.terms[i]
			if a.key != b.key || a.not != b.not || strings.Join(a.values, "\x00") != strings.Join(b.values, "\x00") {
				t.Fatalf("%q became %q", text, longer)
			}
		}
	})
}
