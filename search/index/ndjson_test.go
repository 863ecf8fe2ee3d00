package index_test

import (
	"fmt"
	"strings"
	"testing"

	"muster"
	"muster/search/index"
)

func TestAFileFromWindowsIsReadWithTheLineNumbersOfAnEditor(t *testing.T) {
	body := "\ufeff" + strings.Join([]string{
		`{"id":"1","title":"one","content":"apple"}`, ``, `{"id":"2","title":"two","content":"apple"}`, `{"id":"3","title":broken`,
		`{"title":"no id","content":"apple"}`, "   \t", `{"_id":"4","title":"four","text":"apple"}`,
	}, "\r\n")
	lines, faults := index.ParseNDJSON([]byte(body))
	if len(faults) != 2 || faults[0].Line != 4 || faults[1].Line != 5 || len(faults[0].Message) < 6 || len(faults[1].Message) < 6 {
		t.Errorf("%+v", faults)
	}
	got := make([]string, 0, len(lines))
	for _, l := range lines {
		got = append(got, fmt.Sprintf("%d:%s:%s", l.Number, l.Document.ID, l.Document.Content))
	}
	if fmt.Sprint(got) != "[1:1:apple 3:2:apple 7:4:apple]" {
		t.Errorf("%q", got)
	}
}

func TestALineIsReadStrictly(t *testing.T) {
	for line, bad := range map[string]bool{
		`{"id":"1"}`: false, `{"id":"1","metadata":{"n":1.500,"o":{"a":[1]}}}`: false, `{"_id":"1","text":null,"metadata":null}`: false,
		`{"id":"1","embedding":[0.5,1]}`: false, `{"id":"` + strings.Repeat("k", 512) + `"}`: false,
		`{"id":"` + strings.Repeat("k", 513) + `"}`: true, `{"id":""}`: true, `{"id":1}`: true, `{"id":null}`: true, `{"id":"1","id":"2"}`: true,
		`{"id":"1","_id":"2"}`: true, `{"id":"1","text":"a","content":"b"}`: true, `{"id":"1","what":1}`: true, `{"ID":"1"}`: true,
		`{"id":"1","metadata":[]}`: true, `{"id":"1","metadata":{"a":1,"a":2}}`: true, `{"id":"1"} {"id":"2"}`: true, `{"id":"1"}x`: true,
		`["id"]`: true, `"id"`: true, `null`: true, `{"id":"1"`: true, `{"id":"1",}`: true, "{\"id\":\"\xff\"}": true, `{"id":"\ud800"}`: true,
		`{"id":"1","title":5}`: true, `{"id":"1","embedding":"x"}`: true, `{"id":"1","collection":"a\u0000b"}`: true,
	} {
		lines, faults := index.ParseNDJSON([]byte(line))
		if len(lines)+len(faults) != 1 || (len(faults) == 1) != bad {
			t.Errorf("%s: %+v %+v", line, lines, faults)
		}
	}
	lines, _ := index.ParseNDJSON([]byte(`{"id":"1","metadata":{"n":1.500,"big":12345678901234567890}}`))
	if m := lines[0].Document.Metadata; string(m["n"]) != "1.500" || string(m["big"]) != "12345678901234567890" {
		t.Error(m)
	}
	if lines, faults := index.ParseNDJSON([]byte("\n\n")); lines != nil || faults != nil {
		t.Error(lines, faults)
	}
}

// longLine holds a document of about n bytes between two short ones.
func longLine(n int) []byte {
	return []byte(`{"id":"first","content":"mulberry"}` + "\n" +
		`{"id":"long","content":"mulberry ` + strings.Repeat("dolor sit amet ", n/15) + ` endoffive"}` + "\n" +
		`{"id":"last","content":"mulberry"}`)
}

func TestAVeryLongLineIsTakenWhole(t *testing.T) {
	lines, faults := index.ParseNDJSON(longLine(20 << 20))
	if len(lines) != 3 || len(faults) != 0 || len(lines[1].Document.Content) < 20<<20 || !strings.HasSuffix(lines[1].Document.Content, "endoffive") {
		t.Fatal(len(lines), faults)
	}
}

func TestAVeryLongDocumentIsFoundByItsLastWordAndScoredByItsLength(t *testing.T) {
	lines, faults := index.ParseNDJSON(longLine(300 << 10))
	if len(lines) != 3 || len(faults) != 0 {
		t.Fatal(len(lines), faults)
	}
	x := open(t, t.TempDir(), index.Options{})
	docs := make([]muster.Document, 0, len(lines))
	r := newReference(t)
	for _, l := range lines {
		docs = append(docs, l.Document)
		r.put(l.Document)
	}
	put(t, x, docs...)
	if ids(ask(t, x, text("endoffive"))) != "long" || ask(t, x, text("mulberry")).Matched != 3 {
		t.Error("not all found")
	}
	compare(t, r, x, muster.ShardQuery{Text: "mulberry dolor"})
}

func FuzzParseNDJSON(f *testing.F) {
	for _, s := range []string{"\ufeff{\"id\":\"1\"}\r\n\r\n{", `{"_id":"1","text":"a","metadata":{"a":[1,"x",null]}}`, "null", "\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		lines, faults := index.ParseNDJSON(body)
		full := 0
		for l := range strings.SplitSeq(strings.TrimPrefix(string(body), "\ufeff"), "\n") {
			if strings.Trim(l, " \t\r") != "" {
				full++
			}
		}
		if len(lines)+len(faults) != full {
			t.Fatalf("%d and %d of %d lines", len(lines), len(faults), full)
		}
		last := 0
		for _, l := range lines {
			if l.Number <= last || l.Document.ID == "" || len(l.Document.ID) > index.MaxID {
				t.Fatalf("%+v", l)
			}
			last = l.Number
		}
	})
}
