package daemon

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"muster/cluster/trust"
)

const dialTime = time.Second

// newDialer opens connections to agents, and keeps them for the next call. Over
// HTTPS they are kept by node ID, not by address: what was proved to be one node
// serves no calls that are meant for another.
func newDialer(certs *trust.Certificates) *http.Transport {
	plain := &net.Dialer{Timeout: dialTime}
	return &http.Transport{
		MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second, DialContext: plain.DialContext,
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			id, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeout(ctx, 2*dialTime)
			defer cancel()
			host, _ := ctx.Value(hostKey{}).(string)
			return (&tls.Dialer{NetDialer: plain, Config: certs.Client(id)}).DialContext(ctx, network, host)
		},
	}
}

// hostKey is the context key of the address that a node has now.
type hostKey struct{}

// meant sends requests to one node and no other: over HTTPS, whatever answers
// must prove that it has this ID.
type meant struct {
	id   string
	base http.RoundTripper
}

// RoundTrip sends one request.
func (m meant) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return m.base.RoundTrip(r)
	}
	host := r.URL.Host
	if r.URL.Port() == "" {
		host = net.JoinHostPort(r.URL.Hostname(), "443")
	}
	r = r.Clone(context.WithValue(r.Context(), hostKey{}, host))
	r.Host, r.URL.Host = r.URL.Host, m.id
	return m.base.RoundTrip(r)
}

// dialing is a client for the node with an ID.
func (w *wire) dialing(id string) *http.Client {
	return &http.Client{Transport: meant{id, w.http}}
}
