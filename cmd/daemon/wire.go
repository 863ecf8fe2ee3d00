package daemon

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"muster"
	"muster/cluster"
	"muster/cluster/trust"
	"muster/httpserver"
	"muster/httpserver/api"
	"muster/search"
	"muster/search/index"
)

var (
	_ cluster.Wire       = (*wire)(nil)
	_ cluster.Prober     = (*wire)(nil)
	_ httpserver.Cluster = (*cluster.Cluster)(nil)
	_ httpserver.Auth    = (*gate)(nil)

	_ httpserver.Forwarder = (*wire)(nil)
	_ httpserver.Searcher  = (*search.Federation)(nil)
	_ httpserver.Documents = documents{}
	_ httpserver.Engine    = (*index.Index)(nil)
	_ httpserver.Shard     = (*index.Index)(nil)
	_ search.Asker         = (*wire)(nil)
	_ search.Asker         = here{}
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

// Holds asks a base URL whether it is the node with an ID.
func (w *wire) Holds(ctx context.Context, url, id string) bool {
	return (&api.Client{HTTP: w.http}).Holds(ctx, url, id)
}

// Forward has another agent do a request, with its caller's rights.
func (w *wire) Forward(ctx context.Context, to muster.Node, by muster.Rights, r api.Request) (api.Response, error) {
	return w.at(to, by).Send(ctx, r)
}

// at is a client for a node of the registry, by the URL it has there.
func (w *wire) at(n muster.Node, by muster.Rights) *api.Client {
	signer := &api.Client{HTTP: w.http, Record: w.record, Sign: func(method, path string, body []byte, to string) (string, error) {
		return w.id.Sign(trust.Call{Method: method, Path: path, Body: body, Audience: to, Rights: by})
	}}
	return signer.To(n.URL, n.ID)
}

// Pin is phase one of a search at another node.
func (w *wire) Pin(ctx context.Context, n muster.Node, q muster.ShardQuery) (s muster.ShardStats, err error) {
	return s, w.at(n, muster.RightsOf(ctx)).Do(ctx, http.MethodPost, api.PathPin, q, &s)
}

// Search is phase two of a search at another node.
func (w *wire) Search(ctx context.Context, n muster.Node, s muster.ShardSearch) (hits muster.ShardHits, err error) {
	return hits, w.at(n, muster.RightsOf(ctx)).Do(ctx, http.MethodPost, api.PathShard, s, &hits)
}

// here asks this node's own index.
type here struct{ index *index.Index }

// Pin is phase one of a search here.
func (h here) Pin(ctx context.Context, _ muster.Node, q muster.ShardQuery) (muster.ShardStats, error) {
	return h.index.Pin(ctx, q)
}

// Search is phase two of a search here.
func (h here) Search(ctx context.Context, _ muster.Node, s muster.ShardSearch) (muster.ShardHits, error) {
	return h.index.Search(ctx, s)
}

// documents takes bodies of documents apart for the index.
type documents struct{ *index.Index }

// Add puts in the good lines of a body and reports the bad ones.
func (d documents) Add(ctx context.Context, ndjson []byte) (muster.Indexed, error) {
	lines, bad := index.ParseNDJSON(ndjson)
	docs := make([]muster.Document, len(lines))
	for i, line := range lines {
		docs[i] = line.Document
	}
	done, err := d.Put(ctx, docs)
	if err != nil {
		return done, err
	}
	for _, e := range done.Errors { // Put counts documents, the caller lines
		bad = append(bad, muster.LineError{Line: lines[e.Line-1].Number, Message: e.Message})
	}
	slices.SortFunc(bad, func(a, b muster.LineError) int { return cmp.Compare(a.Line, b.Line) })
	done.Errors, done.Failed = bad, len(bad)
	return done, nil
}

// maxSigned is the longest token that a verifier looks at, in bytes.
const maxSigned = 8 << 10

// Call returns who signed a call. The body is asked for only when the rest of
// the signature holds, and is checked last.
func (g *gate) Call(token, method, path, _ string, body func(httpserver.Caller) ([]byte, error)) (httpserver.Caller, error) {
	by, err := g.envelope(token, method, path)
	if err != nil {
		return httpserver.Caller{}, err
	}
	raw, err := body(by)
	if err != nil {
		return by, err
	}
	return g.Signed(token, method, path, raw)
}

// envelope checks what a signature says beside the body. The verifier compares
// bodies last, and its refusals have a code or a cause until then: one without
// either is of a signature that only the body can still break. Nothing is
// remembered here, so that the whole call is not taken for its own replay.
func (g *gate) envelope(token, method, path string) (by httpserver.Caller, err error) {
	if len(token) > maxSigned {
		return by, muster.Errorf(muster.Unauthorized, "signed call is too long")
	}
	first := &trust.Verifier{NodeID: g.verifier.NodeID, Secrets: g.verifier.Secrets, NodeKey: g.verifier.NodeKey, Now: g.verifier.Now}
	_, err = first.VerifyCall(token, method, path, nil)
	refusal, ok := errors.AsType[*muster.Error](err)
	if err != nil && (!ok || refusal.Code != "" || refusal.Err != nil) {
		return by, err
	}
	return claimed(token, method, path)
}

// claimed reads the claims of a token whose signature was found good.
func claimed(token, method, path string) (by httpserver.Caller, err error) {
	var claims struct {
		Signer string        `json:"iss"`
		ID     string        `json:"jti"`
		Method string        `json:"m"`
		Path   string        `json:"p"`
		Rights muster.Rights `json:"r"`
	}
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil || json.Unmarshal(raw, &claims) != nil || claims.Method != method || claims.Path != path {
		return by, muster.Errorf(muster.Unauthorized, "this call was signed for another request")
	}
	by = httpserver.Caller{Rights: claims.Rights, Node: claims.Signer, CallID: claims.ID}
	if claims.Signer == "operator" {
		by.Node = ""
	}
	return by, nil
}
