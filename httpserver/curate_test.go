package httpserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"muster"
	"muster/httpserver/api"
)

func (h *house) Find(slug string) (muster.Node, bool) {
	for _, n := range h.Nodes() {
		if n.Slug == slug && n.DeletedAt == nil {
			return n, true
		}
	}
	return muster.Node{}, false
}

func (h *house) Capable(c muster.Capability) (out []muster.Node) {
	for _, n := range h.Nodes() {
		if n.Can(c) {
			out = append(out, n)
		}
	}
	return out
}

func (h *house) UpdateNode(_ context.Context, _ muster.Write, e muster.Edit, change muster.NodeChange) (muster.Node, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.edit = e
	n := muster.Node{Slug: e.Slug}
	if change.Name != nil {
		n.Name = *change.Name
	}
	return n, nil
}

func (h *house) DeleteNode(_ context.Context, _ muster.Write, e muster.Edit) (muster.Node, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.edit = e
	return muster.Node{Slug: e.Slug}, nil
}

func (h *house) RestoreNode(_ context.Context, _ muster.Write, slug string) (muster.Node, error) {
	return muster.Node{Slug: slug}, nil
}

func (h *house) SyncNodes(_ context.Context, _ muster.Write, s muster.Sync, apply bool) (p muster.SyncPlan, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.synced = s
	p.Invalid, p.Applied = s.Invalid, apply && len(s.Invalid) == 0
	if apply && !p.Applied {
		err = muster.Errorf(muster.Invalid, "nothing was written").WithCode("invalid_rows")
	}
	return p, err
}

func (h *house) CleanupNodes(_ context.Context, _ muster.Write, what muster.Cleanup, apply bool) (muster.CleanupPlan, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cleaned = what
	return muster.CleanupPlan{Applied: apply}, nil
}

func TestAChangeOfANodeIsCheckedFieldByField(t *testing.T) {
	base, _ := serve(t, &house{})
	deep := strings.Repeat(`{"a":`, 8) + "1" + strings.Repeat("}", 8)
	for _, c := range [][2]string{
		{`{"name":""}`, "name"},
		{`{"name":"a\u001b[2Jb"}`, "name"},
		{`{"slug":"Not A Slug"}`, "slug"},
		{`{"slug":""}`, "slug"},
		{`{"url":"ftp://x"}`, "url"},
		{`{"url":"http://169.254.169.254"}`, "url"},
		{`{"type":"master"}`, "type"},
		{`{"type":"queen"}`, "type"},
		{`{"status":"error"}`, "status"},
		{`{"status":"asleep"}`, "status"},
		{`{"weight":0}`, "weight"},
		{`{"weight":"1"}`, "weight"},
		{`{"capabilities":["Search"]}`, "capabilities"},
		{`{"capabilities":["a","a"]}`, "capabilities"},
		{`{"version":"` + strings.Repeat("1", 65) + `"}`, "version"},
		{`{"description":"` + strings.Repeat("x", 5000) + `"}`, "description"},
		{`{"metadata":{"x":"` + strings.Repeat("y", 17000) + `"}}`, "metadata"},
		{`{"metadata":{"x":` + deep + `}}`, "metadata"},
		{`{"metadata":{"":1}}`, "metadata"},
		{`{"nosuch":1}`, "nosuch"},
		{`{"Name":"x"}`, "Name"},
		{`{"name":"x","name":"y"}`, "name"},
	} {
		got := ask(t, "PATCH", base+"/v1/nodes/shop", "mk_registry", c[0])
		var e api.Error
		if err := json.Unmarshal([]byte(got.body), &e); err != nil || got.code != 422 || e.Errors[c[1]] == nil {
			t.Errorf("%.60s: %d %.200s", c[0], got.code, got.body)
		}
	}
	good := `{"name":"Shop","status":"maintenance","weight":1000,"metadata":{"x":` + deep[5:len(deep)-1] + `,"gone":null},"capabilities":[]}`
	if got := ask(t, "PATCH", base+"/v1/nodes/shop", "mk_registry", good); got.code != 200 || !strings.Contains(got.body, `"name":"Shop"`) {
		t.Errorf("%d %s", got.code, got.body)
	}
}

func TestAWeightOfZeroIsRefusedNotTakenForOneThatWasLeftOut(t *testing.T) {
	h := &house{}
	base, _ := serve(t, h)
	for request, body := range map[string]string{
		"POST /v1/nodes":               `{"name":"Shop","url":"http://shop","weight":0}`,
		"POST /api/ai-engine/register": `{"name":"Shop","url":"http://shop","weight":0}`,
		"PATCH /v1/nodes/shop":         `{"weight":0}`,
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := ask(t, method, base+path, "mk_registry", body); got.code != 422 || !strings.Contains(got.body, "must be from 1 to 1000") {
			t.Errorf("%s: %d %s", request, got.code, got.body)
		}
	}
	got := ask(t, "POST", base+"/v1/nodes/sync", "mk_registry", `{"nodes":[{"name":"Shop","url":"http://shop","weight":0}]}`)
	if got.code != 200 || len(h.synced.Invalid) != 1 || !strings.Contains(h.synced.Invalid[0].Reason, "must be from 1 to 1000") {
		t.Errorf("sync: %d %s %+v", got.code, got.body, h.synced)
	}
}

func TestIfMatchSaysWhichRecordTheCallerHasSeen(t *testing.T) {
	h := &house{}
	base, _ := serve(t, h)
	for text, want := range map[string]int{"": -1, "*": -1, "7": 7, `"8"`: 8, `"`: 422, "x": 422, "-1": 422, `W/"7"`: 422} {
		for method, body := range map[string]string{"PATCH": "{}", "DELETE": ""} {
			got := ask(t, method, base+"/v1/nodes/shop", "mk_registry", body, "If-Match", text)
			switch {
			case want == 422 && got.code == 422:
			case want < 0 && got.code == 200 && h.edit.Seen == nil:
			case got.code == 200 && h.edit.Seen != nil && *h.edit.Seen == uint64(want): //nolint:gosec // a few small numbers
			default:
				t.Errorf("%s with %q: %d %s, seen %v", method, text, got.code, got.body, h.edit.Seen)
			}
		}
	}
}

func TestABadRowIsReportedBesideTheGoodOnes(t *testing.T) {
	h := &house{}
	base, _ := serve(t, h)
	body := `{"apply":%v,"prune":true,"nodes":[{"name":"shop","url":"http://shop"},{"name":"wiki","slug":"w","url":"wiki.example.org"},{"name":1},7,{"url":"http://x","credential":"c"}]}`
	got := ask(t, "POST", base+"/v1/nodes/sync", "mk_registry", fmt.Sprintf(body, false))
	if got.code != 200 || len(h.synced.Rows) != 1 || h.synced.Rows[0].Row != 1 || !h.synced.Prune || len(h.synced.Invalid) != 4 {
		t.Fatalf("%d %s\n%+v", got.code, got.body, h.synced)
	}
	if f := h.synced.Invalid[0]; f.Row != 2 || f.Slug != "w" || !strings.HasPrefix(f.Reason, "url ") || f.Suggestion != "url: https://wiki.example.org" {
		t.Errorf("%+v", f)
	}
	for _, f := range h.synced.Invalid {
		if f.Reason == "" || f.Suggestion == "" {
			t.Errorf("%+v", f)
		}
	}
	got = ask(t, "POST", base+"/v1/nodes/sync", "mk_registry", fmt.Sprintf(body, true))
	if got.code != 422 || !strings.Contains(got.body, `"invalid_rows"`) || !strings.Contains(got.body, `"suggestion"`) {
		t.Errorf("applied: %d %s", got.code, got.body)
	}
	for _, bad := range []string{`{}`, `{"nodes":{"shop":{}}}`, `{"nodes":[],"nosuch":1}`, ``} {
		if got := ask(t, "POST", base+"/v1/nodes/sync", "mk_registry", bad); got.code/100 != 4 {
			t.Errorf("%s: %d", bad, got.code)
		}
	}
}

func TestACleanupIsADryRunOfTwoWeeksUnlessSaidOtherwise(t *testing.T) {
	h := &house{}
	base, _ := serve(t, h)
	got := ask(t, "POST", base+"/v1/nodes/cleanup", "mk_registry", "")
	if got.code != 200 || h.cleaned.Days != 14 || fmt.Sprint(h.cleaned.Statuses) != "[error inactive]" || !strings.Contains(got.body, `"applied":false`) {
		t.Errorf("%d %s %+v", got.code, got.body, h.cleaned)
	}
	got = ask(t, "POST", base+"/v1/nodes/cleanup", "mk_registry", `{"days":0,"statuses":["maintenance"],"apply":true}`)
	if got.code != 200 || h.cleaned.Days != 0 || fmt.Sprint(h.cleaned.Statuses) != "[maintenance]" || !strings.Contains(got.body, `"applied":true`) {
		t.Errorf("%d %s %+v", got.code, got.body, h.cleaned)
	}
	for _, bad := range []string{`{"days":-1}`, `{"days":3651}`, `{"days":"2"}`, `{"statuses":[]}`, `{"statuses":["asleep"]}`} {
		if got := ask(t, "POST", base+"/v1/nodes/cleanup", "mk_registry", bad); got.code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", bad, got.code, got.body)
		}
	}
}

func TestStatsCountEachNodeThatIsNotDeletedOnce(t *testing.T) {
	node := func(status muster.Status, healthy bool, ms float64, caps ...muster.Capability) muster.Node {
		return muster.Node{Type: muster.TypeChild, Status: status, Healthy: healthy, AvgResponseTime: &ms, Capabilities: caps}
	}
	gone := node(muster.StatusActive, true, 1000, "search")
	gone.DeletedAt = &gone.CreatedAt
	master := node(muster.StatusActive, true, 10, "search", "actions")
	master.Type = muster.TypeMaster
	base, _ := serve(t, &house{nodes: []muster.Node{
		master, node(muster.StatusActive, false, 20, "search"), node(muster.StatusError, false, 500),
		node(muster.StatusMaintenance, false, 500), node(muster.StatusInactive, false, 500), gone,
	}})
	got := ask(t, "GET", base+"/v1/stats", "mk_read", "")
	want := `{"total":5,"active":2,"inactive":1,"maintenance":1,"error":1,"healthy":1,"by_type":{"child":4,"master":1},"by_capability":{"actions":1,"search":2},"avg_response_time":15}`
	if got.code != 200 || got.body != want {
		t.Errorf("%d %s", got.code, got.body)
	}
	empty, _ := serve(t, &house{})
	if got := ask(t, "GET", empty+"/v1/stats", "mk_read", ""); !strings.Contains(got.body, `"avg_response_time":null`) || !strings.Contains(got.body, `"by_type":{}`) {
		t.Errorf("of nothing: %s", got.body)
	}
}
