package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal: what is written to one side is heard at the
// other.
func terminal(t *testing.T) (user *heard, program *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here: ", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 120})
	}
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	user = &heard{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(user, master)
	}()
	t.Cleanup(func() {
		_, _ = program.Close(), master.Close()
		<-done
	})
	return user, program
}

func TestOnATerminalEachNodeHasABar(t *testing.T) {
	d, master := trio(t)
	gate := filepath.Join(t.TempDir(), "gate")
	d.give(t, master, "app.tell", strings.ReplaceAll(tellingAction, "GATE", gate))
	id := d.detached(t, master, "app.tell", "--all")
	user, program := terminal(t)
	out, _, ended := d.aside(t, other(d, master), program, "job", "watch", id)
	for _, name := range d.names {
		until(t, name+" has a bar", func() bool {
			for text := range strings.SplitSeq(user.String(), "\n") {
				if strings.Contains(text, name) && strings.Contains(text, "[====") && strings.Contains(text, "half of it") {
					return true
				}
			}
			return false
		})
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != 0 || !strings.Contains(out.String(), "succeeded") || !strings.Contains(user.String(), "| hello from it") {
		t.Errorf("exit %d\n%s\n%s", code, user, out)
	}
}

func TestOnATerminalOutputDoesNotSteerIt(t *testing.T) {
	d, name := agents(t, "a")
	d.give(t, name, "app.red", "handler: {kind: exec, argv: [/usr/bin/printf, '\\033[31mred\\033[0m\\n']}\n")
	id := d.detached(t, name, "app.red", "--all")
	until(t, "it has ended", func() bool {
		code, out := d.words(t, name, "job", "output", id)
		return code == 0 && out == "\033[31mred\033[0m\n" // as it is, where no terminal is
	})
	user, program := terminal(t)
	args := []string{"job", "output", id, "--addr", d.urls[name], "--secret-file", filepath.Join(d.dir, "secret")}
	if code := run(t.Context(), args, streams{program, program}); code != 0 {
		t.Errorf("exit %d", code)
	}
	until(t, "it is shown", func() bool { return strings.Contains(user.String(), "\ufffd[31mred\ufffd[0m") })
	if strings.Contains(user.String(), "\033") {
		t.Errorf("%q", user)
	}
}
