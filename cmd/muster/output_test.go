package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestColumnsLineUpWhateverTheLetters(t *testing.T) {
	g := &grid{}
	line(g, "NODE", "URL")
	line(g, "wide 日本語 🍐", "http://x")
	line(g, "é", "http://y")
	line(g)
	line(g, "another block", 1)
	line(g, "x", 2)
	var out bytes.Buffer
	if err := g.print(&out); err != nil {
		t.Fatal(err)
	}
	want := "NODE            URL\n" +
		"wide 日本語 🍐  http://x\n" +
		"é               http://y\n" +
		"\n" +
		"another block  1\n" +
		"x              2\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestAWideTableIsCutWhereItMayBe(t *testing.T) {
	g := &grid{width: 24, flexible: []give{{1, 8}, {1, 4}, {2, 4}}, least: []int{6}}
	line(g, "a", "bbbbbbbbbbbb", "cccccccccccc", "d")
	line(g, strings.Repeat("word ", 10))
	line(g, "e", "f", "日本語日本語", "g")
	var out bytes.Buffer
	if err := g.print(&out); err != nil {
		t.Fatal(err)
	}
	want := "a       bbb…  cccccc…  d\n" +
		"word word word word wor…\n" +
		"e       f     日本語…  g\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestTimesForPeopleSayTheirZone(t *testing.T) {
	t.Setenv("TZ", "UTC")
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	if _, err := time.Parse(time.RFC3339, clock(at)); err != nil {
		t.Error(err)
	}
}
