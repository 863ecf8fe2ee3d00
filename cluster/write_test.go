package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"muster"
)

func TestWhatTheMasterRefusesToHearIsNotTheCallersFault(t *testing.T) {
	w := newWorld(t)
	_, b, _ := w.three()
	w.mu.Lock()
	w.refusal = muster.Errorf(muster.Unauthorized, "the call was signed 50s ago").WithCode("clock_skew")
	w.mu.Unlock()
	for what, call := range map[string]func(context.Context) error{
		"write": func(ctx context.Context) error { return b.RevokeKey(ctx, muster.Write{By: operator}, "k") },
		"read":  b.Linearize,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		err := call(ctx)
		cancel()
		if kind := muster.KindOf(err); kind != muster.NoMaster && kind != muster.OutcomeUnknown || !strings.Contains(err.Error(), "signed 50s ago") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestACleanupThatIsRepeatedWasDoneHoweverMuchItDid(t *testing.T) {
	w := newWorld(t)
	a := w.make("a", founder).start().entered()
	all := muster.Sync{}
	for i := range 200 {
		name, url := fmt.Sprint(strings.Repeat("n", 60), i), "http://127.0.0.1:9/x"
		all.Rows = append(all.Rows, muster.SyncRow{Row: i + 1, Change: muster.NodeChange{Name: &name, Slug: &name, URL: &url}})
	}
	if _, err := a.SyncNodes(t.Context(), muster.Write{By: operator}, all, true); err != nil {
		t.Fatal(err)
	}
	what := muster.Cleanup{Statuses: []muster.Status{muster.StatusActive, muster.StatusError}}
	write := muster.Write{By: operator, Route: "r", Key: "k", Digest: "d"}
	plan, err := a.CleanupNodes(t.Context(), write, what, true)
	if err != nil || !plan.Applied || len(plan.Delete) != 200 {
		t.Fatal(len(plan.Delete), err)
	}
	if plan, err = a.CleanupNodes(t.Context(), write, what, true); err != nil || !plan.Applied || plan.Delete == nil || plan.Purge == nil {
		t.Fatalf("%+v, %v", plan, err)
	}
}
