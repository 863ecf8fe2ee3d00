package muster_test

import (
	"encoding/json"
	"testing"
	"time"

	"muster"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAScopeGrantsWhatItSaysAndNoMore(t *testing.T) {
	for _, c := range []struct {
		have, want string
		ok         bool
	}{
		{"search", "search", true},
		{"search", "index", false},
		{"admin", "index", true},
		{"admin", "run:app.deploy", true},
		{"admin", "node", false},
		{"node", "node", true},
		{"run:app.*", "run:app.deploy", true},
		{"run:app.*", "run:web.deploy", false},
		{"run:app.?", "run:app.*", false},
		{"run:app.[*]", "run:app.*", false},
		{"run:*", "run:app.*", true},
		{"run:app.*", "run:app.*", true},
		{"run:[", "run:x", false},
		{"", "public", true},
		{"", "read", false},
	} {
		r := muster.Rights{Principal: "key:1", Scopes: []string{c.have}}
		if got := r.May(c.want); got != c.ok {
			t.Errorf("%q for %q: %v", c.have, c.want, got)
		}
	}
	if (muster.Rights{}).May(muster.ScopeAny) {
		t.Error("nobody passes for somebody")
	}
}

func TestOnlyRealScopesCanBeGranted(t *testing.T) {
	for scope, ok := range map[string]bool{
		"read": true, "run:*": true, "run:app.deploy": true, "run:": false, "run:[": false, "node": false, "": false, "READ": false,
	} {
		if got := muster.ValidScope(scope); got != ok {
			t.Errorf("%q: %v", scope, got)
		}
	}
}

func TestAKeyIsNeverMoreThanTheOneThatMadeIt(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	later := noon.Add(time.Hour)
	low := muster.Rights{MaxRisk: muster.RiskLow, ExpiresAt: &noon}
	for _, c := range []struct {
		by       muster.Rights
		risk     muster.Risk
		end      *time.Time
		wantRisk muster.Risk
		wantEnd  *time.Time
	}{
		{muster.Rights{}, "", nil, "", nil},
		{muster.Rights{}, muster.RiskHigh, &later, muster.RiskHigh, &later},
		{low, "", nil, muster.RiskLow, &noon},
		{low, muster.RiskHigh, &later, muster.RiskLow, &noon},
		{low, muster.RiskRead, &noon, muster.RiskRead, &noon},
	} {
		if risk, end := c.by.Bound(c.risk, c.end); risk != c.wantRisk || end != c.wantEnd {
			t.Errorf("%+v gives %s %v", c, risk, end)
		}
	}
}

func TestTheEndOfAKeyTravelsWithItsRights(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	raw, err := json.Marshal(muster.Rights{Principal: "key:1", ExpiresAt: &noon})
	if err != nil {
		t.Fatal(err)
	}
	var back muster.Rights
	if err := json.Unmarshal(raw, &back); err != nil || back.Expired(noon.Add(-1)) || !back.Expired(noon) {
		t.Errorf("%s came back as %+v, %v", raw, back, err)
	}
	if (muster.Rights{}).Expired(noon) {
		t.Error("rights without an end have expired")
	}
}
