package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"muster"
	"muster/fsm"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
)

const (
	applyTimeout = 5 * time.Second
	retryPause   = 10 * time.Millisecond // between tries
	shownSecrets = 1000

	hintRepeat = "ask again with the same Idempotency-Key: it is done once at most"
)

// propose brings a command to the master and waits until this node's own copy
// has it. It tries again while there is no master, or the master dies on it,
// until ctx ends: the command's key makes that harmless.
func (c *Cluster) propose(ctx context.Context, by muster.Rights, cmd fsm.Command) (fsm.Result, error) {
	raw, err := json.Marshal(cmd)
	if err != nil {
		return fsm.Result{}, muster.Errorf(muster.Internal, "encode command: %w", err)
	}
	sent := false
	var unheard error // why the master did not hear this node, if it is not the master's doing
	for {
		if sent {
			if res, seen := c.reg.Answered(cmd); seen { // an earlier try got through
				return res, res.Err()
			}
		}
		res, err := c.atMaster(ctx, by, cmd, raw)
		if err == nil {
			if err = res.Err(); err == nil && c.reg.WaitIndex(ctx, res.Index) != nil {
				err = muster.Errorf(muster.OutcomeUnknown, "the write is done, but the deadline passed before this node saw it").WithHint(hintRepeat)
			}
			return res, err
		}
		switch muster.KindOf(err) {
		case muster.OutcomeUnknown, muster.Timeout:
			sent = true
		case muster.NotMaster, muster.NoMaster, muster.Unavailable:
		case muster.Unauthorized: // it was this node's signature: a master just elected may not know the node yet
			unheard = err
		case muster.Limited: // the master cannot remember more calls of this node just now
		default:
			return fsm.Result{}, err
		}
		if !pause(ctx, retryPause) {
			switch {
			case sent && unheard != nil:
				return fsm.Result{}, muster.Errorf(muster.OutcomeUnknown, "the deadline passed in the middle of a call; the one before was refused: %v", unheard).
					WithHint(hintRepeat)
			case sent:
				return fsm.Result{}, muster.Errorf(muster.OutcomeUnknown, "the deadline passed while the master was changing").
					WithHint(hintRepeat)
			}
			if unheard != nil {
				return fsm.Result{}, refused(unheard)
			}
			return fsm.Result{}, muster.Errorf(muster.NoMaster, "there was no master before the deadline").
				WithHint("check `muster status`: a majority of voters must be up")
		}
	}
}

// refused is the error of a node whose signature the master does not take. It is
// not the caller's fault.
func refused(why error) error {
	return muster.Errorf(muster.NoMaster, "the master refused this node's calls until the deadline: %v", why).
		WithHint("compare the clocks of the two, and ask another node meanwhile: muster doctor looks at both")
}

// applied is what became of an entry: its own index stands beside the result,
// which may repeat an earlier one.
type applied struct {
	res   fsm.Result
	index uint64
	err   error
}

// applyHere commits an encoded command, if this node leads. The end of ctx ends
// the wait, not the entry.
func (c *Cluster) applyHere(ctx context.Context, raw []byte) (fsm.Result, error) {
	done := c.applyAll(ctx, [][]byte{raw})[0]
	return done.res, done.err
}

// What an entry of several commands may be long bounds how much raft keeps: the
// last cachedEntries in memory; on the disk, keptEntries beyond a snapshot, which is
// taken when there are snapshotAfter new ones. It sends sentEntries at once, and has
// two seconds for that.
const (
	entryBytes    = 32 << 10
	cachedEntries = 256
	keptEntries   = 1024
	snapshotAfter = 2048
	sentEntries   = 32
)

// entriesOf makes entries of encoded commands, in their order: what comes together
// is one entry, as far as it is not too large.
func entriesOf(raws [][]byte) (entries [][][]byte) {
	size := entryBytes
	for _, raw := range raws {
		if size += len(raw); size >= entryBytes {
			entries, size = append(entries, nil), len(raw)
		}
		last := len(entries) - 1
		entries[last] = append(entries[last], raw)
	}
	return entries
}

// applyAll commits encoded commands in their order. The end of ctx ends the wait.
func (c *Cluster) applyAll(ctx context.Context, raws [][]byte) []applied {
	out, entries := make([]applied, 0, len(raws)), entriesOf(raws)
	done := make(chan []applied, len(entries)) // in their order
	began := c.background(func() {
		futures := make([]raft.ApplyFuture, len(entries))
		for i, entry := range entries {
			futures[i] = c.raft.ApplyLog(fsm.Entry(entry, time.Now()), applyTimeout)
		}
		for i, future := range futures {
			done <- resultsOf(future, len(entries[i]))
		}
	})
	if !began {
		return fill(out, len(raws), errStopping())
	}
	for range entries {
		select {
		case some := <-done:
			out = append(out, some...)
		case <-ctx.Done():
			err := muster.Errorf(muster.OutcomeUnknown, "the deadline passed before the write was on the disks of a majority").WithHint(hintRepeat)
			return fill(out, len(raws), err)
		}
	}
	return out
}

// fill has all that is missing up to n end with the same error.
func fill(out []applied, n int, why error) []applied {
	for len(out) < n {
		out = append(out, applied{err: why})
	}
	return out
}

// await calls raft and waits for its answer, or for the end of ctx: then ended
// is false. Raft never answers what reaches it while it shuts down, so Stop
// waits for these calls first, and refuses later ones.
func await[T any](ctx context.Context, c *Cluster, call func() T) (answer T, ended bool, err error) {
	done := make(chan T, 1)
	if !c.background(func() { done <- call() }) {
		return answer, false, errStopping()
	}
	select {
	case answer = <-done:
		return answer, true, nil
	case <-ctx.Done():
		return answer, false, nil
	}
}

// resultsOf are what became of the n commands of an entry.
func resultsOf(future raft.ApplyFuture, n int) []applied {
	if err := future.Error(); err != nil {
		return fill(nil, n, raftError(err))
	}
	results := fsm.Results(future.Response())
	if n > 1 && len(results) == 1 && results[0].Err() != nil { // the registry stopped; of one command it is its own refusal
		return fill(nil, n, results[0].Err())
	}
	if len(results) != n {
		return fill(nil, n, muster.Errorf(muster.Internal, "registry gave %d results for %d commands", len(results), n))
	}
	out := make([]applied, n)
	for i, res := range results {
		out[i] = applied{res, future.Index(), nil}
	}
	return out
}

// raftError gives raft's errors a kind. A leader deposed while committing does
// not know whether the entry lives on.
func raftError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return muster.Errorf(muster.NotMaster, "this node is not the master: %w", err)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrAbortedByRestore), errors.Is(err, raft.ErrRaftShutdown):
		return muster.Errorf(muster.OutcomeUnknown, "the master changed meanwhile: %w", err).WithHint(hintRepeat)
	default:
		return muster.Errorf(muster.Unavailable, "write to the log: %w", err)
	}
}

// encode makes a command of this node's own.
func (c *Cluster) encode(op fsm.Op, by muster.Rights, body any) ([]byte, error) {
	cmd, err := fsm.NewCommand(op, time.Now(), by.Principal, body)
	if err != nil {
		return nil, err
	}
	return json.Marshal(cmd)
}

// command makes a caller's command, with a key of its own if the caller gave none.
func (c *Cluster) command(w muster.Write, op fsm.Op, body any) (fsm.Command, error) {
	cmd, err := fsm.NewCommand(op, time.Now(), w.By.Principal, body)
	if err != nil {
		return cmd, err
	}
	key := w.Key
	if key == "" {
		key = c.cfg.NewID()
	}
	cmd.Key, cmd.Digest = w.By.Principal+" "+w.Route+" "+key, w.Digest
	return cmd, nil
}

// Register enters an external node and makes its key. A repeated call with the
// same idempotency key gives the first answer; its key is shown again only by
// the node that made it.
func (c *Cluster) Register(ctx context.Context, w muster.Write, g muster.Registration) (muster.Registered, error) {
	g, err := completed(g)
	if err != nil {
		return muster.Registered{}, err
	}
	body := fsm.NodeRegister{ID: c.cfg.NewID(), Slug: g.Slug, Registration: g}
	credential := g.Credential
	if credential == "" {
		credential = c.cfg.NewCredential()
		c.made.put(body.ID, credential)
	}
	if body.Sealed, err = c.cfg.Vault.Seal(body.ID, credential); err != nil {
		return muster.Registered{}, err
	}
	body.Registration.Credential = ""
	keyID, plain, hash := c.cfg.NewKey()
	body.Key = fsm.KeyCreate{ID: keyID, Name: g.Name, Hash: hash, NodeID: body.ID, Scopes: g.Scopes}
	if len(g.Scopes) == 0 {
		body.Key.Scopes, body.Key.MaxRisk = muster.NodeScopes(), muster.RiskLow
	}
	if body.Key, err = bound(w.By, body.Key); err != nil {
		return muster.Registered{}, err
	}
	op := fsm.OpNodeRegister
	if !w.By.May(op.Scope()) {
		op = fsm.OpNodeOffer // the caller has no key: whoever serves it lets strangers in
	}
	cmd, err := c.command(w, op, body)
	if err != nil {
		return muster.Registered{}, err
	}
	c.shown.put(body.ID, plain)
	res, err := c.propose(ctx, w.By, cmd)
	if err != nil {
		return muster.Registered{}, err
	}
	node, ok := c.Node(res.ID)
	if !ok {
		return muster.Registered{}, muster.Errorf(muster.Internal, "registered node %s is not in the registry", res.ID)
	}
	out := muster.Registered{Success: true, Node: node}
	if made, known := c.made.get(res.ID); known {
		out.Credential = &made
	}
	if shown, known := c.shown.get(res.ID); known {
		out.APIKey = &shown
	} else {
		out.Hint = "the key was shown by another node; make a new one if it is lost"
	}
	return out, nil
}

func completed(g muster.Registration) (muster.Registration, error) {
	if g.Slug == "" {
		g.Slug = fsm.Slug(g.Name)
	}
	if g.Slug == "" {
		err := muster.FieldError("slug", "none can be made from this name")
		return g, err.WithHint("give a slug of lower-case letters, digits and dashes")
	}
	if g.Capabilities == nil {
		g.Capabilities = []muster.Capability{muster.CapSearch, muster.CapActions}
	}
	if g.Version == "" {
		g.Version = "1.0.0"
	}
	return g, nil
}

// CreateKey makes a key. Its secret is in the answer, this once.
func (c *Cluster) CreateKey(ctx context.Context, w muster.Write, spec muster.KeySpec) (muster.Key, error) {
	id, plain, hash := c.cfg.NewKey()
	body := fsm.KeyCreate{ID: id, Name: spec.Name, Hash: hash, Scopes: spec.Scopes, MaxRisk: spec.MaxRisk, Targets: spec.Targets, Filter: spec.Filter}
	if spec.ExpiresIn != "" {
		d, err := time.ParseDuration(spec.ExpiresIn)
		if err != nil {
			return muster.Key{}, muster.FieldError("expires_in", "is not a duration like 720h")
		}
		body.ExpiresIn = d
	}
	body, err := bound(w.By, body)
	if err != nil {
		return muster.Key{}, err
	}
	cmd, err := c.command(w, fsm.OpKeyCreate, body)
	if err != nil {
		return muster.Key{}, err
	}
	c.shown.put(id, plain)
	res, err := c.propose(ctx, w.By, cmd)
	if err != nil {
		return muster.Key{}, err
	}
	key, ok := c.reg.Key(res.ID)
	if !ok {
		return muster.Key{}, muster.Errorf(muster.Internal, "key %s is not in the registry", res.ID)
	}
	if shown, known := c.shown.get(res.ID); known {
		key.Plain = &shown
	}
	return key, nil
}

// RevokeKey ends a key for good.
func (c *Cluster) RevokeKey(ctx context.Context, w muster.Write, id string) error {
	cmd, err := c.command(w, fsm.OpKeyRevoke, fsm.KeyRevoke{ID: id})
	if err != nil {
		return err
	}
	_, err = c.propose(ctx, w.By, cmd)
	return err
}

// codeHolderSilent says that the holder of a name does not answer but is not
// yet known to be dead.
const codeHolderSilent = "holder_silent"

// Join enters another agent into the registry, once it has proved that it holds
// its key. Only the master does.
func (c *Cluster) Join(ctx context.Context, j muster.Joining) (muster.Joined, error) {
	if id, err := uuid.Parse(j.ID); err != nil || id.String() != j.ID {
		return muster.Joined{}, muster.FieldError("id", "is not a UUID in lower case")
	}
	if err := c.cfg.CheckJoin(j); err != nil {
		return muster.Joined{}, err
	}
	return c.admit(ctx, j)
}

// admit decides whether another holder of the name still lives, and enters the
// agent.
func (c *Cluster) admit(ctx context.Context, j muster.Joining) (muster.Joined, error) {
	j.CallID, j.Proof = "", nil
	if c.raft.State() != raft.Leader || c.termed.Load() != c.raft.CurrentTerm() { // its first entry names the cluster
		return muster.Joined{}, muster.Errorf(muster.NotMaster, "this node is not the master, or not yet")
	}
	if id := c.reg.ClusterID(); j.ClusterID != "" && j.ClusterID != id {
		return muster.Joined{}, muster.Errorf(muster.Conflict, "this is cluster %s, not %s", id, j.ClusterID)
	}
	body := fsm.NodeJoin{Joining: j, Slug: fsm.Slug(j.Name)}
	if body.Slug == "" {
		return muster.Joined{}, muster.FieldError("name", "no slug can be made from it: use letters and digits")
	}
	for _, n := range c.reg.Nodes() {
		if n.Slug != body.Slug || n.DeletedAt != nil || n.ID == j.ID {
			continue
		}
		if err := c.holderDead(ctx, n); err != nil {
			return muster.Joined{}, err
		}
		body.TakeOver, body.HolderIndex = n.ID, n.Index
	}
	raw, err := c.encode(fsm.OpNodeJoin, c.self(), body)
	if err != nil {
		return muster.Joined{}, err
	}
	res, err := c.applyHere(ctx, raw)
	if err == nil {
		err = res.Err()
	}
	return muster.Joined{Index: res.Index, Slug: body.Slug}, err
}

// goneGrace is how long a node that said it would be back keeps its name.
const goneGrace = 10 * time.Second

// sign is what is known of whether a node lives.
type sign int

const (
	dead      sign = iota // gossip has it dead, and nothing answers in its name
	silent                // nothing answers, but it may come back at once
	answering             // something answers with its ID
)

// lives judges whether an agent lives: gossip must have it dead, and nothing may
// answer with its ID where it was last seen.
func (c *Cluster) lives(ctx context.Context, n muster.Node) sign {
	peer, known := c.peers.Peer(n.ID)
	if c.answers(ctx, n, peer) {
		return answering
	}
	led := c.leading.Load()
	switch {
	case known && peer.State == muster.PeerAlive,
		known && peer.State == muster.PeerRestarting && time.Since(peer.Since) < goneGrace,
		!known && (led == nil || time.Since(*led) < absenceGrace):
		return silent
	default:
		return dead
	}
}

// holderDead returns nil if the holder of a name is dead.
func (c *Cluster) holderDead(ctx context.Context, n muster.Node) error {
	taken := muster.Errorf(muster.Conflict, "the name %s is in use by living node %s at %s", n.Slug, n.ID, n.URL).
		WithCode("name_in_use").WithHint("choose another --name")
	if n.Kind != muster.KindAgent {
		return taken
	}
	switch c.lives(ctx, n) {
	case answering:
		return taken
	case silent:
		return taken.WithCode(codeHolderSilent).WithHint("remove the old node: muster cluster remove " + n.Slug)
	case dead:
	}
	return nil
}

// answers reports whether a node answers at its registered URL, or where gossip
// last saw it.
func (c *Cluster) answers(ctx context.Context, n muster.Node, peer muster.Peer) bool {
	urls := []string{n.URL}
	if at := peer.BaseURL(); at != "" && at != n.URL {
		urls = append(urls, at)
	}
	held := make(chan bool, len(urls))
	for _, url := range urls {
		c.background(func() { held <- c.probe.Holds(ctx, url, n.ID) })
	}
	for range urls {
		select {
		case yes := <-held:
			if yes {
				return true
			}
		case <-ctx.Done():
			return true // unasked is not dead
		}
	}
	return false
}

func (c *Cluster) self() muster.Rights {
	return muster.Rights{Principal: "node:" + c.cfg.Self.ID, Scopes: []string{muster.ScopeNode}}
}

// secrets remembers the once-shown keys this node made, the newest thousand,
// so that a repeated call gets its first answer again.
type secrets struct {
	mu    sync.Mutex
	plain map[string]string // guarded by mu
	order []string          // guarded by mu
}

func (s *secrets) put(id, plain string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plain == nil {
		s.plain = map[string]string{}
	}
	s.plain[id] = plain
	s.order = append(s.order, id)
	if len(s.order) > shownSecrets {
		delete(s.plain, s.order[0])
		s.order = s.order[1:]
	}
}

func (s *secrets) get(id string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	plain, ok := s.plain[id]
	return plain, ok
}
