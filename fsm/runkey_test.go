package fsm_test

import (
	"testing"

	"muster"
	"muster/fsm"
)

func TestAKeyStandsForTheFirstJobAndForNothingElse(t *testing.T) {
	l := newLog(t)
	if res := l.do(fsm.OpRunKey, "operator run k", "d1", fsm.RunKey{Job: "j_1"}); res.Err() != nil || res.ID != "j_1" || res.Replayed {
		t.Errorf("%+v", res)
	}
	if res := l.do(fsm.OpRunKey, "operator run k", "d1", fsm.RunKey{Job: "j_2"}); res.Err() != nil || res.ID != "j_1" || !res.Replayed {
		t.Errorf("again: %+v", res)
	}
	if res := l.do(fsm.OpRunKey, "operator run k", "d2", fsm.RunKey{Job: "j_3"}); muster.KindOf(res.Err()) != muster.Conflict {
		t.Errorf("another body: %+v", res)
	}
	if res := l.do(fsm.OpRunKey, "key:1 run k", "d2", fsm.RunKey{Job: "j_4"}); res.Err() != nil || res.ID != "j_4" {
		t.Errorf("another caller: %+v", res)
	}
	if fsm.OpRunKey.Scope() != muster.ScopeAny {
		t.Error(fsm.OpRunKey.Scope())
	}
}
