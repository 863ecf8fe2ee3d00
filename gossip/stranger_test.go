package gossip_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster"
	"muster/gossip"

	"github.com/hashicorp/memberlist"
)

// stranger is a member of the gossip that is none of ours: it tells what it
// likes and takes in everybody.
type stranger struct {
	*memberlist.Memberlist
	memberlist.EventDelegate
	meta  []byte
	heard sync.Map // how often which name was said to be alive: *atomic.Int64
}

func (s *stranger) NodeMeta(int) []byte           { return s.meta }
func (*stranger) NotifyMsg([]byte)                {}
func (*stranger) GetBroadcasts(_, _ int) [][]byte { return nil }
func (*stranger) LocalState(bool) []byte          { return nil }
func (*stranger) MergeRemoteState([]byte, bool)   {}
func (s *stranger) times(name string) *atomic.Int64 {
	n, _ := s.heard.LoadOrStore(name, &atomic.Int64{})
	count, _ := n.(*atomic.Int64)
	return count
}

func (s *stranger) NotifyAlive(n *memberlist.Node) error {
	s.times(n.Name).Add(1)
	return nil
}

func startStranger(t *testing.T, name string, meta []byte) (*stranger, string) {
	t.Helper()
	addr := freeAddr(t)
	s := &stranger{meta: meta}
	conf := memberlist.DefaultLANConfig()
	host, port, _ := net.SplitHostPort(addr)
	conf.BindPort, _ = strconv.Atoi(port)
	conf.Name, conf.BindAddr, conf.AdvertisePort, conf.SecretKey = name, host, conf.BindPort, key
	conf.Delegate, conf.Alive, conf.LogOutput = s, s, io.Discard
	var err error
	if s.Memberlist, err = memberlist.Create(conf); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Shutdown() })
	return s, addr
}

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), what)
}

func TestAPeerThatIsNotUnderstoodIsLeftOutAlone(t *testing.T) {
	odd, at := startStranger(t, "odd", []byte("\xffof a far later version"))
	cc := config(t, 3, at)
	start(t, cc)
	until(t, "the odd one knows c", func() bool { return odd.NumMembers() == 2 })
	var log lines
	ca := config(t, 1, at)
	ca.Log = slog.New(slog.NewTextHandler(&log, nil))
	a := start(t, ca)
	until(t, "a learns of c through the odd one", func() bool { return state(a, cc.ID) == muster.PeerAlive })
	if _, known := a.Peer("odd"); known {
		t.Error("the odd one is a peer")
	}
	for range 5 {
		if _, err := odd.Join([]string{ca.Bind}); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "it is logged", func() bool { return log.count("peer is ignored") > 0 })
	if n := log.count("peer is ignored"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestAPoolIsRefusedForAnotherClustersPeerButNotForOneThatIsNotUnderstood(t *testing.T) {
	ca := config(t, 1)
	ca.Facts.ClusterID = "01a211a1-5664-729f-9c97-7a65fe614b9f"
	a := start(t, ca)
	ours := &memberlist.Node{Name: "ours", Meta: gossip.Encoded(gossip.Facts{ClusterID: ca.Facts.ClusterID})}
	theirs := &memberlist.Node{Name: "theirs", Meta: gossip.Encoded(gossip.Facts{ClusterID: "01a211a1-5664-729f-9c97-7a65fe614ba0"})}
	odd := &memberlist.Node{Name: "odd", Meta: []byte{99}}
	if err := gossip.Merges(a, odd, ours); err != nil {
		t.Error(err)
	}
	if gossip.Merges(a, odd, theirs) == nil {
		t.Error("the check ends at what is not understood")
	}
}

func TestAPeerThatDiesIsGoneThoughItsLastWordsAreNotUnderstood(t *testing.T) {
	ca, cb := config(t, 1), config(t, 2)
	cb.Join = []string{ca.Bind}
	a := start(t, ca)
	start(t, cb)
	until(t, "b is in", func() bool { return state(a, cb.ID) == muster.PeerAlive })
	gossip.Leaves(a, &memberlist.Node{Name: cb.ID, Meta: []byte{99}})
	gossip.Leaves(a, &memberlist.Node{Name: "nobody", Meta: []byte{99}})
	if got, _ := a.Peer(cb.ID); got.State != muster.PeerFailed || got.Gossip != cb.Bind {
		t.Errorf("%+v", got)
	}
	if _, known := a.Peer("nobody"); known {
		t.Error("one that was never seen is known")
	}
}

func TestFactsAreNotToldAgainWithoutNeed(t *testing.T) {
	s, at := startStranger(t, "listener", gossip.Encoded(gossip.Facts{Name: "listener"}))
	cfg := config(t, 1, at)
	cfg.Profile = "wan" // an update takes longer to go out than a pool waits for it
	p := start(t, cfg)
	until(t, "it is in", func() bool { return s.NumMembers() == 2 })
	p.SetFacts(func(f *gossip.Facts) { f.Documents = 7 })
	<-time.After(9 * time.Second) // the last repeat is after seven
	settled := s.times(cfg.ID).Load()
	<-time.After(3 * time.Second)
	if more := s.times(cfg.ID).Load() - settled; more > 2 { // exchanges of lists
		t.Errorf("told %d times more", more)
	}
}

// lossy stands before a pool and loses its packets when told to.
type lossy struct {
	lose atomic.Bool
	lost atomic.Int64
}

// front forwards TCP and UDP from a free address to another.
func front(t *testing.T, to string) (*lossy, string) {
	t.Helper()
	l, addr := &lossy{}, freeAddr(t)
	var wg sync.WaitGroup
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	packets, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = errors.Join(ln.Close(), packets.Close())
		wg.Wait()
	})
	wg.Go(func() {
		for conn, err := ln.Accept(); err == nil; conn, err = ln.Accept() {
			wg.Go(func() { splice(conn, to) })
		}
	})
	wg.Go(func() { l.forward(packets, to) })
	return l, addr
}

func splice(conn net.Conn, to string) {
	defer func() { _ = conn.Close() }()
	far, err := net.DialTimeout("tcp", to, time.Second) //nolint:noctx // it ends with its peer
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(far, conn); _ = far.Close() })
	_, _ = io.Copy(conn, far)
	_ = conn.Close()
	wg.Wait()
}

func (l *lossy) forward(packets net.PacketConn, to string) {
	target, err := net.ResolveUDPAddr("udp", to)
	buf := make([]byte, 64<<10)
	for err == nil {
		var n int
		if n, _, err = packets.ReadFrom(buf); err != nil {
			return
		}
		if l.lose.Load() {
			l.lost.Add(1)
			continue
		}
		_, _ = packets.WriteTo(buf[:n], target)
	}
}

func TestAStatelessNodesFactsArriveThoughTheirPacketsWereLost(t *testing.T) {
	ca, cb := config(t, 1), config(t, 2)
	way, addr := front(t, ca.Bind)
	ca.Advertise, cb.Join, cb.Facts.Stateless = addr, []string{addr}, true
	ca.Profile, cb.Profile = "lan", "lan" // lists are exchanged every 30 s only
	a, b := start(t, ca), start(t, cb)
	until(t, "b is in", func() bool { return state(a, cb.ID) == muster.PeerAlive })
	way.lose.Store(true)
	documents := uint64(0)
	for arrived := true; arrived; arrived = peerOf(a, cb.ID).Documents == documents { // by an exchange of lists just then
		documents++
		b.SetFacts(func(f *gossip.Facts) { f.Documents = documents })
		<-time.After(1200 * time.Millisecond) // memberlist sends an update for 0.8 s
	}
	if way.lost.Load() == 0 {
		t.Fatal("nothing was lost")
	}
	way.lose.Store(false)
	limit := time.After(10 * time.Second)
	for peerOf(a, cb.ID).Documents != documents {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-limit:
			t.Fatalf("never told again; %d packets were lost", way.lost.Load())
		}
	}
}

func peerOf(p *gossip.Pool, id string) muster.Peer {
	peer, _ := p.Peer(id)
	return peer
}
