package trust_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"muster"
	"muster/cluster/trust"

	"github.com/google/uuid"
)

func identity(tb testing.TB) trust.Identity {
	tb.Helper()
	id, err := trust.LoadOrCreateIdentity(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
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

func joining(t *testing.T, node trust.Identity) muster.Joining {
	t.Helper()
	return muster.Joining{
		ID: node.ID, Name: "shop", URL: "http://10.0.0.1:7600", Raft: "10.0.0.1:7602", Capabilities: []muster.Capability{"search"},
		Metadata: muster.Metadata{"role": json.RawMessage(`"web"`), "a": json.RawMessage(`1`)}, Version: "1", PublicKey: node.PublicKey(),
		ClusterID: "cluster", CallID: uuid.Must(uuid.NewV7()).String(),
	}
}

func proved(t *testing.T, node trust.Identity, j muster.Joining) muster.Joining {
	t.Helper()
	var err error
	if j.Proof, err = node.ProveJoin(j, "master"); err != nil {
		t.Fatal(err)
	}
	return j
}

func TestAJoinProofHoldsForAllThatWasSaidAndNothingElse(t *testing.T) {
	node, other := identity(t), identity(t)
	for name, spoil := range map[string]func(*muster.Joining){
		"another node":        func(j *muster.Joining) { j.ID = other.ID },
		"another name":        func(j *muster.Joining) { j.Name = "shop2" },
		"another URL":         func(j *muster.Joining) { j.URL = "http://10.0.0.2:7600" },
		"another address":     func(j *muster.Joining) { j.Raft = "10.0.0.2:7602" },
		"another capability":  func(j *muster.Joining) { j.Capabilities = []muster.Capability{"actions"} },
		"other metadata":      func(j *muster.Joining) { j.Metadata = nil },
		"another version":     func(j *muster.Joining) { j.Version = "2" },
		"another key":         func(j *muster.Joining) { j.PublicKey = other.PublicKey() },
		"no key":              func(j *muster.Joining) { j.PublicKey = nil },
		"another cluster":     func(j *muster.Joining) { j.ClusterID = "cluster2" },
		"another call":        func(j *muster.Joining) { j.CallID = uuid.Must(uuid.NewV7()).String() },
		"a changed bit":       func(j *muster.Joining) { j.Proof[0] ^= 1 },
		"no proof":            func(j *muster.Joining) { j.Proof = nil },
		"a call without time": func(j *muster.Joining) { j.CallID = uuid.NewString(); *j = proved(t, node, *j) },
		"no call":             func(j *muster.Joining) { j.CallID = ""; *j = proved(t, node, *j) },
	} {
		j := proved(t, node, joining(t, node))
		if err := trust.CheckJoin(j, "master", time.Now()); err != nil {
			t.Fatal(err)
		}
		if trust.CheckJoin(j, "another", time.Now()) == nil {
			t.Fatal("it holds at another node")
		}
		spoil(&j)
		if err := trust.CheckJoin(j, "master", time.Now()); muster.KindOf(err) != muster.Unauthorized {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := joining(t, node)
	bad.Metadata["a"] = json.RawMessage("{")
	if _, err := node.ProveJoin(bad, "master"); err == nil {
		t.Error("what is no JSON was proved")
	}
}

func TestAJoinProofOutlivesTheWireButNotItsMinute(t *testing.T) {
	node := identity(t)
	for name, empty := range map[string]func(*muster.Joining){
		"as it is":          func(*muster.Joining) {},
		"nothing more":      func(j *muster.Joining) { j.Capabilities, j.Metadata = nil, nil },
		"empty, not absent": func(j *muster.Joining) { j.Capabilities, j.Metadata = []muster.Capability{}, muster.Metadata{} },
	} {
		sent := joining(t, node)
		empty(&sent)
		sent = proved(t, node, sent)
		raw, err := json.Marshal(sent)
		if err != nil {
			t.Fatal(err)
		}
		var got muster.Joining
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		for after, ok := range map[time.Duration]bool{
			-35 * time.Second: false, -25 * time.Second: true, 85 * time.Second: true, 95 * time.Second: false,
		} {
			if err := trust.CheckJoin(got, "master", time.Now().Add(after)); (err == nil) != ok || err != nil && muster.CodeOf(err) != "clock_skew" {
				t.Errorf("%s, %v later: %v", name, after, err)
			}
		}
	}
}
