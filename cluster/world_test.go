package cluster_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"muster"
	"muster/cluster"
	"muster/cluster/trust"
	"muster/fsm"
	"muster/testdata/ports"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// world is a few members in one process: raft, its files and its TLS are real;
// gossip and HTTP are these tables.
type world struct {
	t      *testing.T
	ring   *trust.Ring
	secret trust.Secret

	opening func(muster.Tx) []muster.TxEvent // of the drivers of members to be made; nil: there are none

	mu      sync.Mutex
	vital   vital                  // guarded by mu: what pings hear
	pings   int                    // guarded by mu
	gossip  map[string]muster.Peer // guarded by mu
	members map[string]*member     // guarded by mu
	refusal error                  // guarded by mu: what calls to the master end with
	answers map[string]string      // guarded by mu: base URL to the ID that answers there
	writes  *toll                  // guarded by mu; nil: calls pass
	reads   *toll                  // guarded by mu; nil: calls pass
}

type member struct {
	*cluster.Cluster

	id   string
	name string
	reg  *fsm.Registry
	cfg  cluster.Config
	w    *world
}

func newWorld(t *testing.T) *world {
	t.Helper()
	secret := trust.NewSecret()
	ring, err := trust.NewRing([]trust.Secret{secret})
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, ring: ring, secret: secret, gossip: map[string]muster.Peer{}, members: map[string]*member{}, answers: map[string]string{}}
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

func freePort(t *testing.T) string {
	t.Helper()
	addrs, err := ports.Free(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return addrs[0]
}

// make prepares a member; change may alter its settings.
func (w *world) make(name string, change func(*cluster.Config)) *member {
	w.t.Helper()
	id := newID()
	certs := trust.NewCertificates(w.ring, id)
	m := &member{id: id, name: name, w: w, cfg: cluster.Config{
		Dir: w.t.TempDir(), Bind: freePort(w.t), Voters: 3,
		ServerTLS: certs.Mutual(), ClientTLS: certs.Client, NewKey: trust.NewKey, RenewKey: trust.RenewKey, NewID: newID,
		CheckJoin: func(muster.Joining) error { return nil },
		Vault:     vault(w.secret), NewCredential: trust.NewCredential, Ping: w.ping, PingEvery: 50 * time.Millisecond,
		Opening: w.opening,
		Promise: func(to string) { w.peer(id, func(p *muster.Peer) { p.Promise = to }) },
		Log:     slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name),
		RaftLog: hclog.New(&hclog.LoggerOptions{Name: name, Output: w.t.Output(), Level: hclog.Debug}),
		Self:    muster.Joining{ID: id, Name: name, URL: "http://" + name, Version: muster.Version, PublicKey: []byte(id)},
	}}
	m.cfg.Self.Raft = m.cfg.Bind
	if change != nil {
		change(&m.cfg)
	}
	return m
}

// start brings a member up and lets the others see it.
func (m *member) start() *member {
	w := m.w
	w.t.Helper()
	reg := fsm.New()
	m.reg = reg
	m.Cluster = cluster.New(m.cfg, reg, w, w, w)
	w.mu.Lock()
	w.members[m.id] = m
	w.answers["http://"+m.name] = m.id
	w.gossip[m.id] = muster.Peer{
		ID: m.id, Name: m.name, Raft: m.cfg.Bind, HTTP: m.name, State: muster.PeerAlive, Since: time.Now(),
		Stateless: m.cfg.Expect > 0, Expect: m.cfg.Expect,
	}
	w.mu.Unlock()
	if err := m.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(m.stop)
	return m
}

// entered waits until the member is in the registry, and has gossip tell its
// cluster, as the daemon does.
func (m *member) entered() *member {
	m.w.t.Helper()
	select {
	case <-m.Entered():
	case err := <-m.Fatal():
		m.w.t.Fatalf("%s: %v", m.name, err)
	case <-time.After(patience):
		m.w.t.Fatalf("%s did not enter the cluster", m.name)
	}
	m.w.peer(m.id, func(p *muster.Peer) { p.ClusterID, p.Stateless = m.reg.ClusterID(), false })
	return m
}

// stop ends a member as a crash does: the others still think it alive.
func (m *member) stop() {
	m.w.mu.Lock()
	delete(m.w.members, m.id)
	delete(m.w.answers, "http://"+m.name)
	m.w.mu.Unlock()
	if err := m.Stop(context.Background()); err != nil {
		m.w.t.Errorf("stop %s: %v", m.name, err)
	}
}

func (w *world) peer(id string, change func(*muster.Peer)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.gossip[id]
	change(&p)
	w.gossip[id] = p
}

func (w *world) dies(m *member) {
	w.peer(m.id, func(p *muster.Peer) { p.State, p.Since = muster.PeerFailed, time.Now() })
}

func (w *world) forgets(m *member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.gossip, m.id)
}

func (w *world) Peers() (out []muster.Peer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.gossip {
		out = append(out, p)
	}
	return out
}

func (w *world) Peer(id string) (muster.Peer, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.gossip[id]
	return p, ok
}

func (w *world) at(id string) (*member, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.members[id]; m != nil {
		return m, nil
	}
	return nil, muster.Errorf(muster.Unavailable, "%s is down", id)
}

func (w *world) Apply(ctx context.Context, to muster.Peer, commands []byte) ([]byte, error) {
	m, err := w.at(to.ID)
	w.mu.Lock()
	err = cmp.Or(err, w.refusal)
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if bar := w.applies(); bar != nil {
		bar.pay(commands)
		ctx = context.WithoutCancel(ctx) // however long that took
	}
	return m.Apply(ctx, "", commands)
}

func (w *world) Join(ctx context.Context, to muster.Peer, j muster.Joining) (muster.Joined, error) {
	m, err := w.at(to.ID)
	if err != nil {
		return muster.Joined{}, err
	}
	return m.Join(ctx, j)
}

func (w *world) ReadIndex(ctx context.Context, to muster.Peer) (uint64, error) {
	m, err := w.at(to.ID)
	w.mu.Lock()
	err = cmp.Or(err, w.refusal)
	w.mu.Unlock()
	if err != nil {
		return 0, err
	}
	w.mu.Lock()
	bar := w.reads
	w.mu.Unlock()
	if bar != nil {
		bar.pay(nil)
		ctx = context.WithoutCancel(ctx)
	}
	return m.ReadIndex(ctx)
}

func (w *world) onApply(bar *toll) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = bar
}

func (w *world) applies() *toll {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writes
}

func (w *world) onReadIndex(bar *toll) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads = bar
}

func (w *world) Holds(_ context.Context, url, id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.answers[url] == id
}

// until waits for something that raft or a loop does on its own.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !done() {
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func founder(c *cluster.Config) { c.Founding = true }

// three starts a founder and two that join it, and waits until all vote.
func (w *world) three() (a, b, c *member) {
	w.t.Helper()
	a = w.make("a", founder).start().entered()
	b, c = w.make("b", nil).start().entered(), w.make("c", nil).start().entered()
	until(w.t, "three voters", func() bool {
		voters := 0
		for _, p := range a.Status().Peers {
			if p.Role == muster.RoleVoter {
				voters++
			}
		}
		return voters == 3
	})
	return a, b, c
}

var operator = muster.Rights{Principal: "operator", Scopes: []string{muster.ScopeAdmin}}

func (m *member) registerShop(key string) (muster.Registered, error) {
	ctx, cancel := context.WithTimeout(m.w.t.Context(), patience)
	defer cancel()
	write := muster.Write{By: operator, Route: "POST /v1/nodes", Key: key, Digest: "d"}
	return m.Register(ctx, write, muster.Registration{Name: "shop", URL: "http://127.0.0.1:9"})
}

// forwarded has a member commit a command that another forwards, and returns
// the error of that command.
func (m *member) forwarded(by muster.Rights, command []byte) error {
	type one struct {
		By      muster.Rights   `json:"by"`
		Command json.RawMessage `json:"command"`
	}
	if !json.Valid(command) {
		command = []byte("1") // the batch itself is good
	}
	var body bytes.Buffer
	plain := json.NewEncoder(&body)
	plain.SetEscapeHTML(false) // what comes in comes as it was written
	if err := plain.Encode(map[string]any{"commands": []one{{by, command}}}); err != nil {
		return err
	}
	raw, err := m.Apply(m.w.t.Context(), "", body.Bytes())
	if err != nil {
		return err
	}
	var out struct {
		Answers []struct {
			Failed *fsm.Refusal `json:"failed"`
		} `json:"answers"`
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return err
	}
	return (fsm.Result{Refused: out.Answers[0].Failed}).Err()
}
