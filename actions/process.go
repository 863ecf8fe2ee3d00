package actions

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"muster"
)

// drainGrace is how long output is read after all of the process group is dead.
const drainGrace = 500 * time.Millisecond

// process is a program under way and what it prints.
type process struct {
	limit          int // bytes kept of each stream
	hide           redactor
	stdin          []byte // written to it; nil: it has none
	mark           string // the entry of the environment that is its own
	stdout, stderr *capture
	leaked         int   // processes that left its group
	cell           *cell // nil: it has none
	seen           *prints
}

// run starts the program and returns how it ended; no state, if it did not
// start. The thread is held meanwhile: a program that dies with the thread that
// started it must not do so before its time.
func (p *process) run(cmd *exec.Cmd) (*os.ProcessState, error) {
	defer func() { p.cell.end(0) }() // of a program that did not start
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p.stdout, p.stderr = newCapture(p.limit, p.hide), newCapture(p.limit, p.hide)
	p.seen.attach(p.stdout, p.stderr)
	out, err := newDrain(p.stdout)
	if err != nil {
		return nil, err
	}
	defer out.close()
	errs, err := newDrain(p.stderr)
	if err != nil {
		return nil, err
	}
	defer errs.close()
	in, err := newFeed(p.stdin)
	if err != nil {
		return nil, err
	}
	defer in.close()
	cmd.Stdout, cmd.Stderr = out.w, errs.w
	if in.r != nil {
		cmd.Stdin = in.r
	}
	err = cmd.Start()
	_, _, _ = out.w.Close(), errs.w.Close(), in.r.Close()
	if err != nil {
		return nil, err
	}
	group := cmd.Process.Pid
	err = cmd.Wait()
	killGroup(cmd.Process)
	p.leaked = p.cell.end(group)
	p.cell = nil
	p.leaked = max(p.leaked, killStrays(p.mark, group))
	if !ended(out, errs) {
		p.leaked = max(p.leaked, 1)
	}
	return cmd.ProcessState, err
}

// ended waits a little until nobody holds the outputs open any more.
func ended(drains ...*drain) bool {
	grace := time.NewTimer(drainGrace)
	defer grace.Stop()
	for _, d := range drains {
		select {
		case <-d.done:
		case <-grace.C:
			return false
		}
	}
	return true
}

// feed writes to a pipe, for as long as somebody reads.
type feed struct {
	r, w *os.File // nil: there is nothing to write
	done chan struct{}
}

func newFeed(text []byte) (*feed, error) {
	f := &feed{done: make(chan struct{})}
	if text == nil {
		close(f.done)
		return f, nil
	}
	var err error
	if f.r, f.w, err = os.Pipe(); err != nil {
		return nil, err
	}
	go func() {
		defer close(f.done)
		_, _ = f.w.Write(text)
		_ = f.w.Close()
	}()
	return f, nil
}

// close ends the writing, wherever it is, and waits for that.
func (f *feed) close() {
	_, _ = f.w.Close(), f.r.Close() // a nil file only says so
	<-f.done
}

// drain reads a pipe to its end, so that the writer never blocks.
type drain struct {
	r, w *os.File
	done chan struct{} // closed when all is read
}

func newDrain(to io.Writer) (*drain, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	d := &drain{r: r, w: w, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		_, _ = io.Copy(to, r)
	}()
	return d, nil
}

// close ends the reading, wherever it is, and waits for that.
func (d *drain) close() {
	_, _ = d.w.Close(), d.r.Close()
	<-d.done
}

// fault says how a program ended that did not succeed.
func (p *process) fault(s *os.ProcessState) *muster.ActionError {
	e := &muster.ActionError{Code: "exit", Output: p.last()}
	if e.Signal = signalOf(s); e.Signal != "" {
		e.Code, e.Message = "signal", "it was ended by signal: "+e.Signal
		return e
	}
	e.ExitCode = new(s.ExitCode())
	e.Message = fmt.Sprintf("it ended with exit code %d", s.ExitCode())
	return e
}
