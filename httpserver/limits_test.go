package httpserver_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"muster"
	"muster/httpserver"
	"muster/httpserver/api"
)

// clock is a time that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestAKeyMayAskSoOftenAndNobodyElseIsHit(t *testing.T) {
	c := &clock{now: time.Now()}
	h := &house{rights: muster.Rights{Principal: "key:2", Scopes: []string{muster.ScopeRead}}}
	base, _ := serve(t, h, func(cfg *httpserver.Config) { cfg.Now = c.Now })
	passed := func(token string, times int) (n int, last answer) {
		for range times {
			if last = ask(t, "GET", base+"/v1/nodes", token, ""); last.code == 200 {
				n++
			}
		}
		return n, last
	}
	n, last := passed("mk_read", 203)
	if n != 200 || last.code != 429 || !strings.Contains(last.body, "rate_limited") {
		t.Fatalf("%d passed, then %d %s", n, last.code, last.body)
	}
	for name, want := range map[string]string{"Retry-After": "1", "X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "0"} {
		if got := last.header.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	if got := ask(t, "POST", base+"/v1/keys", "mk_read", "{}"); got.code != 429 {
		t.Errorf("what the key may not do is counted, too: %d", got.code)
	}
	for _, path := range []string{"/healthz", "/readyz", api.PathHealth} {
		if got := ask(t, "GET", base+path, "mk_read", ""); got.code != 200 {
			t.Errorf("%s: %d", path, got.code)
		}
	}
	if n, last := passed("mk_rights", 1); n != 1 || last.header.Get("X-RateLimit-Remaining") != "199" {
		t.Errorf("another key: %v", last)
	}
	c.pass(time.Second)
	if n, _ := passed("mk_read", 103); n != 100 {
		t.Errorf("a second later %d passed", n)
	}
}

func TestAdminsOperatorsAndNodesMayAskAsOftenAsTheyLike(t *testing.T) {
	c := &clock{now: time.Now()}
	base, _ := serve(t, &house{}, func(cfg *httpserver.Config) { cfg.Now = c.Now })
	for _, token := range []string{"mk_admin", "a.node.token"} {
		for range 210 {
			if got := ask(t, "GET", base+"/v1/nodes", token, ""); got.code != 200 || got.header.Get("X-RateLimit-Limit") != "" {
				t.Fatalf("%s: %d", token, got.code)
			}
		}
	}
}

// outside is an address of this machine that is not loopback.
func outside(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	t.Skip("no address beside loopback")
	return ""
}

// crowded opens connections and returns the status of an answer to each; 0 is
// none. They stay open until the test ends, or until they are closed.
func crowded(t *testing.T, addr string, n int) (codes []int, closeAll func()) {
	t.Helper()
	var held []net.Conn
	closeAll = func() {
		for _, conn := range held {
			_ = conn.Close()
		}
		held = nil
	}
	t.Cleanup(closeAll)
	for range n {
		conn := dial(t, addr)
		held = append(held, conn)
		_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
		got, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			codes = append(codes, 0)
			continue
		}
		_, _ = io.Copy(io.Discard, got.Body)
		_ = got.Body.Close()
		codes = append(codes, got.StatusCode)
	}
	return codes, closeAll
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

func count(codes []int, want int) (n int) {
	for _, code := range codes {
		if code == want {
			n++
		}
	}
	return n
}

func TestOneAddressHasSoManyConnectionsAndHearsWhyNotMore(t *testing.T) {
	ip := outside(t)
	onAll := func(cfg *httpserver.Config) { cfg.Addr = strings.Replace(cfg.Addr, "127.0.0.1", "0.0.0.0", 1) }
	base, _ := serve(t, &house{}, onAll)
	_, port, _ := strings.Cut(strings.TrimPrefix(base, "http://"), ":")
	codes, closeAll := crowded(t, net.JoinHostPort(ip, port), 210)
	if count(codes[:200], 200) != 200 || count(codes[200:], 429) != 10 {
		t.Fatalf("%v", codes)
	}
	if codes, _ := crowded(t, "127.0.0.1:"+port, 210); count(codes, 200) != 210 {
		t.Errorf("from loopback: %v", codes)
	}
	closeAll()
	for codes = []int{429}; codes[0] != 200; { // the server sees the ends one by one
		var done func()
		codes, done = crowded(t, net.JoinHostPort(ip, port), 1)
		done()
	}
}

func TestANodeOfTheClusterHasAnyNumberOfConnections(t *testing.T) {
	ip := outside(t)
	base, _ := serve(t, &house{}, func(cfg *httpserver.Config) {
		cfg.Addr = strings.Replace(cfg.Addr, "127.0.0.1", "0.0.0.0", 1)
		cfg.Peer = func(at netip.Addr) bool { return at.String() == ip }
	})
	_, port, _ := strings.Cut(strings.TrimPrefix(base, "http://"), ":")
	if codes, _ := crowded(t, net.JoinHostPort(ip, port), 210); count(codes, 200) != 210 {
		t.Errorf("%v", codes)
	}
}

// patient is a search that lasts until the test ends it.
type patient struct {
	begun chan struct{}
	end   chan struct{}
}

func (p patient) Search(context.Context, muster.Query) (muster.Answer, error) {
	p.begun <- struct{}{}
	<-p.end
	return muster.Answer{}, nil
}

func TestTheClientsOfATrustedProxyAreCountedOneByOne(t *testing.T) {
	p := patient{make(chan struct{}, 300), make(chan struct{})}
	base, _ := serve(t, &house{}, func(cfg *httpserver.Config) {
		cfg.Search, cfg.Trusted = p, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	})
	search := func(forwarded string) int {
		return ask(t, "POST", base+"/v1/search", "mk_search", `{"query":"a"}`, "X-Forwarded-For", forwarded).code
	}
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() { search("198.51.100.1, 203.0.113.7, 10.1.1.1") })
		<-p.begun
	}
	if code := search("203.0.113.7"); code != 429 {
		t.Errorf("one more of the same client: %d", code)
	}
	if got := ask(t, "GET", base+"/healthz", "", "", "X-Forwarded-For", "203.0.113.8"); got.code != 200 {
		t.Errorf("another client: %d", got.code)
	}
	if got := ask(t, "GET", base+"/healthz", "", "", "X-Forwarded-For", "203.0.113.7, nobody"); got.code != 200 {
		t.Errorf("what cannot be read is nobody's: %d", got.code)
	}
	close(p.end)
	wg.Wait()
	if got := ask(t, "GET", base+"/healthz", "", "", "X-Forwarded-For", "203.0.113.7"); got.code != 200 {
		t.Errorf("afterwards: %d", got.code)
	}
}

func TestARequestThatOthersMayUnderstandInAnotherWayIsRefused(t *testing.T) {
	h := &house{}
	base, _ := serve(t, h)
	post, read := "POST /internal/v1/apply HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer a.b\r\nContent-Type: application/json\r\n", "GET /v1/nodes HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer mk_read\r\n"
	for what, request := range map[string]string{
		"length and chunks":       post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"chunks and length":       post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"two codings":             post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"a coding nobody knows":   post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"a folded coding":         post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
		"chunks in HTTP/1.0":      strings.Replace(post, "HTTP/1.1", "HTTP/1.0", 1) + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":             post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
		"the same length twice":   post + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
		"a list of lengths":       post + "Content-Length: 2, 2\r\n\r\n{}",
		"a length with a sign":    post + "Content-Length: +2\r\n\r\n{}",
		"a space before a colon":  post + "Content-Length : 2\r\n\r\n{}",
		"a chunk without a size":  post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
		"a chunk ended by LF":     post + "Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
		"a chunk beyond counting": post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n",
		"a credential at the end": post + "Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n0\r\nAuthorization: x\r\n\r\n",
		"a folded header":         read + "X-A: b\r\n c\r\n\r\n",
		"a header folded by tab":  read + "X-A: b\r\n\tc\r\n\r\n",
		"NUL in a header":         read + "X-A: b\x00c\r\n\r\n",
		"NUL in a name":           read + "X-\x00A: b\r\n\r\n",
		"NUL in the path":         strings.Replace(read, "nodes", "no\x00des", 1) + "\r\n",
		"a bare CR":               read + "X-A: b\rX-B: c\r\n\r\n",
		"no host":                 strings.Replace(read, "Host: h\r\n", "", 1) + "\r\n",
		"two hosts":               read + "Host: i\r\n\r\n",
		"two credentials":         read + "Authorization: Bearer mk_admin\r\n\r\n",
	} {
		conn := dial(t, strings.TrimPrefix(base, "http://"))
		_, _ = io.WriteString(conn, request+"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
		r := bufio.NewReader(conn)
		got, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		_, _ = io.Copy(io.Discard, got.Body)
		_ = got.Body.Close()
		if got.StatusCode != http.StatusBadRequest || !got.Close {
			t.Errorf("%s: %d, closed %v", what, got.StatusCode, got.Close)
		}
		if got, err := http.ReadResponse(r, nil); err == nil {
			_ = got.Body.Close()
			t.Errorf("%s: what follows is answered with %d", what, got.StatusCode)
		}
		_ = conn.Close()
	}
	if len(h.commands) > 0 {
		t.Errorf("%q were done", h.commands)
	}
}

func TestAPathIsTakenAsItIsWritten(t *testing.T) {
	base, _ := serve(t, &house{})
	for _, path := range []string{"/v1/../v1/nodes", "/v1//nodes", "//v1/nodes", "/v1/./nodes", "/v1/%2e%2e/v1/nodes", "/v1/nodes/", "/V1/nodes", "/healthz/../v1/nodes"} {
		conn := dial(t, strings.TrimPrefix(base, "http://"))
		_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer mk_read\r\n\r\n", path)
		got, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = got.Body.Close()
		_ = conn.Close()
		if got.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, got.StatusCode)
		}
	}
}

func TestWhoSendsTooSlowlyIsCut(t *testing.T) {
	base, _ := serve(t, &house{}, func(cfg *httpserver.Config) { cfg.ReadTimeout = 100 * time.Millisecond })
	head := "POST /v1/nodes HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer mk_registry\r\nContent-Type: application/json\r\n"
	for what, request := range map[string]string{
		"nothing": "", "half a header": head, "half a body": head + "Content-Length: 100\r\n\r\n{", "half a chunk": head + "Transfer-Encoding: chunked\r\n\r\n10\r\n{",
	} {
		conn := dial(t, strings.TrimPrefix(base, "http://"))
		_, _ = io.WriteString(conn, request)
		got, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		body, _ := io.ReadAll(got.Body) // up to the end of the connection
		_ = got.Body.Close()
		_ = conn.Close()
		if got.StatusCode != http.StatusRequestTimeout || !got.Close || !strings.Contains(string(body), "slow_request") {
			t.Errorf("%s: %d, closed %v: %s", what, got.StatusCode, got.Close, body)
		}
	}
}

func TestACompressedBodyIsNotRead(t *testing.T) {
	base, _ := serve(t, &house{})
	for coding, code := range map[string]int{"gzip": 415, "br": 415, "identity": 201, "gzip, identity": 415} {
		got := ask(t, "POST", base+"/v1/nodes", "mk_admin", `{"name":"shop","url":"http://h/"}`, "Content-Encoding", coding)
		if got.code != code {
			t.Errorf("%s: %d %s", coding, got.code, got.body)
		}
	}
}
