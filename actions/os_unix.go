//go:build unix

package actions

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
)

// writableByOthers reports whether group or world may write.
func writableByOthers(info fs.FileInfo) bool { return info.Mode().Perm()&0o022 != 0 }

// ownedByOthers reports whether neither root, nor this process's user, nor the one
// that a program runs as is the owner, and who is.
func ownedByOthers(info fs.FileInfo, as account) (uid int, others bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1, true
	}
	uid = int(stat.Uid)
	return uid, uid != 0 && uid != os.Geteuid() && (as.credential == nil || uid != int(as.credential.Uid))
}

// hold keeps a directory from being taken for one that a dead process left, until
// let go is called or this process ends.
func hold(dir string) (letGo func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// ownGroup makes the process the first of its own group, which does not outlive
// this process where the system can see to that.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	diesWithUs(cmd.SysProcAttr)
}

// errLink is openFile's for a link.
const errLink = syscall.ELOOP

// openFile opens a file, not a link, without waiting for a writer.
func openFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

// terminate asks the whole group to end.
func terminate(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGTERM) }

// killGroup ends what is left of the group.
func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }

// signalOf names the signal that ended a process, if one did.
func signalOf(s *os.ProcessState) string {
	if status, ok := s.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return status.Signal().String()
	}
	return ""
}
