package actions_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster"
	"muster/actions"
)

// versions is a catalog of one action.
type versions []muster.ActionInfo

func (v versions) Versions(string) []muster.ActionInfo { return v }

func (f *fleet) knowing(v versions) *actions.Runner {
	return actions.NewRunner(actions.RunnerConfig{Self: "id-a", Catalog: v}, f, f.executors["id-a"], f)
}

func described(params string, risk muster.Risk, slugs ...string) muster.ActionInfo {
	return muster.ActionInfo{Action: "app.x", Version: "1.0.0", Digest: params, Risk: risk, Params: json.RawMessage(params), Nodes: slugs}
}

func TestARunThatAllItsNodesWouldRefuseIsRefusedBeforeAnybodyIsAsked(t *testing.T) {
	f := newFleet(t, 4)
	for _, slug := range []string{"b", "c", "d"} {
		f.answers[slug] = muster.Result{State: muster.StateOK}
	}
	v := versions{described(`{"n":{"type":"int","max":5,"required":true}}`, muster.RiskLow, "b"), described(`{"n":{"type":"int","max":9,"required":true}}`, muster.RiskHigh, "c")}
	low := muster.Rights{Principal: "key:1", Scopes: []string{"run:*"}, MaxRisk: muster.RiskLow}
	for _, c := range []struct {
		name, params string
		on           muster.Selector
		by           muster.Rights
		kind         muster.Kind
		says         string
	}{
		{"too much for both", `{"n":10}`, names("b", "c"), operator(), muster.Invalid, "n: must be at most 5"},
		{"one takes it", `{"n":9}`, names("b", "c"), operator(), "", ""},
		{"not that one", `{"n":9}`, names("b"), operator(), muster.Invalid, "n: must be at most 5"},
		{"nobody knows d", `{"n":10}`, names("b", "d"), operator(), "", ""},
		{"no such parameter", `{"n":1,"m":1}`, names("b"), operator(), muster.Invalid, "m: is no parameter"},
		{"missing", `{}`, names("b"), operator(), muster.Invalid, "n: must be given"},
		{"too risky", `{"n":1}`, names("c"), low, muster.Forbidden, "risk high"},
		{"not everywhere", `{"n":1}`, names("b", "c"), low, "", ""},
	} {
		f.calls = nil
		_, err := f.knowing(v).Run(t.Context(), c.by, muster.Run{Action: "app.x", Params: given(t, c.params), On: c.on})
		if err == nil && c.kind == "" && len(f.called()) == len(*c.on.Nodes) {
			continue
		}
		if muster.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) || len(f.called()) > 0 {
			t.Errorf("%s: %v, asked %v", c.name, err, f.called())
		}
	}
}

func TestTheRiskThatAnyNodeDescribesBoundsAnApplication(t *testing.T) {
	f := newFleet(t, 2)
	f.nodes[1].Kind = muster.KindExternal
	f.answers["b"] = muster.Result{State: muster.StateOK}
	low := muster.Rights{Principal: "key:1", Scopes: []string{"run:*"}, MaxRisk: muster.RiskLow}
	for risk, want := range map[muster.Risk]string{muster.RiskLow: "b:ok", muster.RiskHigh: "b:denied/risk"} {
		a, err := f.knowing(versions{described(`{}`, risk, "c")}).Run(t.Context(), low, muster.Run{Action: "app.x", On: names("b")})
		if err != nil || told(a) != want {
			t.Errorf("%s: %s %v", risk, told(a), err)
		}
	}
}

func TestANodeThatCannotBeReachedIsAskedAgainWhereItsActionHasItSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			retry string
			err   muster.Kind
			calls int
			takes time.Duration
		}{
			{``, muster.Unavailable, 1, 0},
			{`{"attempts":3,"first_ms":1000,"max_ms":30000,"on":["unavailable"]}`, muster.Unavailable, 3, 3 * time.Second},
			{`{"attempts":4,"first_ms":1000,"max_ms":2000,"on":["unavailable"]}`, muster.Unavailable, 4, 5 * time.Second},
			{`{"attempts":3,"first_ms":1000,"on":["timeout"]}`, muster.Unavailable, 1, 0},
			{`{"attempts":3,"first_ms":1000,"on":["unavailable"]}`, muster.OutcomeUnknown, 1, 0}, // it may have been done
		} {
			f := newFleet(t, 2)
			f.errs["b"] = muster.Errorf(c.err, "refused")
			info := described(`{}`, muster.RiskLow, "b")
			if c.retry != "" {
				if err := json.Unmarshal([]byte(c.retry), &info.Retry); err != nil {
					t.Fatal(err)
				}
			}
			began := time.Now()
			a, err := f.knowing(versions{info}).Run(t.Context(), operator(), muster.Run{Action: "app.x", On: names("b")})
			if err != nil || len(f.called()) != c.calls || time.Since(began) != c.takes || a.FailureCount != 1 || c.err == muster.Unavailable && told(a) != "b:unreachable/unavailable" {
				t.Errorf("%s: %d calls in %v, %s %v", c.retry, len(f.called()), time.Since(began), told(a), err)
			}
		}
	})
}

func TestAJobThatRestsBetweenTwoTriesEndsWhenItIsCancelledOrItsNodeStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for status, end := range map[string]func(*actions.Runner, string) error{
			muster.JobCancelled: func(r *actions.Runner, job string) error {
				_, err := r.Cancel(t.Context(), operator(), job)
				return err
			},
			muster.JobInterrupted: func(r *actions.Runner, _ string) error { return r.Stop(t.Context()) },
		} {
			f := newFleet(t, 2)
			f.errs["b"] = muster.Errorf(muster.Unavailable, "refused")
			info := described(`{}`, muster.RiskLow, "b")
			info.Retry = &muster.TxRetry{Attempts: 100, FirstMs: 9000, MaxMs: 9000, On: []string{"unavailable"}}
			began, r := time.Now(), f.knowing(versions{info})
			a, err := r.Run(t.Context(), operator(), muster.Run{Action: "app.x", On: names("b")})
			if err != nil || a.Status != muster.JobRunning || told(a) != "b:pending" || len(f.called()) != 4 || time.Since(began) != 30*time.Second {
				t.Errorf("when the wait ends: %d calls in %v, %s %s %v", len(f.called()), time.Since(began), a.Status, told(a), err)
			}
			if err := end(r, a.Job); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			a, err = r.Job(a.Job)
			if err != nil || a.Status != status || told(a) != "b:unreachable/unavailable" || len(f.called()) != 4 || time.Since(began) != 30*time.Second {
				t.Errorf("%s: %d calls in %v, %s %s %v", status, len(f.called()), time.Since(began), a.Status, told(a), err)
			}
		}
	})
}

func TestAJobIsNotTriedAgainWhereAllWouldRefuseIt(t *testing.T) {
	f := newFleet(t, 2)
	f.answers["b"] = muster.Result{State: muster.StateFailed}
	v := versions{described(`{}`, muster.RiskLow, "b")}
	r := f.knowing(v)
	low := muster.Rights{Principal: "key:1", Scopes: []string{"run:*"}, MaxRisk: muster.RiskLow}
	old, err := r.Run(t.Context(), low, muster.Run{Action: "app.x", On: names("b")})
	if err != nil || told(old) != "b:failed" {
		t.Fatalf("%s %v", told(old), err)
	}
	v[0].Risk = muster.RiskHigh
	if _, err := r.Retry(t.Context(), low, old.Job, muster.Retry{}); muster.KindOf(err) != muster.Forbidden || len(f.called()) != 1 {
		t.Errorf("%v, asked %v", err, f.called())
	}
}
