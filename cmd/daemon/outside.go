package daemon

import (
	"context"
	"net/http"
	"time"

	"muster"
	"muster/cluster/trust"
	"muster/httpserver"
	"muster/httpserver/api"
	"muster/search"
)

var (
	_ search.Outsider     = (*outside)(nil)
	_ httpserver.Circuits = (*api.Breakers)(nil)
)

// outside reaches the applications that are nodes. Each is called with its own
// credential, at addresses that the guard permits.
type outside struct {
	vault    trust.Vault
	http     *http.Client
	record   func(api.Call)
	breakers *api.Breakers
}

// newTransport makes connections to applications, apart from those to agents.
func newTransport(loopback bool) *http.Transport {
	return &http.Transport{
		MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: 5 * time.Second,
		MaxResponseHeaderBytes: 64 << 10, DialContext: api.Guard{Loopback: loopback}.Dialer().DialContext,
	}
}

// to is an application, without its credential.
func (o *outside) to(n muster.Node, by muster.Rights) api.Application {
	return api.Application{URL: n.URL, ID: n.ID, Caller: by.Principal, HTTP: o.http, Record: o.record}
}

func (o *outside) at(n muster.Node, by muster.Rights) (a api.Application, err error) {
	a = o.to(n, by)
	if len(n.Sealed) > 0 {
		a.Credential, err = o.vault.Open(n.ID, n.Sealed)
	}
	return a, err
}

// health pings an application by the node protocol. It neither asks the
// breaker nor counts for it: it is how one finds out.
func (o *outside) health(ctx context.Context, n muster.Node, by muster.Rights) (muster.Vital, error) {
	return o.to(n, by).Health(ctx)
}

// Ask asks an application's own search.
func (o *outside) Ask(ctx context.Context, n muster.Node, q muster.OwnQuery) (hits muster.OwnHits, err error) {
	a, err := o.at(n, muster.RightsOf(ctx))
	if err != nil {
		return hits, err
	}
	err = o.breakers.Do(ctx, n.ID, func() (err error) {
		hits, err = a.Search(ctx, q)
		return err
	})
	return hits, err
}

// execute has an application run an action.
func (o *outside) execute(ctx context.Context, n muster.Node, by muster.Rights, x muster.Execution) (r muster.Result, err error) {
	a, err := o.at(n, by)
	if err != nil {
		return r, err
	}
	err = o.breakers.Do(ctx, n.ID, func() (err error) {
		r, err = a.Execute(ctx, x)
		return err
	})
	return r, err
}
