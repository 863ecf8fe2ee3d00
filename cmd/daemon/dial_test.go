package daemon_test

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"

	"muster/cluster/trust"
	"muster/cmd/daemon"
)

func TestACallMeantForOneNodeReachesNoOtherAtItsAddress(t *testing.T) {
	ring, err := trust.NewRing([]trust.Secret{trust.NewSecret()})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = append(got, r.URL.Path+" "+r.Host) }))
	server.TLS = trust.NewCertificates(ring, "node-a").HTTPS(func() *tls.Certificate { return nil })
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	shared := daemon.NewDialer(trust.NewCertificates(ring, "node-c"))
	defer shared.CloseIdleConnections()
	call := func(id, path string) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := daemon.Meant(shared, id).Do(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		}
		return err
	}
	if err := call("node-a", "/one"); err != nil {
		t.Fatal(err)
	}
	if err := call("node-b", "/two"); err == nil { // the connection to node-a is still open
		t.Error("a call for another node arrived")
	}
	if err := call("node-a", "/three"); err != nil {
		t.Error(err)
	}
	host := server.Listener.Addr().String()
	if len(got) != 2 || got[0] != "/one "+host || got[1] != "/three "+host {
		t.Errorf("arrived: %v", got)
	}
}
