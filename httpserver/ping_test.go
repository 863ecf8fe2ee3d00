package httpserver_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/httpserver"
)

func TestAnAgentThatIsReachedFromElsewhereRegistersNothingOnLoopback(t *testing.T) {
	near, _ := serve(t, &house{})
	far, _ := serve(t, &house{}, func(c *httpserver.Config) { c.Distant = true })
	for url, loopback := range map[string]bool{
		"http://127.0.0.1:9/x": true, "http://localhost/": true, "http://shop.localhost:80": true, "http://[::1]:9": true,
		"http://127.1": true, "http://0x7f.1": true, "http://[::ffff:127.0.0.1]": true, "https://shop.example.org/": false, "http://10.0.0.7:80": false,
	} {
		body := `{"name":"shop","url":"` + url + `"}`
		if got := ask(t, "POST", near+"/v1/nodes", "mk_admin", body); got.code != 201 {
			t.Errorf("%s at an agent on loopback: %d %s", url, got.code, got.body)
		}
		got := ask(t, "POST", far+"/v1/nodes", "mk_admin", body)
		if refused := got.code == 422 && strings.Contains(got.body, `"url"`); refused != loopback {
			t.Errorf("%s: %d %s", url, got.code, got.body)
		}
	}
}

func TestACredentialMustFitIntoAHeader(t *testing.T) {
	base, _ := serve(t, &house{})
	for credential, code := range map[string]int{"abc-123": 201, `a b`: 422, `a\nb`: 422, "ä": 422, strings.Repeat("x", 4097): 422} {
		got := ask(t, "POST", base+"/v1/nodes", "mk_admin", `{"name":"shop","url":"http://h/","credential":"`+credential+`"}`)
		if got.code != code || code == 422 && !strings.Contains(got.body, `"credential"`) || strings.Contains(got.body, credential) {
			t.Errorf("%.20s: %d %s", credential, got.code, got.body)
		}
	}
}

// led is a house with a master.
type led struct {
	*house

	master string
}

func (l led) Status() muster.ClusterStatus {
	return muster.ClusterStatus{Master: &muster.MasterRef{ID: l.master}}
}

func (l led) Ping(_ context.Context, nodes []muster.Node) muster.Pings {
	return muster.Pings{Total: len(nodes), Healthy: len(nodes)}
}

func TestPingsAreDoneByTheMasterOneHopAway(t *testing.T) {
	h := &house{nodes: []muster.Node{{ID: "1", Slug: "a"}, {ID: "2", Slug: "b"}, {ID: "3", Slug: "gone", DeletedAt: new(time.Now())}}}
	follower, _ := serve(t, h, func(c *httpserver.Config) { c.Cluster, c.Pinger = led{h, "2"}, led{h, "2"} })
	if got := ask(t, "POST", follower+"/v1/nodes/b/ping", "mk_registry", ""); got.code != 200 || len(h.sent) != 1 || h.sent[0].Path != "/v1/nodes/b/ping" {
		t.Fatalf("%d %s, sent %v", got.code, got.body, h.sent)
	}
	master, _ := serve(t, h, func(c *httpserver.Config) { c.Cluster, c.Pinger = led{h, "1"}, led{h, "1"} })
	if got := ask(t, "POST", master+"/v1/nodes/ping", "mk_registry", ""); got.code != 200 || !strings.Contains(got.body, `"total":2`) || len(h.sent) != 1 {
		t.Fatalf("%d %s, sent %v", got.code, got.body, h.sent)
	}
	if got := ask(t, "POST", master+"/v1/nodes/gone/ping", "mk_registry", ""); got.code != 404 {
		t.Fatalf("a deleted node: %d %s", got.code, got.body)
	}
}
