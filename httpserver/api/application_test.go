package api_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"muster"
	"muster/httpserver/api"
)

func answering(t *testing.T, status int, body string) api.Application {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return api.Application{URL: s.URL, HTTP: s.Client(), Credential: "secret"}
}

func TestAnApplicationsHealthIsReadForWhatItSays(t *testing.T) {
	for _, c := range []struct {
		status     int
		body       string
		ok         bool
		version    string
		capability string
	}{
		{200, `{"status":"healthy","ready":true,"version":"2","capabilities":["search","search","BAD ONE"]}`, true, "2", "search"},
		{200, `{}`, true, "", ""},
		{200, `{"version":7,"capabilities":"all"}`, true, "", ""},
		{200, `{"version":"1\u001b[2J"}`, true, "", ""},
		{200, `{"ready":false,"status":"healthy"}`, false, "", ""},
		{200, `{"status":"unhealthy"}`, false, "", ""},
		{503, `{"status":"unhealthy","ready":false}`, false, "", ""},
		{200, `<html>`, false, "", ""},
		{302, ``, false, "", ""},
	} {
		v, err := answering(t, c.status, c.body).Health(t.Context())
		words := ""
		for _, word := range v.Capabilities {
			words += string(word)
		}
		if (err == nil) != c.ok || v.Version != c.version || words != c.capability {
			t.Errorf("%d %s: %+v %v", c.status, c.body, v, err)
		}
	}
}

func TestAnApplicationsSearchIsTakenAsTheProtocolSaysOrNotAtAll(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{`{"results":[{"id":"1","title":"t"},{"id":22,"content":"c","score":0.5,"extra":[]}],"total_results":9}`, "1 22"},
		{`{"results":[]}`, ""},
		{`{"results":[{"id":"1","title":"t"},{"id":"2","title":"t"},{"id":"3","title":"t"},{"id":"4","title":"t"}]}`, "1 2 3"},
		{`{"results":null}`, "bad_answer"},
		{`{"hits":[]}`, "bad_answer"},
		{`[]`, "bad_answer"},
		{`<html>`, "bad_answer"},
		{``, "bad_answer"},
		{`{"results":[{"id":"1"}]}`, "bad_answer"},
		{`{"results":[{"title":"t"}]}`, "bad_answer"},
		{`{"results":[{"id":"1","title":["t"]}]}`, "bad_answer"},
		{`{"results":[{"id":"1","title":"` + "\xff" + `"}]}`, "bad_answer"},
		{`{"results":[{"id":"1","title":"` + strings.Repeat("x", 4<<20) + `"}]}`, "answer_too_large"},
	} {
		hits, err := answering(t, 200, c.body).Search(t.Context(), muster.OwnQuery{Query: "q", Limit: 3})
		got := muster.CodeOf(err)
		if err == nil {
			list := make([]string, 0, 3)
			for _, h := range hits.Hits {
				list = append(list, h.ID)
			}
			got = strings.Join(list, " ")
		}
		if got != c.want || err == nil && hits.Matched < len(hits.Hits) {
			t.Errorf("%.80s: %s %v", c.body, got, err)
		}
	}
}

func TestAnApplicationsWordOnAnActionBecomesAResult(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		state  muster.State
		code   string
	}{
		{200, `{"success":true,"result":{"a":1}}`, muster.StateOK, ""},
		{200, `{"success":true,"state":"noop"}`, muster.StateNoop, ""},
		{200, `{"success":true,"state":"failed"}`, muster.StateOK, ""},
		{200, `{"success":false,"error":{"code":"full","message":"no room"}}`, muster.StateFailed, "full"},
		{200, `{"success":false}`, muster.StateFailed, "failed"},
		{200, `{}`, "", "bad_answer"},
		{202, `{"job":"j"}`, "", "still_running"},
		{400, `{"message":"no such action","code":"unknown_action"}`, "", "unknown_action"},
		{503, `{"message":"trust me","code":"circuit_open"}`, "", "unavailable"},
		{500, ``, "", "internal"},
	} {
		r, err := answering(t, c.status, c.body).Execute(t.Context(), muster.Execution{Action: "app.x", Job: "j1"})
		code := muster.CodeOf(err)
		if err == nil {
			code = ""
		}
		if r.Error != nil {
			code = r.Error.Code
		}
		if r.State != c.state || code != c.code {
			t.Errorf("%d %s: %+v %v", c.status, c.body, r, err)
		}
	}
}

func TestNoRedirectCarriesACredentialAway(t *testing.T) {
	stolen := ""
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { stolen = r.Header.Get("Authorization") }))
	defer thief.Close()
	s := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusTemporaryRedirect))
	defer s.Close()
	a := api.Application{URL: s.URL, HTTP: s.Client(), Credential: "secret"}
	if _, err := a.Search(t.Context(), muster.OwnQuery{Query: "q", Limit: 1}); muster.CodeOf(err) != "redirected" || stolen != "" {
		t.Fatal(err, stolen)
	}
}

func TestTheGuardJudgesTheAddressThatIsDialledNotTheName(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		host     string
		loopback bool
		refused  bool
	}{
		{"127.0.0.1", true, false},
		{"127.0.0.1", false, true},
		{"localhost", false, true}, // a name that leads to loopback, as a rebound one does
		{"[::ffff:127.0.0.1]", false, true},
		{"0.0.0.0", true, true},
		{"169.254.169.254", true, true},
		{"[fe80::1]", true, true},
		{"[fd00:ec2::254]", true, true},
		{"[64:ff9b::a9fe:a9fe]", true, true},
		{"224.0.0.1", true, true},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		conn, err := api.Guard{Loopback: c.loopback}.Dialer().DialContext(ctx, "tcp", c.host+":"+port)
		cancel()
		if conn != nil {
			_ = conn.Close()
		}
		refused := muster.CodeOf(err) == "bad_address"
		if refused != c.refused {
			t.Errorf("%s, loopback %v: %v", c.host, c.loopback, err)
		}
	}
}
