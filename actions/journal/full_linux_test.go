package journal_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"muster"
	"muster/actions/journal"
)

// small is a directory on a file system of its own with so much room.
func small(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skip("no file system can be mounted here: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestOnAFullDiskNothingBeginsAndAnEndIsUnknownUntilThereIsRoom(t *testing.T) {
	dir := small(t, "2m")
	path := filepath.Join(dir, "journal.db")
	j := opened(t, journal.Config{Path: path, MaxSize: 1 << 20})
	begin(t, j, entry("open"))
	begin(t, j, entry("told"))
	begin(t, j, call(j, muster.OpDo, 1))
	j.End("told", done)
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) || f.Close() != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := range 200 { // what is free inside of the file may do for some
		e := entry(fmt.Sprint("full-", i))
		e.Action = "app." + strings.Repeat("x", 8000)
		if _, err := j.Begin(t.Context(), e); err != nil {
			if muster.KindOf(err) != muster.Unavailable || muster.CodeOf(err) != "journal" {
				t.Fatalf("%v", err)
			}
			refused++
			continue
		}
		j.End(e.Key, done)
	}
	if refused == 0 {
		t.Fatal("all began")
	}
	big := done
	big.Result = []byte(`"` + strings.Repeat("x", 4000) + `"`)
	if r := j.End("open", big); r.State != muster.StateUnknown || r.Error.Code != "journal" {
		t.Errorf("an end that is not on the disk is told: %+v", r)
	}
	if r := j.End(call(j, muster.OpDo, 1).Key, big); r.State != muster.StateUnknown {
		t.Errorf("the end of a step: %+v", r)
	}
	if r := recall(t, j, "told"); r == nil || r.State != muster.StateOK {
		t.Errorf("what was told before: %+v", r)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	begin(t, j, undoing(j, 1, false)) // it does not go on: it may have been done
	begin(t, j, entry("room"))
	if r := j.End("room", done); r.State != muster.StateOK {
		t.Errorf("%+v", r)
	}
}
