package actions

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// diesWithUs has the kernel kill the process when the thread that started it
// ends, and with it this process: see process.start.
func diesWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// strayRounds bounds how often processes are looked for that may be making
// others meanwhile.
const strayRounds = 10

// killStrays kills the processes whose environment has an entry, and returns how
// many there were. Those of the group are being killed already. One that cleared
// its environment is not found.
func killStrays(entry string, group int) int {
	killed := map[int]bool{}
	for range strayRounds {
		before := len(killed)
		for _, pid := range processes() {
			if !killed[pid] && has(pid, entry) && !in(pid, group) && kill(pid, entry) {
				killed[pid] = true
			}
		}
		if len(killed) == before {
			break
		}
	}
	return len(killed)
}

func processes() (pids []int) {
	dirs, err := filepath.Glob("/proc/[1-9]*")
	if err != nil {
		return nil
	}
	for _, dir := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// has reports whether a process was started with an entry in its environment.
func has(pid int, entry string) bool {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && slices.ContainsFunc(bytes.Split(raw, []byte{0}), func(e []byte) bool { return string(e) == entry })
}

func in(pid, group int) bool {
	of, err := syscall.Getpgid(pid)
	return err != nil || of == group
}

// kill ends a process if it still is the one with the entry: its ID may have
// been given to another meanwhile.
func kill(pid int, entry string) bool {
	p, err := os.FindProcess(pid) // holds on to it
	if err != nil {
		return false
	}
	defer func() { _ = p.Release() }()
	return has(pid, entry) && p.Kill() == nil
}
