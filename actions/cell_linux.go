package actions

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// cells are control groups (cgroup v2), one for each execution. What a program
// starts stays in its cell whatever it does to its session, group or environment,
// and a cell is ended as a whole. Where this process may not make any, there are
// none: programs run all the same.
type cells struct {
	find sync.Once
	base string // directory of this process's own control group; empty: none
	off  atomic.Bool
}

// cell is the control group of one execution; nil where there is none.
type cell struct {
	dir  string
	file *os.File
}

const (
	cellPrefix = "muster-action-"
	cellGrace  = 500 * time.Millisecond // for the killed to be gone
	cellLook   = 2 * time.Millisecond
)

// open makes a cell.
func (c *cells) open() *cell {
	c.find.Do(func() {
		c.base = ownControlGroup()
		c.sweep()
	})
	if c.base == "" || c.off.Load() {
		return nil
	}
	dir, err := os.MkdirTemp(c.base, fmt.Sprintf("%s%d-", cellPrefix, os.Getpid()))
	if err != nil {
		return nil
	}
	file, err := os.Open(dir)
	if err != nil {
		_ = os.Remove(dir)
		return nil
	}
	return &cell{dir: dir, file: file}
}

// refuse has no more cells made: the kernel does not start programs in them.
func (c *cells) refuse() { c.off.Store(true) }

// sweep ends the cells that a process of this program left when it was killed.
func (c *cells) sweep() {
	left, err := filepath.Glob(filepath.Join(c.base, cellPrefix+"*"))
	if err != nil || c.base == "" {
		return
	}
	for _, dir := range left {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), cellPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			(&cell{dir: dir}).end(0)
		}
	}
}

// ownControlGroup finds the directory of this process's control group.
func ownControlGroup() string {
	mount := ""
	for fields := range lines("/proc/self/mountinfo") {
		for i, word := range fields {
			if word == "-" && i+1 < len(fields) && fields[i+1] == "cgroup2" && len(fields) > 4 {
				mount = fields[4]
			}
		}
	}
	if mount == "" {
		return ""
	}
	for fields := range lines("/proc/self/cgroup") {
		if path, ok := strings.CutPrefix(strings.Join(fields, " "), "0::"); ok {
			return filepath.Join(mount, path)
		}
	}
	return ""
}

// lines reads a file as words.
func lines(path string) func(func([]string) bool) {
	return func(yield func([]string) bool) {
		f, err := os.Open(path)
		if err != nil {
			return
		}
		defer func() { _ = f.Close() }()
		for in := bufio.NewScanner(f); in.Scan(); {
			if !yield(strings.Fields(in.Text())) {
				return
			}
		}
	}
}

// hold has a program start in the cell.
func (c *cell) hold(cmd *exec.Cmd) {
	if c != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(c.file.Fd())
	}
}

// end kills all that is in the cell, takes it away, and returns how many there were
// that are not of the group: those are being killed already.
func (c *cell) end(group int) (leaked int) {
	if c == nil {
		return 0
	}
	for fields := range lines(filepath.Join(c.dir, "cgroup.procs")) {
		if pid, err := strconv.Atoi(fields[0]); err == nil && !in(pid, group) {
			leaked++
		}
	}
	if kill, err := os.OpenFile(filepath.Join(c.dir, "cgroup.kill"), os.O_WRONLY, 0); err == nil {
		_, _ = kill.WriteString("1")
		_ = kill.Close()
	}
	if c.file != nil {
		_ = c.file.Close()
	}
	look := time.NewTicker(cellLook) // it is over sooner than a watch of cgroup.events were set up
	defer look.Stop()
	for until := time.Now().Add(cellGrace); os.Remove(c.dir) != nil && time.Now().Before(until); {
		<-look.C
	}
	return leaked
}
