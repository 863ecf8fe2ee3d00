package daemon

import (
	"context"
	"encoding/json"
	"net/http"

	"muster"
	"muster/cluster"
	"muster/cluster/trust"
	"muster/httpserver"
	"muster/httpserver/api"
)

var (
	_ cluster.Wire       = (*wire)(nil)
	_ cluster.Prober     = (*wire)(nil)
	_ httpserver.Cluster = (*cluster.Cluster)(nil)
	_ httpserver.Auth    = (*gate)(nil)
)

// wire carries calls to other agents, each signed by this node.
type wire struct {
	secret trust.Secret
	id     trust.Identity
	http   *http.Client
	record func(api.Call)
}

// to is a client for one peer, on behalf of a caller. An empty call ID is drawn.
func (w *wire) to(peer muster.Peer, by muster.Rights, sign func(trust.Call) (string, error), callID string) *api.Client {
	return &api.Client{
		Addrs: []string{"http://" + peer.HTTP}, HTTP: w.http, Record: w.record,
		Sign: func(method, path string, body []byte, _ string) (string, error) {
			return sign(trust.Call{Method: method, Path: path, Body: body, Audience: peer.ID, Rights: by, ID: callID})
		},
		IDs: map[string]string{"http://" + peer.HTTP: peer.ID},
	}
}

func (w *wire) self() muster.Rights {
	return muster.Rights{Principal: "node:" + w.id.ID, Scopes: []string{muster.ScopeNode}}
}

// Apply forwards a command to the master with its caller's rights.
func (w *wire) Apply(ctx context.Context, to muster.Peer, by muster.Rights, command []byte) ([]byte, error) {
	var answer json.RawMessage
	err := w.to(to, by, w.id.Sign, "").Do(ctx, http.MethodPost, api.PathApply, json.RawMessage(command), &answer)
	return answer, err
}

// Join asks a member to enter this node.
func (w *wire) Join(ctx context.Context, to muster.Peer, j muster.Joining) (joined muster.Joined, err error) {
	j.CallID = newID()
	j.Proof = w.id.ProveJoin(j.ClusterID, j.CallID)
	return joined, w.to(to, w.self(), w.secret.SignJoin, j.CallID).Do(ctx, http.MethodPost, api.PathJoin, j, &joined)
}

// ReadIndex asks the master how far acknowledged writes reach.
func (w *wire) ReadIndex(ctx context.Context, to muster.Peer) (uint64, error) {
	var index api.Index
	err := w.to(to, w.self(), w.id.Sign, "").Do(ctx, http.MethodGet, api.PathReadIndex, nil, &index)
	return index.Index, err
}

// Holds asks an address whether it is the node with an ID.
func (w *wire) Holds(ctx context.Context, httpAddr, id string) bool {
	return (&api.Client{HTTP: w.http}).Holds(ctx, httpAddr, id)
}
