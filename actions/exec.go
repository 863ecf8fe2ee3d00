package actions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"time"

	"muster"
)

// drainGrace is how long output is read after all of the process group is dead.
const drainGrace = 500 * time.Millisecond

// stopGrace is how long a program may take to end when the node goes down: it
// must not outlive the node.
const stopGrace = time.Second

// call is one execution on its way to a handler.
type call struct {
	def    *Definition
	params muster.Params // complete and good
	argv   []string      // of an exec handler, filled
	job    string
	node   string // ID of this node
	check  bool
	hide   redactor
	within time.Duration // to start; 0: at any time
}

// outcome is what a handler says. Its result is JSON, or nothing.
type outcome struct {
	state  muster.State
	result json.RawMessage
	fault  *muster.ActionError
}

func failed(code, format string, args ...any) outcome {
	return outcome{state: muster.StateFailed, fault: &muster.ActionError{Code: code, Message: fmt.Sprintf(format, args...)}}
}

// do runs the program and waits until its process group is gone. The end of
// ctx ends the group: SIGTERM, then SIGKILL. What the program leaves behind in
// its group is killed when it exits.
func (h *Handler) do(ctx context.Context, c call) outcome {
	if err := safe(h.Argv[0]); err != nil {
		return failed("start", "%v", err)
	}
	dir, err := os.MkdirTemp("", "muster-action-")
	if err != nil {
		return failed("start", "%v", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	p := &process{limit: int(c.def.Limits.Output), hide: c.hide}
	state, err := p.run(ctx, h.command(ctx, c, dir))
	if state == nil {
		return failed("start", "%v", err)
	}
	fault := p.fault(state)
	switch {
	case ctx.Err() != nil:
		return outcome{state: muster.StateTimeout, fault: fault} // the executor knows why
	case !state.Success():
		return outcome{state: muster.StateFailed, fault: fault}
	}
	return h.result(c, p, filepath.Join(dir, resultFile))
}

const resultFile = "result.json"

// command prepares the program: nothing is inherited but what stands here.
func (h *Handler) command(ctx context.Context, c call, dir string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir = dir
	if h.Cwd != "" {
		cmd.Dir = h.Cwd
	}
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=" + home(), "TMPDIR=" + dir,
		"MUSTER_ACTION=" + c.def.Action, "MUSTER_JOB=" + c.job, "MUSTER_NODE=" + c.node,
		"MUSTER_RESULT=" + filepath.Join(dir, resultFile),
	}
	if c.check {
		cmd.Env = append(cmd.Env, "MUSTER_CHECK=1")
	}
	if h.Stdin == "params" {
		cmd.Stdin = bytes.NewReader(paramsJSON(c.params))
	}
	ownGroup(cmd)
	cmd.WaitDelay = time.Duration(c.def.Limits.KillAfter)
	cmd.Cancel = func() error {
		if errors.Is(context.Cause(ctx), errStopping) {
			cmd.WaitDelay = min(cmd.WaitDelay, stopGrace) // read after this returns
		}
		return terminate(cmd.Process)
	}
	return cmd
}

func home() string {
	if u, err := user.Current(); err == nil && u.HomeDir != "" {
		return u.HomeDir
	}
	return "/"
}

// result is what a program that succeeded has to say.
func (h *Handler) result(c call, p *process, path string) outcome {
	limit := int64(c.def.Limits.Output)
	raw, err := readFile(path, limit)
	switch {
	case err == nil:
	case !errors.Is(err, os.ErrNotExist):
		return failed("bad_result", "%v", err)
	case h.Stdout == "json" && p.stdout.cut():
		return failed("result_too_large", "it printed more than %d bytes", limit)
	case h.Stdout == "json":
		raw = p.stdout.head
	default:
		return outcome{state: muster.StateOK, result: p.text()}
	}
	raw = bytes.TrimSpace(raw)
	if reason := c.def.resultFault(raw, c.check); reason != "" {
		return outcome{state: muster.StateFailed, fault: &muster.ActionError{
			Code: "bad_result", Message: "its result " + reason, Output: p.last(),
		}}
	}
	return outcome{state: muster.StateOK, result: raw}
}

// readFile reads a whole file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("the result is no regular file")
	case info.Size() > limit:
		return nil, fmt.Errorf("the result is longer than %d bytes", limit)
	}
	return os.ReadFile(path)
}

// process is a program under way and what it prints.
type process struct {
	limit          int // bytes kept of each stream
	hide           redactor
	stdout, stderr *capture
	leaked         int // something outside of the group keeps the output open
}

// run starts the program and returns how it ended; no state, if it did not
// start.
func (p *process) run(ctx context.Context, cmd *exec.Cmd) (*os.ProcessState, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.stdout, p.stderr = newCapture(p.limit, p.hide), newCapture(p.limit, p.hide)
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
	cmd.Stdout, cmd.Stderr = out.w, errs.w
	err = cmd.Start()
	_, _ = out.w.Close(), errs.w.Close()
	if err != nil {
		return nil, err
	}
	err = cmd.Wait()
	killGroup(cmd.Process)
	grace := time.NewTimer(drainGrace)
	defer grace.Stop()
	for _, d := range []*drain{out, errs} {
		select {
		case <-d.done:
		case <-grace.C:
			p.leaked = 1
			return cmd.ProcessState, err
		}
	}
	return cmd.ProcessState, err
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
	e := &muster.ActionError{Code: "exit", Output: p.last(), Leaked: p.leaked}
	if e.Signal = signalOf(s); e.Signal != "" {
		e.Code, e.Message = "signal", "it was ended by signal: "+e.Signal
		return e
	}
	e.ExitCode = new(s.ExitCode())
	e.Message = fmt.Sprintf("it ended with exit code %d", s.ExitCode())
	return e
}
