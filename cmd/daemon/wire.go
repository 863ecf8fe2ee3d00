package daemon

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"muster"
	"muster/actions"
	"muster/actions/journal"
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

	_ httpserver.Forwarder   = (*wire)(nil)
	_ httpserver.Searcher    = (*search.Federation)(nil)
	_ httpserver.Documents   = documents{}
	_ httpserver.AnswerCache = (*search.Federation)(nil)
	_ httpserver.Engine      = (*index.Index)(nil)
	_ httpserver.Shard       = (*index.Index)(nil)
	_ search.Asker           = (*wire)(nil)
	_ search.Asker           = here{}
	_ search.Generations     = generations{}

	_ httpserver.Actions = (*actions.Executor)(nil)
	_ httpserver.Runner  = (*actions.Runner)(nil)
	_ httpserver.Jobs    = (*actions.Runner)(nil)

	_ httpserver.Executions = (*actions.Executor)(nil)
	_ httpserver.Catalog    = catalog{}
	_ actions.Asker         = (*wire)(nil)
	_ actions.Documents     = documents{}

	_ httpserver.Requests = requests{}
	_ actions.Cache       = (*search.Federation)(nil)
	_ actions.Callers     = callers{}
	_ actions.Journal     = (*journal.Journal)(nil)
	_ actions.Jobs        = (*journal.Journal)(nil)
	_ actions.Outcomes    = outcomes{}
	_ actions.Catalog     = catalog{}
)

// wire carries calls to other agents, each signed by this node.
type wire struct {
	ring   *trust.Ring
	id     trust.Identity
	pairs  *trust.Pairs
	http   http.RoundTripper
	peer   func(id string) (muster.Peer, bool)
	record func(api.Call)
	apps   *outside
}

// call makes a call to another agent through its circuit breaker. An agent that
// gossip saw come back is given another chance at once.
func (w *wire) call(ctx context.Context, n muster.Node, do func() error) error {
	if peer, known := w.peer(n.ID); known && peer.State == muster.PeerAlive {
		w.apps.breakers.Back(n.ID, peer.Since)
	}
	return w.apps.breakers.Do(ctx, n.ID, do)
}

// to is a client for one peer, on behalf of a caller. An empty call ID is drawn.
func (w *wire) to(peer muster.Peer, by muster.Rights, sign func(trust.Call) (string, error), callID string) *api.Client {
	return &api.Client{
		Addrs: []string{peer.BaseURL()}, HTTP: w.dialing(peer.ID), Record: w.record, Caller: by.Principal,
		Sign: func(r api.Request, _ string) (string, error) {
			return sign(trust.Call{Method: r.Method, Path: r.Path, Key: r.Key(), Body: r.Body, Audience: peer.ID, Rights: by, ID: callID})
		},
		IDs: map[string]string{peer.BaseURL(): peer.ID},
	}
}

func (w *wire) self() muster.Rights {
	return muster.Rights{Principal: "node:" + w.id.ID, Scopes: []string{muster.ScopeNode}}
}

// Apply forwards commands to the master. Whose they are is in each of them: this
// node vouches for that.
func (w *wire) Apply(ctx context.Context, to muster.Peer, commands []byte) ([]byte, error) {
	answer, err := w.to(to, w.self(), w.pairs.Sign, "").Send(ctx, api.Request{Method: http.MethodPost, Path: api.PathApply, Body: commands})
	return answer.Body, err
}

// Join asks a member to enter this node.
func (w *wire) Join(ctx context.Context, to muster.Peer, j muster.Joining) (joined muster.Joined, err error) {
	j.CallID = newID()
	if j.Proof, err = w.id.ProveJoin(j, to.ID); err != nil {
		return joined, err
	}
	return joined, w.to(to, w.self(), w.ring.Secrets()[0].SignJoin, j.CallID).Do(ctx, http.MethodPost, api.PathJoin, j, &joined)
}

// ReadIndex asks the master how far acknowledged writes reach.
func (w *wire) ReadIndex(ctx context.Context, to muster.Peer) (uint64, error) {
	var index api.Index
	err := w.to(to, w.self(), w.pairs.Sign, "").Do(ctx, http.MethodGet, api.PathReadIndex, nil, &index)
	return index.Index, err
}

// Holds asks a base URL whether it is the node with an ID.
func (w *wire) Holds(ctx context.Context, url, id string) bool {
	return (&api.Client{HTTP: w.dialing(id), Record: w.record, Caller: w.self().Principal, IDs: map[string]string{url: id}}).Holds(ctx, url, id)
}

// Forward has another agent do a request, with its caller's rights.
func (w *wire) Forward(ctx context.Context, to muster.Node, by muster.Rights, r api.Request) (api.Response, error) {
	return w.at(to, by).Send(ctx, r)
}

// at is a client for an agent of the registry, where gossip has it; by the URL
// it has there, which may lead through a proxy, only if gossip does not know it.
func (w *wire) at(n muster.Node, by muster.Rights) *api.Client {
	signer := &api.Client{HTTP: w.dialing(n.ID), Record: w.record, Caller: by.Principal, Sign: func(r api.Request, to string) (string, error) {
		return w.pairs.Sign(trust.Call{Method: r.Method, Path: r.Path, Key: r.Key(), Body: r.Body, Audience: to, Rights: by})
	}}
	if p, known := w.peer(n.ID); known && p.HTTP != "" {
		return signer.To(p.BaseURL(), n.ID)
	}
	return signer.To(n.URL, n.ID)
}

// Pin is phase one of a search at another node.
func (w *wire) Pin(ctx context.Context, n muster.Node, q muster.ShardQuery) (s muster.ShardStats, err error) {
	err = w.call(ctx, n, func() error {
		return w.at(n, muster.RightsOf(ctx)).Do(ctx, http.MethodPost, api.PathPin, q, &s)
	})
	return s, err
}

// Search is phase two of a search at another node.
func (w *wire) Search(ctx context.Context, n muster.Node, s muster.ShardSearch) (hits muster.ShardHits, err error) {
	err = w.call(ctx, n, func() error {
		return w.at(n, muster.RightsOf(ctx)).Do(ctx, http.MethodPost, api.PathShard, s, &hits)
	})
	return hits, err
}

// health pings a node by the node protocol.
func (w *wire) health(ctx context.Context, n muster.Node) (muster.Vital, error) {
	if n.Kind == muster.KindExternal {
		return w.apps.health(ctx, n, w.self())
	}
	return api.Application{
		URL: w.at(n, w.self()).Addrs[0], ID: n.ID, Caller: w.self().Principal, HTTP: w.dialing(n.ID), Record: w.record,
	}.Health(ctx)
}

// Execute has another node run an action.
func (w *wire) Execute(ctx context.Context, n muster.Node, by muster.Rights, x muster.Execution) (r muster.Result, err error) {
	if n.Kind == muster.KindExternal {
		return w.apps.execute(ctx, n, by, x)
	}
	execute := func() (err error) {
		r, err = w.at(n, by).Execute(ctx, x)
		return err
	}
	if x.Tx != nil { // its driver makes its own pauses, and asks as soon as the node is back
		err = execute()
	} else {
		err = w.call(ctx, n, execute)
	}
	return r, err
}

// Cancel has another node kill what it executes of a job.
func (w *wire) Cancel(ctx context.Context, n muster.Node, by muster.Rights, action, job string) error {
	if n.Kind == muster.KindExternal {
		return muster.Errorf(muster.Unsupported, "the node protocol has no word to end an action")
	}
	return w.at(n, by).Cancel(ctx, api.Cancellation{Action: action, Job: job})
}

// Output returns what a job's program prints at another node.
func (w *wire) Output(ctx context.Context, n muster.Node, by muster.Rights, a muster.OutputAsk) (muster.Output, error) {
	return w.at(n, by).OwnOutput(ctx, a)
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

// Call returns who signed a call, and for whom. Until this node has entered, its
// copy of the registry may be missing or old: it hears the operator and nodes
// that join, and does not know the others.
func (g *gate) Call(token, method, path, key string, body func(httpserver.Caller) ([]byte, error)) (httpserver.Caller, error) {
	heard := path == api.PathJoin || g.entered()
	v, err := g.verifier.VerifyBody(token, trust.Call{Method: method, Path: path, Key: key}, func(v trust.Verified) ([]byte, error) {
		if v.FromNode && !heard {
			return nil, errNotReady()
		}
		return body(callerOf(v))
	})
	if !heard && muster.CodeOf(err) == string(muster.Unauthorized) {
		err = errNotReady()
	}
	return callerOf(v), err
}

func errNotReady() error {
	return muster.Errorf(muster.Unavailable, "this node has not entered the cluster yet and does not know its members").WithCode("not_ready")
}

func callerOf(v trust.Verified) httpserver.Caller {
	by := httpserver.Caller{Rights: v.Rights, CallID: v.ID}
	if v.FromNode {
		by.Node = v.Signer
	}
	return by
}
