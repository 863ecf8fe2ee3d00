package actions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster"
	"muster/actions"
)

// hook defines an action that calls an application.
func hook(t *testing.T, url, handler, rest string) actions.Definition {
	t.Helper()
	return define(t, "app.hook", "handler: {kind: http, url: "+url+handler+"}\n"+rest+"\n")
}

// application serves what a function says, on this machine.
func application(t *testing.T, serve http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(serve)
	t.Cleanup(s.Close)
	return s
}

func TestAnApplicationIsGivenTheParametersAndWhatTheCallIsFor(t *testing.T) {
	var got *http.Request
	var body []byte
	s := application(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, `{"sum":3,"big":9007199254740993}`)
	})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("let-me-in\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := hook(t, s.URL+"/hooks/add", ", token_file: "+token, "params: {n: {type: int, required: true}, text: {type: string}}\ncheck: {kind: http, url: "+s.URL+"/try}")
	e := executor(t, actions.ExecutorConfig{}, d)
	r := run(t, e, "app.hook", `{"n":9007199254740993,"text":"a \"b\"\n<"}`)
	if r.State != muster.StateOK || string(r.Result) != `{"sum":3,"big":9007199254740993}` {
		t.Fatalf("%s %s %+v", r.State, r.Result, r.Error)
	}
	if string(body) != `{"n":9007199254740993,"text":"a \"b\"\n<"}` || got.Method != http.MethodPost || got.URL.Path != "/hooks/add" {
		t.Errorf("%s %s %s", got.Method, got.URL, body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Idempotency-Key": "j_1.n-self", "Muster-Action": "app.hook", "Muster-Job": "j_1", "Muster-Node": "n-self",
		"Muster-Check": "", "Authorization": "Bearer let-me-in",
	} {
		if got.Header.Get(name) != want {
			t.Errorf("%s is %q", name, got.Header.Get(name))
		}
	}
	r = e.Execute(t.Context(), operator(), muster.Execution{Action: "app.hook", Params: given(t, `{"n":1}`), Job: "j_2", Check: true})
	if r.State != muster.StateOK || got.Header.Get("Muster-Check") != "1" || got.URL.Path != "/try" || got.Header.Get("Authorization") != "" {
		t.Errorf("dry run: %s, %s %v", r.State, got.URL, got.Header)
	}
}

func TestAnApplicationsStatusSaysWhatBecameOfTheAction(t *testing.T) {
	var status int
	var says, result string
	s := application(t, func(w http.ResponseWriter, _ *http.Request) {
		if status >= 300 && status < 400 {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, says)
	})
	for _, c := range []struct {
		status     int
		says       string
		declared   string
		state      muster.State
		code, text string
	}{
		{200, `{"a":1}`, "", muster.StateOK, "", `{"a":1}`},
		{201, `"x"`, "", muster.StateOK, "", `"x"`},
		{202, "queued <b>", "", muster.StateOK, "", `{"text":"queued \u003cb\u003e"}`},
		{200, "", "", muster.StateOK, "", `{}`},
		{200, `{"a":1}`, "result: {b: {type: int}}", muster.StateFailed, "bad_result", "has no field b"},
		{200, "no JSON", "result: {b: {type: int}}", muster.StateFailed, "bad_result", "is not JSON"},
		{200, strings.Repeat("x", 2000), "limits: {output: 1KiB}", muster.StateFailed, "result_too_large", "1024 bytes"},
		{409, `{"message":"no stock"}`, "", muster.StateFailed, "http_409", "409: no stock"},
		{409, `{"error":"sold out"}`, "", muster.StateFailed, "http_409", "409: sold out"},
		{422, `{"message":"sku"}`, "", muster.StateInvalid, "invalid_params", "422: sku"},
		{301, "", "", muster.StateUnknown, "http_301", "redirects are not followed"},
		{302, "", "", muster.StateUnknown, "http_302", "redirects are not followed"},
		{400, "", "", muster.StateUnknown, "http_400", "answered 400"},
		{404, "", "", muster.StateUnknown, "http_404", "answered 404"},
		{429, "", "", muster.StateUnknown, "http_429", "answered 429"},
		{500, "stack", "", muster.StateUnknown, "http_500", "answered 500"},
		{503, "", "", muster.StateUnknown, "http_503", "answered 503"},
	} {
		status, says = c.status, c.says
		r := run(t, executor(t, actions.ExecutorConfig{}, hook(t, s.URL, "", c.declared)), "app.hook", `{}`)
		result = string(r.Result)
		if r.Error != nil {
			result = r.Error.Message
		}
		if r.State != c.state || r.Error != nil && r.Error.Code != c.code || !strings.Contains(result, c.text) || (r.Error == nil) != (c.code == "") {
			t.Errorf("%d %q: %s %s %+v", c.status, c.says, r.State, r.Result, r.Error)
		}
	}
}

func TestAnApplicationThatIsNotDoneIsAskedAgainUntilItIs(t *testing.T) {
	var mu sync.Mutex
	var keys []string
	s := application(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		w.Header().Set("Retry-After", "0")
		if len(keys) < 4 {
			w.WriteHeader(http.StatusTooEarly)
		}
	})
	r := run(t, executor(t, actions.ExecutorConfig{}, hook(t, s.URL, "", "")), "app.hook", `{}`)
	if r.State != muster.StateOK || strings.Join(keys, " ") != "j_1.n-self j_1.n-self j_1.n-self j_1.n-self" {
		t.Errorf("%s %+v, %v", r.State, r.Error, keys)
	}
	keys = nil
	s = application(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooEarly) })
	r = run(t, executor(t, actions.ExecutorConfig{}, hook(t, s.URL, "", "limits: {timeout: 50ms}")), "app.hook", `{}`)
	if r.State != muster.StateTimeout || r.Error.Code != "timeout" {
		t.Errorf("never done: %s %+v", r.State, r.Error)
	}
}

func TestAnApplicationThatHangsIsLeftAtTheLimit(t *testing.T) {
	hung := make(chan struct{})
	s := application(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, "{")
		_ = http.NewResponseController(w).Flush()
		<-hung
	})
	defer close(hung)
	e := executor(t, actions.ExecutorConfig{}, hook(t, s.URL, "", "limits: {timeout: 50ms}"))
	if r := run(t, e, "app.hook", `{}`); r.State != muster.StateTimeout || r.Error.Code != "timeout" {
		t.Errorf("%s %+v", r.State, r.Error)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	r := executor(t, actions.ExecutorConfig{}, hook(t, s.URL, "", "")).Execute(ctx, operator(), muster.Execution{Action: "app.hook", Job: "j_1"})
	if r.State != muster.StateCancelled {
		t.Errorf("cancelled: %s %+v", r.State, r.Error)
	}
}

func TestAnApplicationThatCannotBeReachedDidNothingAndOneThatHangsUpMayHave(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := run(t, executor(t, actions.ExecutorConfig{}, hook(t, nobody, "", "")), "app.hook", `{}`); r.State != muster.StateFailed || r.Error.Code != "no_connection" {
		t.Errorf("%s %+v", r.State, r.Error)
	}
	s := application(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	})
	if r := run(t, executor(t, actions.ExecutorConfig{}, hook(t, s.URL, "", "")), "app.hook", `{}`); r.State != muster.StateUnknown || r.Error.Code != "no_answer" {
		t.Errorf("%s %+v", r.State, r.Error)
	}
	s = application(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"half":`)
	})
	if r := run(t, executor(t, actions.ExecutorConfig{}, hook(t, s.URL, "", "")), "app.hook", `{}`); r.State != muster.StateUnknown || r.Error.Code != "bad_answer" {
		t.Errorf("%s %+v", r.State, r.Error)
	}
}

func TestAHandlerCallsThisMachineOnlyUnlessItsDefinitionAllowsMore(t *testing.T) {
	var called atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Add(1) }))
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	defer s.Close()
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ url, allow, says string }{
		{"http://192.0.2.7/", "", "is not this machine's own address"},
		{"http://192.0.2.7/", ", allow: [192.0.2.0/25]", ""},
		{"http://192.0.2.7/", ", allow: [192.0.2.8]", "is not this machine's own address"},
		{"http://192.0.2.7/", ", allow: [there]", "must be an address"},
		{"ftp://127.0.0.1/", "", "must be the http or https URL"},
		{"http://me:pw@127.0.0.1/", "", "without user"},
		{"'http://127.0.0.1/${n}'", "", "no placeholders"},
		{"http://127.0.0.1/", ", argv: [/bin/ls]", "argv: is for exec"},
		{"http://127.0.0.1/", ", method: GET", "method: no such field"},
		{"http://127.0.0.1/", ", token_file: secret", "must be an absolute path"},
	} {
		_, err := parse("d.yaml", "action: app.hook\nversion: 1.0.0\ntitle: T\nrisk: low\nhandler: {kind: http, url: "+c.url+c.allow+"}\n")
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s%s: %v", c.url, c.allow, err)
		}
	}
	// A name may become any address: it is judged when it has become one.
	t.Setenv("HTTP_PROXY", s.URL)
	t.Setenv("http_proxy", s.URL)
	for allow, state := range map[string]muster.State{"": muster.StateFailed, ", allow: [" + outer(t) + "]": muster.StateOK} {
		d := hook(t, "http://localhost:"+port+"/", allow, "").Leading("http://" + net.JoinHostPort(outer(t), port))
		r := run(t, executor(t, actions.ExecutorConfig{}, d), "app.hook", `{}`)
		if r.State != state || r.Error != nil && r.Error.Code != "address" || (called.Swap(0) > 0) != (state == muster.StateOK) {
			t.Errorf("%q: %s %+v", allow, r.State, r.Error)
		}
	}
}

// outer is an address of this machine that is not loopback.
func outer(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr().String()
		}
	}
	t.Skip("this machine has no address besides loopback")
	return ""
}

func TestARedirectIsNotFollowedAnywhere(t *testing.T) {
	var there atomic.Int32
	target := application(t, func(http.ResponseWriter, *http.Request) { there.Add(1) })
	s := application(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
	})
	r := run(t, executor(t, actions.ExecutorConfig{}, hook(t, s.URL, "", "")), "app.hook", `{}`)
	if r.State != muster.StateUnknown || there.Load() != 0 {
		t.Errorf("%s %+v, followed %d times", r.State, r.Error, there.Load())
	}
}

func TestSecretsInAnApplicationsAnswerAreHidden(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("t0ken-value"), 0o600); err != nil {
		t.Fatal(err)
	}
	status := 200
	s := application(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(status)
		said, _ := json.Marshal(map[string]string{"message": r.Header.Get("Authorization") + " sent " + string(body)})
		_, _ = w.Write(said)
	})
	e := executor(t, actions.ExecutorConfig{}, hook(t, s.URL, ", token_file: "+token, "params: {pin: {type: string, secret: true}}"))
	for _, status = range []int{200, 409, 500} {
		r := run(t, e, "app.hook", `{"pin":"c4n4ry-pin"}`)
		told := fmt.Sprintf("%s %+v", r.Result, r.Error)
		if strings.Contains(told, "c4n4ry") || strings.Contains(told, "t0ken") || !strings.Contains(told, "[redacted]") {
			t.Errorf("%d: %s", status, told)
		}
	}
	if err := os.Chmod(token, 0o666); err != nil {
		t.Fatal(err)
	}
	if r := run(t, e, "app.hook", `{"pin":"c4n4ry-pin"}`); r.State != muster.StateFailed || r.Error.Code != "start" || !strings.Contains(r.Error.Message, "others may write it") {
		t.Errorf("%s %+v", r.State, r.Error)
	}
}

func TestAnActionIsTriedAgainWhereItsDefinitionHasItSo(t *testing.T) {
	var calls atomic.Int32
	s := application(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	const retry = "retry: {attempts: 3, first: 1ms, max: 2ms, jitter: true, on: [unavailable]}\n"
	for _, c := range []struct {
		rest  string
		state muster.State
		calls int32
	}{
		{"", muster.StateUnknown, 1},
		{retry, muster.StateUnknown, 1}, // it may have been done, and is not idempotent
		{"idempotent: true\n" + retry, muster.StateOK, 3},
		{"idempotent: true\nretry: {attempts: 2, first: 1ms, on: [unavailable]}", muster.StateUnknown, 2},
	} {
		calls.Store(0)
		r := run(t, executor(t, actions.ExecutorConfig{}, hook(t, s.URL, "", c.rest)), "app.hook", `{}`)
		if r.State != c.state || calls.Load() != c.calls {
			t.Errorf("%q: %s after %d calls", c.rest, r.State, calls.Load())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	s = application(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		time.AfterFunc(20*time.Millisecond, cancel)
	})
	e := executor(t, actions.ExecutorConfig{}, hook(t, s.URL, "", "idempotent: true\nretry: {attempts: 9, first: 1h, max: 1h, on: [unavailable]}"))
	if r := e.Execute(ctx, operator(), muster.Execution{Action: "app.hook", Job: "j_1"}); r.State != muster.StateCancelled {
		t.Errorf("cancelled between two tries: %s %+v", r.State, r.Error)
	}
}
