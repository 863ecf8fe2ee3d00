package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"muster"
)

// publicly writes a certificate for a host that signs itself, and its key.
func publicly(t *testing.T, host string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// mixed is a cluster of agents of which a has automatic HTTPS, b none, and c a
// certificate of its own.
func mixed(t *testing.T) (*demo, string) {
	t.Helper()
	d := newDemo(t.TempDir(), streams{t.Output(), t.Output()}, "a", "b", "c")
	cert, key := publicly(t, "shop.example")
	d.more = func(name string) []string {
		return map[string][]string{"a": {"--tls", "auto"}, "b": {"--tls", "off"}, "c": {"--tls-cert", cert, "--tls-key", key}}[name]
	}
	return raised(t, d)
}

// leads has a node become the master.
func (d *demo) leads(t *testing.T, name string) {
	t.Helper()
	until(t, name+" leads", func() bool {
		s, err := d.client(name).Cluster(t.Context())
		if err != nil || s.Master == nil {
			return false
		}
		if s.Master.Slug == name {
			return true
		}
		_ = d.client(name).Transfer(t.Context(), name) // refused while an election is under way
		return false
	})
}

func TestAgentsWithAndWithoutHTTPSAreOneCluster(t *testing.T) {
	d, _ := mixed(t)
	for name, want := range map[string]string{"a": "https://", "b": "http://", "c": "https://"} {
		if n, err := d.client("b").Node(t.Context(), name); err != nil || !strings.HasPrefix(n.URL, want) {
			t.Errorf("%s is registered at %s, %v", name, n.URL, err)
		}
	}
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // what it is, is looked at
	shown, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(d.urls["c"], "https://"))
	if err != nil {
		t.Fatal(err)
	}
	if names := shown.(*tls.Conn).ConnectionState().PeerCertificates[0].DNSNames; len(names) != 1 || names[0] != "shop.example" {
		t.Errorf("c shows others %v", names)
	}
	_ = shown.Close()
	for _, from := range d.names {
		for _, to := range d.names {
			body := fmt.Sprintf(`{"id":"%s-%s","title":"umbrella of %s for %s"}`, from, to, from, to)
			if _, err := d.client(from).AddDocuments(t.Context(), to, []byte(body)); err != nil {
				t.Errorf("documents from %s to %s: %v", from, to, err)
			}
		}
	}
	for _, master := range d.names {
		d.leads(t, master)
		for _, at := range d.names {
			d.everything(t, master, at)
		}
	}
	// One agent is switched over while the others go on.
	if err := d.kill("b"); err != nil {
		t.Fatal(err)
	}
	d.args["b"][slices.Index(d.args["b"], "off")] = "auto"
	d.urls["b"] = strings.Replace(d.urls["b"], "http:", "https:", 1)
	if err := d.start("b"); err != nil {
		t.Fatal(err)
	}
	until(t, "b is found under its new address, with its documents", func() bool {
		n, err := d.client("c").Node(t.Context(), "b")
		if err != nil || n.URL != d.urls["b"] || n.Status != muster.StatusActive {
			return false
		}
		found, err := d.client("a").Search(t.Context(), muster.Query{Text: "umbrella", Limit: 20})
		return err == nil && !found.Partial
	})
	d.leads(t, "b")
	for _, at := range d.names {
		d.everything(t, "the new b", at)
	}
}

// everything does, at one node, what takes all of them.
func (d *demo) everything(t *testing.T, master, at string) {
	t.Helper()
	client := d.client(at)
	app := strings.ReplaceAll(at+" under "+master, " ", "-")
	if _, err := client.Register(t.Context(), muster.Registration{Name: app, URL: "http://127.0.0.1:9/x", Capabilities: []muster.Capability{"web"}}, app); err != nil {
		t.Errorf("a write at %s under %s: %v", at, master, err)
	}
	found, err := client.Search(t.Context(), muster.Query{Text: "umbrella", Limit: 20})
	if err != nil || found.Partial || found.NodesSearched != 3 || found.Count != 9 {
		t.Errorf("a search at %s: %+v, %v", at, found, err)
	}
	ran, err := client.Run(t.Context(), muster.Run{Action: "app.greet", Params: muster.Params{"name": []byte(`"Ada"`)}, On: muster.Selector{Nodes: &d.names}})
	if err != nil || !ran.Success || ran.SuccessCount != 3 {
		t.Errorf("a run at %s: %+v, %v", at, ran, err)
	}
	steps := make([]string, 0, 3)
	for _, on := range d.names {
		steps = append(steps, fmt.Sprintf(`{"id":%q,"on":%q,"run":"app.greet","with":{"name":"Ada"}}`, on, on))
	}
	if a, err := client.BeginTx(t.Context(), plan(steps...)); err != nil || a.Status != muster.TxSucceeded {
		t.Errorf("a transaction at %s under %s: %+v, %v", at, master, a, err)
	}
}
