package main

import (
	"bytes"
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

func TestTimesForPeopleSayTheirZone(t *testing.T) {
	t.Setenv("TZ", "UTC")
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	if _, err := time.Parse(time.RFC3339, clock(at)); err != nil {
		t.Error(err)
	}
}
