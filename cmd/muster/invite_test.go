package main

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"muster"
	"muster/httpserver/api"
	"muster/testdata/ports"
)

func TestTheInvitedLineStartsAnAgentThatJoinsOverHTTPS(t *testing.T) {
	d, _ := secure(t, "a")
	code, out := words(t, "invite", "--addr", d.urls["a"], "--secret-file", d.secretOf("a"), "--port", "7600", "-o", "jsonl")
	if code != 0 || !strings.Contains(out, "this machine only") {
		t.Fatalf("exit %d, %s", code, out)
	}
	_, line, _ := strings.Cut(out, `"command":"muster `)
	line, _, _ = strings.Cut(line, `"`)
	addrs, err := ports.Free(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	d.names = append(d.names, "b")
	d.urls["b"] = "http://" + addrs[0]                                                                 // on loopback nothing else is said: a cluster may be of both
	d.args["b"] = append(strings.Fields(line), "--name", "b", "--data-dir", filepath.Join(d.dir, "b"), // and away from ports in use
		"--http", addrs[0], "--gossip", addrs[1], "--raft", addrs[2])
	if err := d.start("b"); err != nil {
		t.Fatal(err)
	}
	until(t, "b is in", func() bool {
		n, err := d.client("a").Node(t.Context(), "b")
		return err == nil && n.URL == d.urls["b"]
	})
	if err := d.register(t.Context(), "b", "crm"); err != nil {
		t.Fatal(err)
	}
}

func TestAnInvitationToAnotherMachineIsComplete(t *testing.T) {
	far := muster.ClusterStatus{Master: &muster.MasterRef{URL: "https://192.0.2.1:7600"}, Peers: []muster.PeerStatus{
		{Slug: "a", Alive: true, Gossip: "192.0.2.1:7601"},
		{Slug: "b", Gossip: "192.0.2.2:7601"},
		{Slug: "c", Alive: true, Gossip: "[2001:db8::3]:7601"},
	}}
	f := &clientFlags{SecretFile: "/etc/my muster/secret"}
	inv, err := (&inviteCmd{}).invite(t.Context(), far, f)
	want := "muster agent --bind 0.0.0.0 --port 7600 --secret-file secret --join 192.0.2.1:7601,[2001:db8::3]:7601"
	if err != nil || inv.Command != want {
		t.Errorf("%q, %v", inv.Command, err)
	}
	notes := strings.Join(inv.Notes, "\n")
	if !strings.Contains(notes, "'/etc/my muster/secret' MACHINE:secret") || !strings.Contains(notes, "7602") {
		t.Error(notes)
	}
	far.Master.URL = "http://192.0.2.1:7600"
	if inv, err = (&inviteCmd{Port: 8000}).invite(t.Context(), far, f); err != nil || !strings.Contains(inv.Command, "--port 8000") || !strings.Contains(inv.Command, "--tls off") {
		t.Errorf("%q, %v", inv.Command, err)
	}
	if _, err := (&inviteCmd{}).invite(t.Context(), muster.ClusterStatus{}, f); err == nil {
		t.Error("nobody to join")
	}
}

func TestWhoCannotVerifyANodeIsToldHow(t *testing.T) {
	d, _ := secure(t, "a")
	t.Setenv("MUSTER_HOME", t.TempDir())
	key, err := d.client("a").CreateKey(t.Context(), muster.KeySpec{Name: "app", Scopes: []string{"read"}})
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.Replace(d.urls["a"], "https", "http", 1)
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"with the secret", []string{"--addr", d.urls["a"], "--key", *key.Plain, "--secret-file", d.secretOf("a")}, 0, "Master"},
		{"with a key alone", []string{"--addr", d.urls["a"], "--key", *key.Plain}, 4, "muster secret ca"},
		{"with plain HTTP", []string{"--addr", plain, "--secret-file", d.secretOf("a")}, 4, "use https://"},
	} {
		if code, out := words(t, append([]string{"status"}, c.args...)...); code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%s: exit %d, %s", c.name, code, out)
		}
	}
	code, pem := words(t, "secret", "ca", "--secret-file", d.secretOf("a"))
	roots := x509.NewCertPool()
	if code != 0 || !roots.AppendCertsFromPEM([]byte(pem)) || strings.Contains(pem, d.secret.Hex()) {
		t.Fatalf("exit %d, %s", code, pem)
	}
	app := &api.Client{Addrs: []string{d.urls["a"]}, Key: *key.Plain, HTTP: &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}},
	}}
	if _, err := app.Cluster(t.Context()); err != nil {
		t.Error("an application with the CA:", err)
	}
}
