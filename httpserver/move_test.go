package httpserver_test

import (
	"context"
	"testing"

	"muster"
)

func (h *house) Leave(context.Context, muster.Write) error { return nil }

func (h *house) Transfer(_ context.Context, to string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moved = append(h.moved, to)
	return nil
}

func TestATransferIsSentToTheMasterOnceAndDoneThere(t *testing.T) {
	h := &house{nodes: []muster.Node{{ID: "m", Kind: muster.KindAgent}}, master: "m"}
	base, _ := serve(t, h)
	if got := ask(t, "POST", base+"/v1/cluster/transfer", "mk_admin", `{"to":"c"}`); got.body != `{"to":"m"}` || string(h.sent[0].Body) != `{"to":"c"}` {
		t.Errorf("not sent on: %d %s", got.code, got.body)
	}
	h.master = "1"
	if got := ask(t, "POST", base+"/v1/cluster/transfer", "mk_admin", `{"to":"c"}`); got.code != 200 || len(h.moved) != 1 || h.moved[0] != "c" {
		t.Errorf("not done: %d %s", got.code, got.body)
	}
	if got := ask(t, "POST", base+"/v1/cluster/transfer", "mk_admin", `{"at":"c"}`); got.code != 422 {
		t.Errorf("an unknown field: %d %s", got.code, got.body)
	}
}
