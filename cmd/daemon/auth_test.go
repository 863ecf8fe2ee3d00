package daemon_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"muster"
	"muster/cluster/trust"
	"muster/cmd/daemon"
	"muster/httpserver"
	"muster/httpserver/api"
)

// one is a real node, and all that can sign for it.
type one struct {
	base   string
	gossip string
	secret trust.Secret
	id     trust.Identity
	op     *api.Client
}

// raise starts a node: the founder of a cluster, or one that joins it. Both
// find the secret in dir.
func raise(t *testing.T, dir, name string, join ...string) *one {
	t.Helper()
	return raiseWith(t, dir, name, func(c *daemon.Config) { c.Join = join })
}

// operator is a client of someone who holds the secret.
func operator(base string, secret trust.Secret) *api.Client {
	return &api.Client{
		Addrs: []string{base}, HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		Sign: func(r api.Request, to string) (string, error) {
			return secret.SignOperator(trust.Call{Method: r.Method, Path: r.Path, Key: r.Key(), Body: r.Body, Audience: to})
		},
	}
}

func (o *one) key(t *testing.T, scope, life string) api.NewKey {
	t.Helper()
	k, err := o.op.CreateKey(t.Context(), muster.KeySpec{Name: scope, Scopes: []string{scope}, ExpiresIn: life})
	if err != nil || k.Plain == nil {
		t.Fatal(k, err)
	}
	return k
}

// call is one request, and who may be behind it.
type call struct {
	method, path, body string
}

func (o *one) ask(t *testing.T, c call, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), c.method, o.base+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	got, err := o.op.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.Body.Close() }()
	raw, _ := io.ReadAll(got.Body)
	return got.StatusCode, string(raw)
}

func (o *one) call(c call) trust.Call {
	return trust.Call{
		Method: c.method, Path: c.path, Body: []byte(c.body), Audience: o.id.ID,
		Rights: muster.Rights{Principal: "key:1", Scopes: []string{muster.ScopeNode, muster.ScopeRead, muster.ScopeSearch}},
	}
}

func (o *one) operator(t *testing.T, c call) string {
	t.Helper()
	token, err := o.secret.SignOperator(o.call(c))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (o *one) node(t *testing.T, c call) string {
	t.Helper()
	token, err := o.id.Sign(o.call(c))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// aged is a call that the operator signed ten minutes ago.
func (o *one) aged(t *testing.T, c call) string {
	t.Helper()
	then := time.Now().Add(-10 * time.Minute)
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": "operator", "sub": "operator", "jti": uuid.NewString(), "aud": o.id.ID, "iat": then.Unix(), "exp": then.Add(time.Minute).Unix(),
		"m": c.method, "p": c.path, "b": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"r": muster.Rights{Principal: "operator", Scopes: []string{muster.ScopeAdmin}},
	})
	token.Header["kid"] = "operator"
	text, err := token.SignedString(o.secret.OperatorKey())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestEveryRouteOpensForThoseItIsForAndNobodyElse(t *testing.T) {
	o := raise(t, t.TempDir(), "a")
	revoked, expired := o.key(t, "admin", ""), o.key(t, "admin", "1ns")
	if err := o.op.RevokeKey(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	idle := o.idle(t)
	keys := map[string]string{}
	for _, scope := range []string{"read", "search", "index", "tx", "registry", "admin", "run:app.*", "run:web.*"} {
		keys[scope] = *o.key(t, scope, "").Plain
	}
	for _, r := range httpserver.New(httpserver.Config{}).Routes() {
		c := call{r.Method, strings.NewReplacer("{slug}", "nobody", "{id}", "x", "{name}", "app.x").Replace(r.Path), ""}
		want := []string{r.Scope}
		switch {
		case strings.HasPrefix(r.Path, "/v1/jobs"): // whoever runs something
			want = []string{"run:app.x", "run:web.x"}
		case strings.HasPrefix(r.Scope, "run:"):
			want, c.body = []string{"run:app.x"}, `{"action":"app.x","on":{"all":true}}`
		case strings.Contains(r.Path, "{name}"):
			want = []string{muster.ScopeRead, "run:app.x"}
		}
		expect := func(who, token string, refused int, says string) {
			t.Helper()
			code, body := o.ask(t, c, token)
			if refused == 0 && (code == 401 || code == 403) || refused != 0 && code != refused || !strings.Contains(body, says) {
				t.Errorf("%s %s by %s: %d %s", r.Method, r.Path, who, code, body)
			}
		}
		if r.Scope == muster.ScopePublic {
			expect("nobody", "", 0, "")
			continue
		}
		expect("nobody", "", 401, "API key required")
		expect("a garbage key", "mk_garbage", 401, "Invalid API key")
		expect("a key of nobody", "mk_"+strings.Repeat("0", 12)+"_"+strings.Repeat("0", 64), 401, "Invalid API key")
		expect("an expired key", *expired.Plain, 401, "Invalid API key")
		expect("a revoked key", *revoked.Plain, 401, "Invalid API key")
		expect("the key of a node in maintenance", idle, 403, `"node_status":"maintenance"`)
		refused := func(scopes ...string) int {
			if slices.ContainsFunc(want, (muster.Rights{Principal: "key:1", Scopes: scopes}).May) {
				return 0
			}
			return 403
		}
		for scope, key := range keys {
			expect("a key for "+scope, key, refused(scope), "")
		}
		toNode := r.Scope == muster.ScopeNode
		operator, node := o.operator(t, c), o.node(t, c)
		if toNode {
			expect("the operator", operator, 403, "")
			expect("a node", node, 0, "")
			if c.path != api.PathPin && c.path != api.PathShard && c.path != api.PathReadIndex { // those only read, and come by the thousand
				expect("a node again", node, 401, "replayed")
			}
		} else {
			expect("the operator", operator, 0, "")
			expect("the operator again", operator, 401, "replayed")
			expect("a node for a caller", node, refused(muster.ScopeNode, muster.ScopeRead, muster.ScopeSearch), "")
		}
		expect("an aged signature", o.aged(t, c), 401, "clock_skew")
		expect("a signature for another path", o.operator(t, call{c.method, c.path + "?x=1", c.body}), 401, "another request")
		expect("a signature for another method", o.operator(t, call{"OPTIONS", c.path, c.body}), 401, "another request")
		if !toNode { // a node's own route tells the operator first that it is not for it
			expect("a signature for another body", o.operator(t, call{c.method, c.path, c.body + " "}), 401, "another request")
		}
		expect("a signature for another node", sign(t, o, c, uuid.NewString()), 401, "")
		expect("half a signature", node[:len(node)-20], 401, "")
	}
}

// idle is the key of a node in maintenance.
func (o *one) idle(t *testing.T) string {
	t.Helper()
	done, err := o.op.Register(t.Context(), muster.Registration{Name: "idle", URL: "http://127.0.0.1:9"}, "")
	if err != nil || done.APIKey == nil {
		t.Fatal(done, err)
	}
	if err := o.op.Do(t.Context(), http.MethodPatch, "/v1/nodes/idle", map[string]string{"status": "maintenance"}, nil); err != nil {
		t.Fatal(err)
	}
	return *done.APIKey
}

// unsigned is a token with all the claims of the operator, too long to be read.
func unsigned(t *testing.T, c call) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims{
		"iss": "operator", "m": c.method, "p": c.path, "r": muster.Rights{Principal: "operator", Scopes: []string{muster.ScopeAdmin}},
		"pad": strings.Repeat("a", 7<<10),
	})
	text, err := token.SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func sign(t *testing.T, o *one, c call, to string) string {
	t.Helper()
	signed := o.call(c)
	signed.Audience = to
	token, err := o.secret.SignOperator(signed)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestABodyIsReadOnlyForASignatureThatHolds(t *testing.T) {
	o := raise(t, t.TempDir(), "a")
	c := call{method: "POST", path: "/v1/documents"}
	for who, token := range map[string]string{
		"nobody":                      "",
		"a garbage signature":         "a.b.c",
		"a long unsigned call":        unsigned(t, c),
		"an aged signature":           o.aged(t, c),
		"a signature for another URL": o.operator(t, call{"POST", "/v1/documents?node=a", ""}),
		"a signature for another":     sign(t, o, c, uuid.NewString()),
	} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(o.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = fmt.Fprintf(conn, "POST /v1/documents HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
			token, api.MediaNDJSON, 32<<20, strings.Repeat("x", 130<<10)) // the rest never comes
		if err != nil {
			t.Fatal(err)
		}
		got, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", who, err)
		}
		_ = got.Body.Close()
		_ = conn.Close()
		if got.StatusCode != http.StatusUnauthorized || !got.Close {
			t.Errorf("%s: %d, closed %v", who, got.StatusCode, got.Close)
		}
	}
	docs := bytes.Repeat([]byte("{\"id\":\"1\",\"content\":\"a long way to go\"}\n"), 50_000)
	if done, err := o.op.AddDocuments(t.Context(), "", docs); err != nil || done.Failed != 0 {
		t.Errorf("a good one: %+v %v", done, err)
	}
}

func TestWorkForAnotherNodeGoesThereOnceWithItsCallersRights(t *testing.T) {
	dir := t.TempDir()
	a := raise(t, dir, "a")
	b := raise(t, dir, "b", a.gossip)
	for _, err := a.op.Node(t.Context(), "b"); err != nil; _, err = a.op.Node(t.Context(), "b") {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(err)
		}
	}
	index := &api.Client{Addrs: []string{a.base}, HTTP: a.op.HTTP, Key: *a.key(t, "index", "").Plain}
	for _, name := range []string{"b", b.id.ID, "a"} {
		if done, err := index.AddDocuments(t.Context(), name, []byte(`{"id":"`+name+`","content":"x"}`)); err != nil || done.Indexed != 1 {
			t.Errorf("to %s: %+v %v", name, done, err)
		}
	}
	for name, want := range map[string]uint64{"a": 1, "b": 2} {
		if s, err := b.op.IndexStats(t.Context(), name); err != nil || s.Node != name || s.Docs != want {
			t.Errorf("index of %s: %+v %v", name, s, err)
		}
	}
	if _, err := index.RebuildIndex(t.Context(), "b"); muster.KindOf(err) != muster.Forbidden {
		t.Errorf("rebuild with a key that may not: %v", err)
	}
	c := call{method: "GET", path: "/v1/index?node=b"} // a node asks a for the work of b
	signed := a.call(c)
	signed.Rights.Scopes = []string{muster.ScopeRead}
	token, err := b.id.Sign(signed)
	if err != nil {
		t.Fatal(err)
	}
	if code, body := a.ask(t, c, token); code != 503 || !strings.Contains(body, "misrouted") {
		t.Errorf("sent on twice: %d %s", code, body)
	}
}

func TestAKeyIsNeverMoreThanTheOneThatMadeIt(t *testing.T) {
	o := raise(t, t.TempDir(), "a")
	maker, err := o.op.CreateKey(t.Context(), muster.KeySpec{Name: "maker", Scopes: []string{"admin"}, MaxRisk: muster.RiskRead, ExpiresIn: "1h"})
	if err != nil {
		t.Fatal(err)
	}
	by := &api.Client{Addrs: []string{o.base}, HTTP: o.op.HTTP, Key: *maker.Plain}
	if _, err := by.CreateKey(t.Context(), muster.KeySpec{Name: "key", Scopes: []string{"run:*"}}); err != nil {
		t.Fatal(err)
	}
	for name, scopes := range map[string][]string{"plain": nil, "asked": {"run:*"}} {
		if _, err := by.Register(t.Context(), muster.Registration{Name: name, URL: "http://127.0.0.1:9", Scopes: scopes}, ""); err != nil {
			t.Fatal(err)
		}
	}
	all, err := o.op.Keys(t.Context())
	if err != nil || len(all.Keys) != 4 {
		t.Fatal(all, err)
	}
	for _, k := range all.Keys {
		if k.MaxRisk != muster.RiskRead || k.ExpiresAt == nil || k.ExpiresAt.After(*maker.ExpiresAt) {
			t.Errorf("%s: %s until %v, its maker until %v", k.Name, k.MaxRisk, k.ExpiresAt, maker.ExpiresAt)
		}
	}
}

func TestANodeThatHasNotEnteredIsNotReadyForItsPeers(t *testing.T) {
	dir := t.TempDir()
	cfg := settings(t)
	cfg.DataDir, cfg.SecretFile, cfg.Join = filepath.Join(dir, "a"), filepath.Join(dir, "secret"), []string{free(t)} // where nobody is
	secrets, err := trust.EnsureSecretFile(cfg.SecretFile)
	if err != nil {
		t.Fatal(err)
	}
	d, err := start(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	o := &one{base: d.Addr(), secret: secrets[0], op: operator(d.Addr(), secrets[0])}
	if o.id, err = trust.LoadOrCreateIdentity(cfg.DataDir); err != nil {
		t.Fatal(err)
	}
	peer, err := trust.LoadOrCreateIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{api.PathRun, api.PathCancel, api.PathPin} {
		c := call{method: "POST", path: path, body: "{}"}
		token, err := peer.Sign(o.call(c))
		if err != nil {
			t.Fatal(err)
		}
		if code, body := o.ask(t, c, token); code != 503 || !strings.Contains(body, `"code":"not_ready"`) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	c := call{method: "GET", path: "/v1/cluster"}
	if code, body := o.ask(t, c, o.operator(t, c)); code != 200 {
		t.Errorf("the operator: %d %s", code, body)
	}
	c = call{method: "POST", path: api.PathJoin, body: "{}"}
	signed := o.call(c)
	signed.Rights = muster.Rights{Principal: "node:" + peer.ID}
	token, err := o.secret.SignJoin(signed)
	if err != nil {
		t.Fatal(err)
	}
	if code, body := o.ask(t, c, token); code != 403 { // it is heard, and has to say who joins
		t.Errorf("a joiner: %d %s", code, body)
	}
}
