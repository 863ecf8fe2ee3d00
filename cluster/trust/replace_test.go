package trust_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"muster/cluster/trust"
)

func TestASecretFileIsReplacedAsAWholeWhereItReallyIs(t *testing.T) {
	dir, links := t.TempDir(), t.TempDir()
	path, link := filepath.Join(dir, "secret"), filepath.Join(links, "secret")
	if _, err := trust.EnsureSecretFile(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Skip("no links here")
	}
	want := []trust.Secret{trust.NewSecret(), trust.NewSecret()}
	if err := trust.ReplaceSecretFile(link, want, false); err != nil {
		t.Fatal(err)
	}
	got, err := trust.LoadSecrets(path)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%d secrets, %v", len(got), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v %v", info, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left over: %v %v", left, err)
	}
	if err := trust.ReplaceSecretFile(filepath.Join(dir, "nosuch"), want, false); err == nil {
		t.Error("a file that is not there was replaced")
	}
}

func TestAReplacedSecretFileKeepsItsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can write for others")
	}
	path := filepath.Join(t.TempDir(), "secret")
	if _, err := trust.EnsureSecretFile(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 12345, 12346); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := trust.ReplaceSecretFile(path, []trust.Secret{trust.NewSecret()}, false); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil || owner(after) != owner(before) || after.Mode() != 0o600 {
		t.Errorf("%v, %v after %v: %v", owner(after), after.Mode(), owner(before), err)
	}
}
