package query_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"go.uber.org/goleak"
	"golang.org/x/text/unicode/norm"

	"muster"
	"muster/search/query"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func parse(t *testing.T, text string) query.Query {
	t.Helper()
	q, err := query.Parse(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return q
}

func TestSignsAndFieldsAreRead(t *testing.T) {
	word := func(o query.Occur, field, text string) query.Clause {
		return query.Clause{Occur: o, Field: field, Text: text}
	}
	for text, want := range map[string][]query.Clause{
		"":                  nil,
		" \t\n":             nil,
		"pear -draft":       {word(query.Should, "", "pear"), word(query.MustNot, "", "draft")},
		"+pear plum":        {word(query.Must, "", "pear"), word(query.Should, "", "plum")},
		"-content:draft":    {word(query.MustNot, "content", "draft")},
		"title:plum":        {word(query.Should, "title", "plum")},
		"url:https://x.y/z": {word(query.Should, "url", "https://x.y/z")},
		`collection:"my x"`: {word(query.Should, "collection", "my x")},
		`"plum tree"x`:      {{Kind: query.Phrase, Text: "plum tree"}, word(query.Should, "", "x")},
		`title:"plum tree"`: {{Kind: query.Phrase, Field: "title", Text: "plum tree"}},
		`+"a b"`:            {{Occur: query.Must, Kind: query.Phrase, Text: "a b"}},
		"-plu*":             {{Occur: query.MustNot, Kind: query.Prefix, Text: "plu"}},
		"title:plu*":        {{Kind: query.Prefix, Field: "title", Text: "plu"}},
	} {
		if got := parse(t, text).Clauses; !slices.Equal(got, want) {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func TestWhatIsNoOperatorIsText(t *testing.T) {
	for _, text := range []string{
		"*", "**", `"`, `""`, "+", "-", ":", "x:", ":x", "content:", "content:*", "*:*", "C++", "(", "a^", "a*b",
		"state-of-the-art", "v1.2.3-rc1", "/etc/hosts", "10:30", "https://example.org/a/b?c=1", `"state-of-the-art`, `a:"`,
		"info@example.org", "&&", "~", `\`, "$(id)",
	} {
		want := query.Clause{Text: text}
		got := parse(t, text).Resolve(nil).Clauses
		if len(got) != 1 || got[0].Text != want.Text || got[0].Field != "" || got[0].Kind != query.Word || got[0].Occur != query.Should {
			t.Errorf("%q: %+v", text, got)
		}
		if err := parse(t, text).Unsupported(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestUnknownFieldIsAKeyOnlyWhereSomeNodeHasIt(t *testing.T) {
	q := parse(t, `+author:smith 10:30 x author:"ann lee" title:a`)
	if got, want := q.Candidates(), []string{"10", "author"}; !slices.Equal(got, want) {
		t.Fatalf("candidates %q", got)
	}
	r := q.Resolve([]string{"author"})
	if c := r.Clauses[0]; c.Field != "author" || c.Text != "smith" || c.Occur != query.Must || !c.Exact() {
		t.Errorf("%+v", c)
	}
	if c := r.Clauses[1]; c.Field != "" || c.Text != "10:30" {
		t.Errorf("%+v", c)
	}
	if c := r.Clauses[3]; c.Field != "author" || c.Text != "ann lee" {
		t.Errorf("%+v", c)
	}
	if q.Clauses[0].Field != "" {
		t.Error("Resolve changed its receiver")
	}
}

func TestPhrasesAndPrefixesSayHowToWriteThemInstead(t *testing.T) {
	for _, text := range []string{`"plum tree"`, "plu*", `-"draft pear"`, `title:"a b"`, "x plu*"} {
		err := parse(t, text).Unsupported()
		if e, ok := errors.AsType[*muster.Error](err); !ok || e.Kind != muster.Invalid || e.Code != "unsupported" || e.Hint == "" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestLimitsAreErrorsOfTheField(t *testing.T) {
	for _, text := range []string{strings.Repeat("a", query.MaxText+1), strings.Repeat("a ", query.MaxClauses+1)} {
		_, err := query.Parse(text)
		if e, ok := errors.AsType[*muster.Error](err); !ok || e.Kind != muster.Invalid || len(e.Fields["query"]) != 1 {
			t.Errorf("%v", err)
		}
	}
	parse(t, strings.Repeat("a", query.MaxText))
	if q := parse(t, strings.Repeat("a ", query.MaxClauses)); len(q.Clauses) != query.MaxClauses {
		t.Error(len(q.Clauses))
	}
}

func TestTextIsComposed(t *testing.T) {
	if got := parse(t, "u\u0308ber").Clauses[0].Text; got != "\u00fcber" {
		t.Errorf("%q", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`+a -"b c" title:d e* 10:30 x:`, `"`, `a:"`, "-", "\xff", "content:*", "e\u0301"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := query.Parse(text)
		if err != nil {
			if muster.KindOf(err) != muster.Invalid {
				t.Fatal(err)
			}
			return
		}
		if strings.TrimSpace(text) != "" && len(q.Clauses) == 0 {
			t.Fatal("text was lost")
		}
		for _, c := range append(q.Clauses, q.Resolve(q.Candidates()).Clauses...) {
			if c.Text == "" || !utf8.ValidString(c.Text) || !norm.NFC.IsNormalString(c.Text) {
				t.Fatalf("%+v", c)
			}
		}
		_ = q.Unsupported()
	})
}
