package doctor_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"muster"
	"muster/httpserver/api"
	"muster/httpserver/doctor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ward is a cluster as a and its ports see it. It is well unless it is changed.
type ward struct {
	nodes  []muster.Node
	status muster.ClusterStatus
	free   uint64
	noDisk error
	secret string
	broken map[string]error // by port and node, like "http b"
	unseen string           // ID of whom gossip does not know
	ahead  time.Duration    // b's clock
	slow   time.Duration    // how long b takes
	unwell bool             // b is not ready
}

func newWard(t *testing.T) *ward {
	t.Helper()
	w := &ward{free: 100 << 30, broken: map[string]error{}, secret: filepath.Join(t.TempDir(), "secret")}
	if err := os.WriteFile(w.secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.status = muster.ClusterStatus{Master: &muster.MasterRef{Slug: "a", ID: "a"}, Quorum: 2, CanLose: 1, CommitIndex: 7, AppliedIndex: 7}
	for _, id := range []string{"a", "b", "c"} {
		w.nodes = append(w.nodes, muster.Node{ID: id, Slug: id, Kind: muster.KindAgent, Type: muster.TypeChild, Status: muster.StatusActive})
		w.status.Peers = append(w.status.Peers, muster.PeerStatus{ID: id, Slug: id, Role: muster.RoleVoter, Alive: true})
	}
	w.nodes[0].Type = muster.TypeMaster
	return w
}

func (w *ward) Nodes() []muster.Node         { return w.nodes }
func (w *ward) Status() muster.ClusterStatus { return w.status }

func (w *ward) HTTP(ctx context.Context, p muster.Peer) (api.Health, error) {
	if p.ID != "b" {
		return api.Health{ID: p.ID, Ready: true, Timestamp: time.Now()}, w.broken["http "+p.ID]
	}
	select {
	case <-time.After(w.slow):
		return api.Health{ID: "b", Ready: !w.unwell, Timestamp: time.Now().Add(w.ahead)}, w.broken["http b"]
	case <-ctx.Done():
		return api.Health{}, ctx.Err()
	}
}

func (w *ward) Gossip(_ context.Context, p muster.Peer) error { return w.broken["gossip "+p.ID] }
func (w *ward) Raft(_ context.Context, p muster.Peer) error   { return w.broken["raft "+p.ID] }

func (w *ward) examine(ctx context.Context) []api.Finding {
	return doctor.New(doctor.Config{
		Self: "a", Cluster: w, Ports: w, Voters: func() int { return 3 }, Secret: w.secret, Identity: w.secret, Dir: "/data",
		Peer: func(id string) (muster.Peer, bool) {
			return muster.Peer{ID: id, HTTP: id + ":1", Gossip: id + ":2", Raft: id + ":3"}, id != w.unseen
		},
		Free: func(string) (uint64, error) { return w.free, w.noDisk },
	}).Examine(ctx)
}

func TestAWellNodeHasNothingButGoodFindings(t *testing.T) {
	all := newWard(t).examine(t.Context())
	seen := make([]string, 0, len(all))
	for _, f := range all {
		if f.Status != api.FindingOK || f.Remedy != "" || f.Node != "a" || f.Finding == "" {
			t.Errorf("%+v", f)
		}
		seen = append(seen, strings.TrimSpace(f.Check+" "+f.Peer))
	}
	want := []string{
		"secret", "identity", "disk", "master", "contact", "lag", "voters", "quorum", "ports",
		"http b", "gossip b", "raft b", "clock b", "http c", "gossip c", "raft c", "clock c",
	}
	if !slices.Equal(seen, want) {
		t.Errorf("looked at %q", seen)
	}
}

func TestEachFaultIsFoundAloneAndHasItsRemedy(t *testing.T) {
	refused := errors.New("connection refused")
	for what, c := range map[string]struct {
		spoil  func(*ward)
		check  string // and the peer
		status string
		remedy string
	}{
		"others read the secret":  {func(w *ward) { _ = os.Chmod(w.secret, 0o644) }, "secret", "fail", "chmod 600 "},
		"the disk is full":        {func(w *ward) { w.free = 100 << 20 }, "disk", "fail", "--data-dir"},
		"the disk is nearly full": {func(w *ward) { w.free = 900 << 20 }, "disk", "warn", "--data-dir"},
		"the disk does not tell":  {func(w *ward) { w.noDisk = refused }, "disk", "warn", "by hand"},
		"no master":               {func(w *ward) { w.status.Master = nil }, "master", "fail", "majority of the voters (2)"},
		"late contact":            {func(w *ward) { w.status.StaleMs = 1000 }, "contact", "warn", "load"},
		"no contact":              {func(w *ward) { w.status.StaleMs = 10_000 }, "contact", "fail", "60 s"},
		"behind":                  {func(w *ward) { w.status.CommitIndex = 300 }, "lag", "warn", "disk"},
		"a standby too many":      {func(w *ward) { w.status.Peers[2].Role = muster.RoleStandby }, "voters", "warn", "promotes"},
		"a voter too many": {func(w *ward) {
			w.status.Peers = append(w.status.Peers, muster.PeerStatus{ID: "d", Role: muster.RoleVoter, Alive: true})
		}, "voters", "warn", "cluster remove"},
		"no majority": {func(w *ward) {
			w.status.Peers[1].Alive, w.status.Peers[2].Alive, w.status.CanLose = false, false, 0
		}, "quorum", "fail", "start the dead voters"},
		"none may fail":           {func(w *ward) { w.status.CanLose = 0 }, "quorum", "warn", "muster invite"},
		"no other may fail":       {func(w *ward) { w.status.CanLose, w.status.Peers[2].Alive = 0, false }, "quorum", "warn", "cluster remove"},
		"an address leads astray": {func(w *ward) { w.broken["raft a"] = refused }, "ports", "warn", "--advertise-raft"},
		"HTTP is closed":          {func(w *ward) { w.broken["http c"] = refused }, "http c", "fail", "c:1 (tcp)"},
		"gossip is closed":        {func(w *ward) { w.broken["gossip c"] = refused }, "gossip c", "fail", "c:2 (udp and tcp)"},
		"raft is closed":          {func(w *ward) { w.broken["raft c"] = refused }, "raft c", "fail", "c:3 (tcp)"},
		"all is closed": {func(w *ward) {
			w.broken["http c"], w.broken["gossip c"], w.broken["raft c"] = refused, refused, refused
		}, "alive c", "fail", "cluster remove c"},
		"never seen":     {func(w *ward) { w.unseen = "c" }, "alive c", "fail", "--join"},
		"not ready":      {func(w *ward) { w.unwell = true }, "http b", "warn", "log"},
		"a fast clock":   {func(w *ward) { w.ahead = 2 * time.Second }, "clock b", "warn", "NTP"},
		"a slow clock":   {func(w *ward) { w.ahead = -29 * time.Second }, "clock b", "warn", "30 s"},
		"a wrong clock":  {func(w *ward) { w.ahead = -30 * time.Second }, "clock b", "fail", "NTP"},
		"a hanging node": {func(w *ward) { w.slow = time.Hour }, "http b", "fail", "b:1"},
		"an application is down": {func(w *ward) {
			w.nodes = append(w.nodes, muster.Node{ID: "x", Slug: "x", URL: "http://x", Kind: muster.KindExternal, Status: muster.StatusError})
		}, "external x", "fail", "node check http://x"},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWard(t)
			c.spoil(w)
			synctest.Test(t, func(t *testing.T) {
				bad := slices.DeleteFunc(w.examine(t.Context()), func(f api.Finding) bool { return f.Status == api.FindingOK })
				if c.check == "secret" && len(bad) == 2 {
					bad = bad[:1] // the identity is the same file here
				}
				if len(bad) != 1 {
					t.Fatalf("%+v", bad)
				}
				f := bad[0]
				if strings.TrimSpace(f.Check+" "+f.Peer) != c.check || f.Status != c.status || !strings.Contains(f.Remedy, c.remedy) {
					t.Errorf("%+v", f)
				}
			})
		})
	}
}

func TestAClockIsJudgedByWhatIsCertainOfASlowAnswer(t *testing.T) {
	w := newWard(t)
	w.slow, w.ahead = 2*time.Second, 1500*time.Millisecond // may as well be half a second off
	synctest.Test(t, func(t *testing.T) {
		for _, f := range w.examine(t.Context()) {
			if f.Status != api.FindingOK {
				t.Errorf("%+v", f)
			}
		}
	})
}

func TestWhoLeftAndWhoWasDeletedIsNotMissed(t *testing.T) {
	w := newWard(t)
	now := time.Now()
	w.nodes = append(w.nodes,
		muster.Node{ID: "d", Slug: "d", Kind: muster.KindAgent, Status: muster.StatusInactive},
		muster.Node{ID: "e", Slug: "e", Kind: muster.KindAgent, Status: muster.StatusError, DeletedAt: &now})
	for _, f := range w.examine(t.Context()) {
		if f.Peer == "d" || f.Peer == "e" || f.Status != api.FindingOK {
			t.Errorf("%+v", f)
		}
	}
}
