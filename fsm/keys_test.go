package fsm_test

import (
	"testing"
	"time"

	"muster"
	"muster/fsm"
)

func TestARotatedKeyKeepsItsFormerSecretsUntilTheyEnd(t *testing.T) {
	l := newLog(t)
	l.do(fsm.OpKeyCreate, "", "", fsm.KeyCreate{ID: "k", Hash: [32]byte{1}, Scopes: []string{"read"}, Targets: "env=prod"})
	rotate := func(n byte, overlap time.Duration) muster.Key {
		t.Helper()
		res := l.do(fsm.OpKeyRotate, "", "", fsm.KeyRotate{ID: "k", Hash: [32]byte{n}, Overlap: overlap})
		k, ok := l.m.Key("k")
		if res.Err() != nil || res.ID != "k" || !ok || k.Hash != [32]byte{n} || k.Targets != "env=prod" {
			t.Fatalf("%+v %+v", res, k)
		}
		return k
	}
	if k := rotate(2, time.Hour); len(k.Former) != 1 || k.Former[0].Hash != [32]byte{1} || !k.Former[0].Until.Equal(epoch.Add(time.Hour)) {
		t.Fatalf("%+v", k)
	}
	if k := rotate(3, 0); len(k.Former) != 1 || k.Former[0].Hash != [32]byte{1} {
		t.Errorf("without overlap the secret before ends at once: %+v", k.Former)
	}
	for n := byte(4); n < 9; n++ {
		rotate(n, time.Hour)
	}
	if k, _ := l.m.Key("k"); len(k.Former) != 4 || k.Former[0].Hash != [32]byte{4} || k.Former[3].Hash != [32]byte{7} {
		t.Errorf("more than four: %+v", k.Former)
	}
}

func TestOnlyAGoodKeyIsRotated(t *testing.T) {
	l := newLog(t)
	l.do(fsm.OpKeyCreate, "", "", fsm.KeyCreate{ID: "revoked"})
	l.do(fsm.OpKeyRevoke, "", "", fsm.KeyRevoke{ID: "revoked"})
	l.do(fsm.OpKeyCreate, "", "", fsm.KeyCreate{ID: "expired", ExpiresAt: &epoch})
	for id, want := range map[string]muster.Kind{"revoked": muster.Conflict, "expired": muster.Conflict, "none": muster.NotFound} {
		if res := l.do(fsm.OpKeyRotate, "", "", fsm.KeyRotate{ID: id}); muster.KindOf(res.Err()) != want {
			t.Errorf("%s: %v", id, res.Err())
		}
	}
}

func TestTheKeyOfANodeIsItsOwn(t *testing.T) {
	l := newLog(t)
	l.do(fsm.OpNodeRegister, "", "", external("1", "shop"))
	l.do(fsm.OpKeyCreate, "", "", fsm.KeyCreate{ID: "admin", Scopes: []string{"admin"}})
	rotate := func(node, key string) muster.Kind {
		res := l.do(fsm.OpNodeKey, "", "", fsm.NodeKey{NodeID: node, Rotate: &fsm.KeyRotate{ID: key, Hash: [32]byte{9}}})
		if res.Err() == nil {
			return ""
		}
		return muster.KindOf(res.Err())
	}
	if kind := rotate("1", "k1"); kind != "" {
		t.Errorf("its own: %s", kind)
	}
	if kind := rotate("1", "admin"); kind != muster.Forbidden {
		t.Errorf("another one: %s", kind)
	}
	if kind := rotate("2", "k1"); kind != muster.NotFound {
		t.Errorf("of no node: %s", kind)
	}
	l.do(fsm.OpNodeKey, "", "", fsm.NodeKey{NodeID: "1", Create: &fsm.KeyCreate{ID: "new", NodeID: "2"}})
	if k, ok := l.m.Key("new"); !ok || k.NodeID != "1" {
		t.Errorf("a new one: %+v", k)
	}
}
