package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"muster"
)

// watcher calls a function once a text was written.
type watcher struct {
	bytes.Buffer
	text string
	seen func()
}

func (w *watcher) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if strings.Contains(w.String(), w.text) {
		w.seen()
	}
	return n, err
}

func TestADemoThatIsInterruptedSaysThatAndNoMore(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, errs := &watcher{text: "Started helpdesk", seen: interrupt}, &bytes.Buffer{}
	code := run(ctx, []string{"demo"}, streams{out, errs})
	if code != 1 || errs.String() != "error: interrupted; everything was cleaned up\n" {
		t.Errorf("exit %d, %s", code, errs)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestAnInterruptedDemoDoesNotHideWhatItLeftBehind(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	left := errors.New("remove x: busy")
	if err := outcome(ctx, nil, left); !errors.Is(err, left) {
		t.Error(err)
	}
	interrupt()
	if err := outcome(ctx, ctx.Err(), left); !errors.Is(err, left) || errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "everything") {
		t.Error(err)
	}
}

func TestTheDemosAgentsHaveSettingsOfTheirOwn(t *testing.T) {
	t.Setenv("MUSTER_URL", "http://elsewhere.invalid")
	t.Setenv("MUSTER_VOTERS", "4") // which no agent would take
	d, name := agents(t, "a")
	n, err := d.client(name).Node(t.Context(), name)
	if err != nil || n.URL != d.urls[name] {
		t.Errorf("%+v %v", n, err)
	}
}

// sticky is done in the index, but nothing undoes it.
type sticky struct{ inIndex }

func (e sticky) step(d *demo, node string, last bool) (do, undo muster.TxCall, err error) {
	do, _, err = e.inIndex.step(d, node, last)
	return do, muster.TxCall{Run: "node.ping"}, err
}

// smooth never fails.
type smooth struct{ inIndex }

func (e smooth) step(d *demo, node string, _ bool) (do, undo muster.TxCall, err error) {
	return e.inIndex.step(d, node, false)
}

func TestTheDemosTransactionIsUndoneAndNotOnlySaidToBe(t *testing.T) {
	d, master := trio(t)
	out := &bytes.Buffer{}
	d.io = streams{out, out}
	for _, e := range []effect{onDisk{}, inIndex{}} {
		out.Reset()
		if err := d.transact(t.Context(), other(d, master), e); err != nil {
			t.Error(err)
		}
		said := strings.Join(strings.Fields(out.String()), " ")
		back := strings.Index(said, "failed c")
		if back < 0 || !strings.Contains(said[:back], "done a") || !strings.Contains(said[back:], "undone b") || !strings.HasSuffix(said, "nothing is left on a and b.") {
			t.Errorf("%T: %s", e, out)
		}
	}
	for want, e := range map[string]effect{"on a is still there": sticky{}, "is succeeded": smooth{}} {
		if err := d.transact(t.Context(), master, e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%T: %v", e, err)
		}
	}
}
