package daemon_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/cluster/trust"
	"muster/cmd/daemon"
	"muster/httpserver/api"
)

func TestHTTPSIsTheDefaultBeyondLoopbackOnly(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*daemon.Config)
		want   string
	}{
		"loopback":             {func(*daemon.Config) {}, "http://"},
		"loopback, written":    {func(c *daemon.Config) { c.TLS = "auto" }, "https://"},
		"raft beyond loopback": {func(c *daemon.Config) { c.AdvertiseRaft = "192.0.2.1:7602" }, "http://"},
		"HTTP bound beyond":    {func(c *daemon.Config) { c.HTTP, c.AdvertiseHTTP = "192.0.2.1:7600", "127.0.0.1:1" }, "https://"},
		"advertised beyond":    {func(c *daemon.Config) { c.AdvertiseHTTP = "192.0.2.1:7600" }, "https://"},
		"beyond, switched off": {func(c *daemon.Config) { c.AdvertiseHTTP, c.TLS = "192.0.2.1:7600", "off" }, "http://"},
		"a public certificate": {func(c *daemon.Config) { c.TLSCert, c.TLSKey = "c.pem", "k.pem" }, "https://"},
	} {
		cfg := settings(t)
		c.change(&cfg)
		d, err := daemon.New(cfg, io.Discard)
		if err != nil || !strings.HasPrefix(d.Addr(), c.want) {
			t.Errorf("%s: %v, %v", name, d, err)
		}
	}
}

// secure starts a node with automatic HTTPS and returns a client with the
// operator's rights.
func secure(t *testing.T, dir, name string, change func(*daemon.Config)) (*daemon.Daemon, *api.Client) {
	t.Helper()
	secretFile := filepath.Join(dir, "secret")
	secrets, err := trust.EnsureSecretFile(secretFile)
	if err != nil {
		t.Fatal(err)
	}
	cfg := settings(t)
	cfg.Name, cfg.DataDir, cfg.SecretFile, cfg.TLS = name, filepath.Join(dir, name), secretFile, "auto"
	if change != nil {
		change(&cfg)
	}
	d, err := start(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := trust.OperatorTLS(secrets)
	if err != nil {
		t.Fatal(err)
	}
	client := &api.Client{
		Addrs: []string{d.Addr()}, HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: conf}},
		Sign: func(r api.Request, to string) (string, error) {
			return secrets[0].SignOperator(trust.Call{Method: r.Method, Path: r.Path, Key: r.Key(), Body: r.Body, Audience: to})
		},
	}
	wait(t, d, client)
	return d, client
}

func wait(t *testing.T, d *daemon.Daemon, client *api.Client) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		if h, err := client.Health(t.Context()); err == nil && h.Ready {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case err := <-d.Fatal():
			t.Fatal(err)
		case <-limit:
			_, err := client.Health(t.Context())
			t.Fatal("the node did not become ready: ", err)
		}
	}
}

func TestNodesJoinForwardSearchAndActOverHTTPS(t *testing.T) {
	dir := t.TempDir()
	first, a := secure(t, dir, "a", nil)
	second, b := secure(t, dir, "b", func(c *daemon.Config) { c.Join = []string{first.Gossip()} })
	n, err := a.Node(t.Context(), "b")
	if err != nil || n.URL != second.Addr() || !strings.HasPrefix(n.URL, "https://") {
		t.Fatalf("%+v, %v", n, err)
	}
	if _, err := b.Register(t.Context(), muster.Registration{Name: "crm", URL: "http://127.0.0.1:9/crm"}, "k"); err != nil {
		t.Fatal("a write at a follower:", err)
	}
	if _, err := a.AddDocuments(t.Context(), "b", []byte(`{"id":"1","title":"raincoat"}`)); err != nil {
		t.Fatal("documents for another node:", err)
	}
	found, err := a.Search(t.Context(), muster.Query{Text: "raincoat", Limit: 5})
	if err != nil || found.NodesSearched != 2 || len(found.Results) != 1 || found.Results[0].SourceNode != "b" {
		t.Fatalf("%+v, %v", found, err)
	}
	ran, err := a.Run(t.Context(), muster.Run{Action: "node.ping", On: muster.Selector{Nodes: &[]string{"a", "b"}}})
	if err != nil || !ran.Success {
		t.Fatalf("%+v, %v", ran, err)
	}
}

func TestTheAutomaticCertificateShowsWhatTheNodeIsFoundUnder(t *testing.T) {
	loopback := []string{"127.0.0.1", "::1"}
	for name, c := range map[string]struct {
		advertise, url string
		names, ips     []string
	}{
		"loopback":                {"", "", nil, nil},
		"an address":              {"192.0.2.7:7600", "", nil, []string{"192.0.2.7"}},
		"an address of IPv6":      {"[2001:db8::7]:7600", "", nil, []string{"2001:db8::7"}},
		"a name, and another URL": {"node-a.example:7600", "https://search.example/ai", []string{"node-a.example", "search.example"}, nil},
		"no name by RFC 1123":     {"node_a:7600", "", nil, nil},
	} {
		cfg := settings(t)
		dir := t.TempDir()
		cfg.SecretFile, cfg.TLS, cfg.AdvertiseHTTP, cfg.URL = filepath.Join(dir, "secret"), "auto", c.advertise, c.url
		secrets, err := trust.EnsureSecretFile(cfg.SecretFile)
		if err != nil {
			t.Fatal(err)
		}
		d, err := start(t, cfg)
		if err != nil {
			t.Fatal(name, err)
		}
		conf, err := trust.OperatorTLS(secrets)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := (&tls.Dialer{Config: conf}).DialContext(t.Context(), "tcp", cfg.HTTP)
		if err != nil {
			t.Fatal(name, err)
		}
		leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
		_ = conn.Close()
		ips := make([]string, 0, len(leaf.IPAddresses))
		for _, ip := range leaf.IPAddresses {
			ips = append(ips, ip.String())
		}
		names := slices.Sorted(slices.Values(leaf.DNSNames))
		slices.Sort(ips)
		id, err := trust.LoadOrCreateIdentity(cfg.DataDir)
		if err != nil {
			t.Fatal(err)
		}
		wantNames := slices.Sorted(slices.Values(append([]string{"localhost", id.ID}, c.names...)))
		wantIPs := slices.Sorted(slices.Values(append(c.ips, loopback...)))
		if !slices.Equal(names, wantNames) || !slices.Equal(ips, wantIPs) || leaf.Subject.CommonName != id.ID {
			t.Errorf("%s: %v and %v, not %v and %v", name, names, ips, wantNames, wantIPs)
		}
		if err := d.Stop(t.Context()); err != nil {
			t.Error(name, err)
		}
	}
}

func TestANodeWithoutHTTPSJoinsOneThatHasItAndTheOtherWayRound(t *testing.T) {
	for founder, joiner := range map[string]string{"auto": "off", "off": "auto"} {
		dir := t.TempDir()
		first, _ := secure(t, dir, "a", func(c *daemon.Config) { c.TLS = founder })
		second, b := secure(t, dir, "b", func(c *daemon.Config) { c.TLS, c.Join = joiner, []string{first.Gossip()} })
		if _, err := b.Register(t.Context(), muster.Registration{Name: "crm", URL: "http://127.0.0.1:9/crm"}, "k"); err != nil {
			t.Errorf("%s at %s: %v", joiner, founder, err)
		}
		if n, err := b.Node(t.Context(), "b"); err != nil || n.URL != second.Addr() {
			t.Errorf("%s at %s: %+v, %v", joiner, founder, n, err)
		}
	}
}

func TestALivingNodesNameIsHeldOverHTTPS(t *testing.T) {
	dir := t.TempDir()
	first, _ := secure(t, dir, "a", nil)
	secure(t, dir, "b", func(c *daemon.Config) { c.Join = []string{first.Gossip()} })
	cfg := settings(t)
	cfg.Name, cfg.SecretFile, cfg.TLS, cfg.Join = "b", filepath.Join(dir, "secret"), "auto", []string{first.Gossip()}
	again, err := start(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-again.Fatal():
		if muster.CodeOf(err) != "name_in_use" {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a second node of that name is let in, or waits for ever")
	}
}

func TestPlainHTTPAtAnHTTPSPortIsToldWhatIsWrong(t *testing.T) {
	d, _ := secure(t, t.TempDir(), "a", nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.Replace(d.Addr(), "https", "http", 1)+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.Body.Close() }()
	if raw, err := io.ReadAll(got.Body); err != nil || got.StatusCode != http.StatusBadRequest || !strings.Contains(string(raw), "https://") {
		t.Errorf("%d %s %v", got.StatusCode, raw, err)
	}
}

// certify writes a certificate for host that signs itself, and its key.
func certify(t *testing.T, dir, host string) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{host}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	rawKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: rawKey}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	return certFile, keyFile, roots
}

// visits reports whether somebody who trusts roots takes a node for host.
func visits(t *testing.T, d *daemon.Daemon, host string, roots *x509.CertPool) bool {
	t.Helper()
	conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: host}}).DialContext(t.Context(), "tcp", strings.TrimPrefix(d.Addr(), "https://"))
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

func TestAPublicCertificateIsForOthersAndFollowsItsFiles(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	certFile, keyFile, roots := certify(t, files, "shop.example")
	first, a := secure(t, dir, "a", func(c *daemon.Config) { c.TLSCert, c.TLSKey = certFile, keyFile })
	_, b := secure(t, dir, "b", func(c *daemon.Config) { c.Join = []string{first.Gossip()} })
	if !visits(t, first, "shop.example", roots) {
		t.Fatal("the public certificate is not shown")
	}
	if _, err := b.Register(t.Context(), muster.Registration{Name: "crm", URL: "http://127.0.0.1:9/crm"}, "k"); err != nil {
		t.Fatal("a node calls the one with the public certificate:", err)
	}
	if _, err := a.Cluster(t.Context()); err != nil {
		t.Fatal("an operator calls it by its address:", err)
	}
	if err := os.WriteFile(certFile, []byte("half a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := first.Reload(); muster.KindOf(err) != muster.Invalid || !visits(t, first, "shop.example", roots) {
		t.Fatalf("a damaged file: %v", err)
	}
	_, _, renewed := certify(t, files, "shop.example")
	limit := time.After(10 * time.Second)
	for !visits(t, first, "shop.example", renewed) { // nobody tells it
		select {
		case <-time.After(20 * time.Millisecond):
		case <-limit:
			t.Fatal("the renewed certificate is not shown")
		}
	}
}

func TestASecretFileThatCannotBeUsedChangesNothing(t *testing.T) {
	dir := t.TempDir()
	d, client := secure(t, dir, "a", nil)
	path := filepath.Join(dir, "secret")
	for name, text := range map[string]string{"another secret alone": trust.NewSecret().Hex(), "half a line": "beef", "nothing": ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.Reload(); muster.KindOf(err) != muster.Invalid {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := client.Cluster(t.Context()); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
}

func TestARaftConnectionEndsWithTheSecretItWasMadeUnder(t *testing.T) {
	dir, addr := t.TempDir(), ""
	d, client := secure(t, dir, "a", func(c *daemon.Config) { addr = c.Raft })
	path := filepath.Join(dir, "secret")
	old, err := trust.LoadSecrets(path)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := trust.NewRing(old)
	if err != nil {
		t.Fatal(err)
	}
	h, err := client.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	intruder, err := (&tls.Dialer{Config: trust.NewCertificates(theirs, "x").Client(h.ID)}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = intruder.Close() }()
	fresh := trust.NewSecret()
	for _, secrets := range [][]trust.Secret{{old[0], fresh}, {fresh, old[0]}, {fresh}} {
		if err := errors.Join(trust.ReplaceSecretFile(path, secrets, false), d.Reload()); err != nil {
			t.Fatal(err)
		}
	}
	if err := intruder.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := intruder.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it is still open: %v", err)
	}
}

func TestOperatorsGoByTheSecretsOfNow(t *testing.T) {
	dir := t.TempDir()
	d, client := secure(t, dir, "a", nil)
	path := filepath.Join(dir, "secret")
	old, err := trust.LoadSecrets(path)
	if err != nil {
		t.Fatal(err)
	}
	fresh := trust.NewSecret()
	conf, err := trust.OperatorTLS([]trust.Secret{fresh, old[0]})
	if err != nil {
		t.Fatal(err)
	}
	newcomer := &api.Client{
		Addrs: []string{d.Addr()}, HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: conf}},
		Sign: func(r api.Request, to string) (string, error) {
			return fresh.SignOperator(trust.Call{Method: r.Method, Path: r.Path, Body: r.Body, Audience: to})
		},
	}
	for _, step := range []struct {
		secrets  []trust.Secret
		old, new bool
	}{
		{[]trust.Secret{old[0]}, true, false},
		{[]trust.Secret{old[0], fresh}, true, true},
		{[]trust.Secret{fresh, old[0]}, false, true}, // the old operator does not know the new authority
		{[]trust.Secret{fresh}, false, true},
	} {
		lines := make([]string, len(step.secrets))
		want := make([]string, len(step.secrets))
		for i, s := range step.secrets {
			lines[i] = s.Hex()
			want[i] = fmt.Sprintf("%08x", s.Fingerprint())
		}
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.Reload(); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Cluster(t.Context()); (err == nil) != step.old {
			t.Errorf("%v, with the old secret: %v", want, err)
		}
		s, err := newcomer.Cluster(t.Context())
		if (err == nil) != step.new || step.new && !slices.Equal(s.Peers[0].Secrets, want) {
			t.Errorf("%v, with the new secret: %+v %v", want, s.Peers, err)
		}
	}
}
