package trust_test

import (
	"os"
	"path/filepath"
	"testing"

	"muster"
	"muster/cluster/trust"

	"github.com/google/uuid"
)

func identity(t *testing.T) trust.Identity {
	t.Helper()
	id, err := trust.LoadOrCreateIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestANodeIDIsAVersion7UUIDAndItsFileIsPrivate(t *testing.T) {
	dir := t.TempDir()
	id, err := trust.LoadOrCreateIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if u, err := uuid.Parse(id.ID); err != nil || u.Version() != 7 {
		t.Errorf("%s: %v", id.ID, err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v %v", files, err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestADamagedIdentityIsRefusedAndNeverReplaced(t *testing.T) {
	whole := identity(t)
	for name, text := range map[string]string{
		"empty": "", "no key": whole.ID + "\n", "short key": whole.ID + "\nabcd\n",
		"no ID": "\n" + "00", "binary": "\x00\xff\n\x00",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "identity")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := trust.LoadOrCreateIdentity(dir); muster.KindOf(err) != muster.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadFile(path); err != nil || string(left) != text {
			t.Errorf("%s: changed", name)
		}
	}
}

func TestAJoinProofHoldsForItsOwnClusterNodeAndCallOnly(t *testing.T) {
	node, other := identity(t), identity(t)
	proof := node.ProveJoin("cluster", "jti")
	flipped := append([]byte{proof[0] ^ 1}, proof[1:]...)
	for _, c := range []struct {
		name              string
		by                trust.Identity
		cluster, id, call string
		sig               []byte
		ok                bool
	}{
		{"itself", node, "cluster", node.ID, "jti", proof, true},
		{"another cluster", node, "cluster2", node.ID, "jti", proof, false},
		{"another node", node, "cluster", other.ID, "jti", proof, false},
		{"another call", node, "cluster", node.ID, "jti2", proof, false},
		{"another key", other, "cluster", node.ID, "jti", proof, false},
		{"a changed bit", node, "cluster", node.ID, "jti", flipped, false},
		{"nothing", node, "cluster", node.ID, "jti", nil, false},
		{"parts moved over", node, "cluster " + node.ID, "j", "k", node.ProveJoin("cluster", "j k"), false},
	} {
		err := trust.CheckJoin(c.by.PublicKey(), c.cluster, c.id, c.call, c.sig)
		if (err == nil) != c.ok || err != nil && muster.KindOf(err) != muster.Unauthorized {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if trust.CheckJoin(nil, "cluster", node.ID, "jti", proof) == nil {
		t.Error("a missing key passes")
	}
}
