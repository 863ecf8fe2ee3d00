package actions

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"muster"
)

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
	by     muster.Rights
	hide   redactor
	within time.Duration // to start; 0: at any time
	cells  *cells
	log    *slog.Logger
	tx     *muster.TxOp // nil: of no transaction
	seen   *prints      // by those who look on; nil: nobody can
}

// outcome is what a handler says. Its result is JSON, or nothing.
type outcome struct {
	state  muster.State
	result json.RawMessage
	fault  *muster.ActionError
	leaked int    // processes that left the group
	again  *again // nil: another try makes no sense
}

// key is the same for an execution however often it is asked for, and another
// for every node: an application that keeps it does nothing twice.
func (c call) key() string { return c.job + "." + c.node }

func failed(code, format string, args ...any) outcome {
	return outcome{state: muster.StateFailed, fault: &muster.ActionError{Code: code, Message: fmt.Sprintf(format, args...)}}
}

// do does the action, until ctx ends.
func (h *Handler) do(ctx context.Context, c call) outcome {
	if ctx.Err() != nil {
		return notStarted(context.Cause(ctx))
	}
	switch h.Kind {
	case "http":
		return h.post(ctx, c)
	case "go":
		return h.invoke(ctx, c)
	default:
		return h.start(ctx, c)
	}
}

// start runs the program and waits until its process group is gone. The end of
// ctx ends the group: SIGTERM, then SIGKILL. What the program leaves behind in
// its group is killed when it exits.
func (h *Handler) start(ctx context.Context, c call) outcome {
	if err := h.safeArgv(c.argv); err != nil {
		return failed("start", "%v", err)
	}
	around, err := os.MkdirTemp("", scratchPrefix)
	if err != nil {
		return failed("start", "%v", err)
	}
	defer func() { _ = os.RemoveAll(around) }()
	letGo, err := hold(around)
	if err != nil {
		return failed("start", "%v", err)
	}
	defer letGo()
	dir := filepath.Join(around, "work")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return failed("start", "%v", err)
	}
	p := &process{limit: int(c.def.Limits.Output), hide: c.hide, mark: resultEnv + filepath.Join(dir, resultFile), seen: c.seen}
	if h.Stdin == "params" {
		p.stdin = paramsJSON(c.params)
	}
	state, err := h.within(ctx, c, dir, p, c.cells.open())
	if state == nil && err != nil && p.cell != nil {
		refused := err
		if state, err = h.within(ctx, c, dir, p, nil); state != nil {
			c.cells.refuse()
			c.log.Warn("programs cannot be started in control groups of their own", "error", refused)
		}
	}
	var o outcome
	switch {
	case state == nil && ctx.Err() != nil:
		return notStarted(context.Cause(ctx))
	case state == nil:
		return failed("start", "%v", err)
	case ctx.Err() != nil:
		o = outcome{state: muster.StateTimeout, fault: p.fault(state)} // the executor knows why
	case !state.Success():
		o = outcome{state: muster.StateFailed, fault: p.fault(state)}
		if state.ExitCode() == exitAgain {
			o.again = &again{on: onUnavailable, undone: true}
		}
	default:
		o = h.result(c, p, filepath.Join(dir, resultFile))
	}
	o.leaked = p.leaked
	return o
}

// within runs the program in a cell, if there is one.
func (h *Handler) within(ctx context.Context, c call, dir string, p *process, in *cell) (*os.ProcessState, error) {
	cmd := h.command(ctx, c, dir)
	if p.cell = in; in != nil {
		in.hold(cmd)
	}
	if err := h.as.give(cmd, dir); err != nil {
		in.end(0)
		return nil, err
	}
	return p.run(cmd)
}

const (
	scratchPrefix = "muster-work-" // of the directory of an execution

	resultFile = "result.json"
	resultEnv  = "MUSTER_RESULT=" // its value is of one execution only
)

// command prepares the program: nothing is inherited but what stands here.
func (h *Handler) command(ctx context.Context, c call, dir string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir = dir
	if h.Cwd != "" {
		cmd.Dir = h.Cwd
	}
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=" + cmp.Or(h.as.home, "/"), "TMPDIR=" + dir,
		"MUSTER_ACTION=" + c.def.Action, "MUSTER_JOB=" + c.job, "MUSTER_NODE=" + c.node, "MUSTER_KEY=" + c.key(),
		resultEnv + filepath.Join(dir, resultFile),
	}
	if c.check {
		cmd.Env = append(cmd.Env, "MUSTER_CHECK=1")
	}
	cmd.Env = append(cmd.Env, txEnv(c.tx)...)
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
	case c.def.confides(): // they may be in what it printed
		return done(printed{Stdout: redacted, Leaked: p.leaked}, nil)
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

// readFile reads a whole file of at most limit bytes. It follows no link: the
// program may not read what the agent can.
func readFile(path string, limit int64) ([]byte, error) {
	irregular := errors.New("the result is no regular file")
	f, err := openFile(path)
	if errors.Is(err, errLink) {
		return nil, irregular
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, irregular
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("the result is longer than %d bytes", limit)
	}
	return raw, err
}
