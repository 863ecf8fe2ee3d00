package httpserver_test

import (
	"strings"
	"testing"
	"time"

	"muster"
)

func TestAKeyThatAsksForMoreThanItsMakerHasIsRefused(t *testing.T) {
	end := time.Now().Add(time.Hour)
	for _, c := range []struct {
		name string
		by   muster.Rights
		path string
		body string
		code int
		says string
	}{
		{"more risk", muster.Rights{MaxRisk: muster.RiskLow}, "/v1/keys", `{"name":"k","scopes":["read"],"max_risk":"high"}`, 403, `"max_risk"`},
		{"as much risk", muster.Rights{MaxRisk: muster.RiskLow}, "/v1/keys", `{"name":"k","scopes":["read"],"max_risk":"low"}`, 201, ""},
		{"a longer life", muster.Rights{ExpiresAt: &end}, "/v1/keys", `{"name":"k","scopes":["read"],"expires_in":"2h"}`, 403, `"expires_in"`},
		{"a shorter life", muster.Rights{ExpiresAt: &end}, "/v1/keys", `{"name":"k","scopes":["read"],"expires_in":"10m"}`, 201, ""},
		{"another scope", muster.Rights{Scopes: []string{"registry"}}, "/v1/nodes", `{"name":"k","url":"http://h/","scopes":["index"]}`, 403, "you do not hold index"},
		{"a wider glob", muster.Rights{Scopes: []string{"registry", "run:app.*"}}, "/v1/nodes", `{"name":"k","url":"http://h/","scopes":["run:*"]}`, 403, "you do not hold run:*"},
		{"its own glob", muster.Rights{Scopes: []string{"registry", "run:app.*"}}, "/v1/nodes", `{"name":"k","url":"http://h/","scopes":["run:app.*"]}`, 201, ""},
	} {
		h := &house{rights: c.by}
		h.rights.Principal = "key:2"
		if h.rights.Scopes == nil {
			h.rights.Scopes = []string{muster.ScopeAdmin}
		}
		base, _ := serve(t, h)
		if got := ask(t, "POST", base+c.path, "mk_rights", c.body); got.code != c.code || !strings.Contains(got.body, c.says) {
			t.Errorf("%s: %d %s", c.name, got.code, got.body)
		}
	}
}

func TestAKeyThatAsksForNoBoundsHasThoseOfItsMaker(t *testing.T) {
	end := time.Now().Add(time.Hour)
	h := &house{rights: muster.Rights{Principal: "key:2", Scopes: []string{"admin"}, MaxRisk: muster.RiskMedium, ExpiresAt: &end}}
	base, _ := serve(t, h)
	got := ask(t, "POST", base+"/v1/keys", "mk_rights", `{"name":"k","scopes":["read"]}`)
	life, err := time.ParseDuration(h.spec.ExpiresIn)
	if got.code != 201 || !strings.Contains(got.body, `"max_risk":"medium"`) || err != nil {
		t.Fatalf("%d %s, %v", got.code, got.body, err)
	}
	if made := time.Now().Add(life); made.After(end) || end.Sub(made) > 10*time.Second {
		t.Errorf("it lives until %v, its maker until %v", made, end)
	}
	soon := time.Now().Add(900 * time.Millisecond)
	h.rights.ExpiresAt = &soon
	if got := ask(t, "POST", base+"/v1/keys", "mk_rights", `{"name":"k","scopes":["read"]}`); got.code != 403 {
		t.Errorf("by a key about to expire: %d %s", got.code, got.body)
	}
}

func TestRightsThatHaveEndedAreWorthNothing(t *testing.T) {
	past := time.Now().Add(-time.Second)
	base, _ := serve(t, &house{rights: muster.Rights{Principal: "key:2", Scopes: []string{"admin"}, ExpiresAt: &past}})
	if got := ask(t, "GET", base+"/v1/nodes", "mk_rights", ""); got.code != 401 || !strings.Contains(got.body, "expired") {
		t.Errorf("%d %s", got.code, got.body)
	}
}

func TestAKeyIsShownOnceAndThenTheWayOut(t *testing.T) {
	h := &house{}
	base, _ := serve(t, h)
	asks := map[string]string{"/v1/keys": `{"name":"k","scopes":["read"]}`, "/v1/nodes": `{"name":"k","url":"http://h/"}`}
	for path, body := range asks {
		if got := ask(t, "POST", base+path, "mk_admin", body); got.code != 201 || !strings.Contains(got.body, `key":"mk_once"`) || strings.Contains(got.body, "hint") {
			t.Errorf("%s: %d %s", path, got.code, got.body)
		}
	}
	h.shown = nil // as after a restart, or at another node
	for path, body := range asks {
		if got := ask(t, "POST", base+path, "mk_admin", body); got.code != 201 || !strings.Contains(got.body, `key":null`) || !strings.Contains(got.body, "rotate") {
			t.Errorf("%s again: %d %s", path, got.code, got.body)
		}
	}
}

func TestTheURLOfANodeIsAnApplicationsAddress(t *testing.T) {
	base, _ := serve(t, &house{})
	for u, ok := range map[string]bool{
		"http://127.0.0.1:9/x": true, "https://shop.example": true, "http://h/base/": true, "http://[::1]:80/": true, "http://10.0.0.1/": true,
		"http://1.2.3.4.5/": true, "http://deadbeef/": true, "http://0x7f.1/": true, "HTTP://h/": true,
		"": false, "h:1": false, "ftp://h/": false, "http://": false, "http:///x": false, "/x": false, "http://u@h/": false, "http://u:p@h/": false,
		"http://h/?a=b": false, "http://h/?": false, "http://h/#f": false, "http://h/#": false,
		"http://h:0/": false, "http://h:65536/": false, "http://h:/": false, "http://h:65535/": true,
		"http://0.0.0.0/": false, "http://[::]/": false, "http://0/": false, "http://0x0/": false,
		"http://169.254.169.254/": false, "http://169.254.1.1./": false, "http://2852039166/": false, "http://0xA9FEA9FE/": false,
		"http://0251.0376.0251.0376/": false, "http://169.16689662/": false, "http://0xa9.254.0xa9fe/": false, "http://169.0376.169.254/": false,
		"http://[::ffff:169.254.169.254]/": false, "http://[64:ff9b::a9fe:a9fe]/": false, "http://[fe80::1]/": false, "http://[fe80::1%25eth0]/": false,
		"http://[fd00:ec2::254]/": false, "http://[fd00:0ec2:0::0254]/": false, "http://[fd00:ec2::253]/": true,
		"http://metadata.google.internal/": false, "http://Metadata.Google.Internal./": false, "http://100.100.100.200/": false,
		"http://" + strings.Repeat("h", 2048): false, "http://./": false,
	} {
		got := ask(t, "POST", base+"/v1/nodes", "mk_admin", `{"name":"shop","url":"`+u+`"}`)
		if ok != (got.code == 201) || !ok && !strings.Contains(got.body, `"url"`) {
			t.Errorf("%s: %d %s", u, got.code, got.body)
		}
	}
}
