package journal_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestABeginningAndAnEndAreSyncedBeforeTheyAreTold(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("no strace here")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	trace := filepath.Join(dir, "trace")
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-o", trace, "-e", "trace=pwrite64,fdatasync,fsync,write", self)
	cmd.Env = append(os.Environ(), childEnv+"="+filepath.Join(dir, "journal.db"))
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "ptrace") {
			t.Skip("strace may not trace here: ", string(out))
		}
		t.Fatalf("%v\n%s", err, out)
	}
	raw, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	writes, unsynced := 0, 0
	for call := range strings.Lines(string(raw)) {
		switch {
		case strings.Contains(call, "pwrite64("):
			writes++
			unsynced++
		case strings.Contains(call, "sync(") && strings.Contains(call, "= 0"), strings.Contains(call, "sync resumed>"):
			unsynced = 0
		case strings.Contains(call, `"begun"`), strings.Contains(call, `"ended"`):
			if writes == 0 || unsynced > 0 {
				t.Errorf("%d writes, %d of them not on the disk before %s", writes, unsynced, call)
			}
			writes = 0
		}
	}
	if !strings.Contains(string(raw), `"ended"`) {
		t.Errorf("it did not end:\n%s", raw)
	}
}
