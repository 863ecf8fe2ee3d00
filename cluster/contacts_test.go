package cluster_test

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"muster/cluster"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// roomless is a log whose disk is full while full is set.
type roomless struct {
	raft.LogStore

	full    atomic.Bool
	refused atomic.Int64
}

func (l *roomless) StoreLogs(logs []*raft.Log) error {
	if l.full.Load() {
		l.refused.Add(1)
		return &os.PathError{Op: "write", Path: "log.db", Err: syscall.ENOSPC}
	}
	return l.LogStore.StoreLogs(logs)
}

func (l *roomless) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

type deaf struct{}

func (deaf) Apply(*raft.Log) any                 { return nil }
func (deaf) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("no snapshots") }
func (deaf) Restore(r io.ReadCloser) error       { return r.Close() }

// port is a raft transport of a member, over TCP; addr may be that of an earlier one.
func port(t *testing.T, addr string) (raft.Transport, *raft.NetworkTransport) {
	t.Helper()
	quiet := hclog.NewNullLogger()
	tcp, err := raft.NewTCPTransportWithLogger(addr, nil, 3, 2*time.Second, quiet)
	if err != nil {
		t.Fatal(err)
	}
	trans, end := cluster.Contacts(tcp)
	t.Cleanup(func() {
		end()
		_ = tcp.Close()
		tcp.CloseStreams()
	})
	return trans, tcp
}

func TestAFollowerWhoseDiskHasRoomAgainIsLevelAtOnce(t *testing.T) {
	servers, rafts := make([]raft.Server, 0, 3), make([]*raft.Raft, 0, 3)
	log := &roomless{LogStore: raft.NewInmemStore()}
	for i, id := range []raft.ServerID{"a", "b", "c"} {
		trans, _ := port(t, freePort(t))
		servers = append(servers, raft.Server{ID: id, Address: trans.LocalAddr()})
		conf := raft.DefaultConfig()
		conf.LocalID, conf.Logger = id, hclog.NewNullLogger()
		conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = 200*time.Millisecond, 200*time.Millisecond, 100*time.Millisecond
		var logs raft.LogStore = raft.NewInmemStore()
		if i == 2 {
			logs = log
			conf.HeartbeatTimeout, conf.ElectionTimeout = time.Minute, time.Minute // it never stands
		}
		r, err := raft.NewRaft(conf, deaf{}, logs, raft.NewInmemStore(), raft.NewDiscardSnapshotStore(), trans)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Shutdown().Error() })
		rafts = append(rafts, r)
	}
	if err := rafts[0].BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
		t.Fatal(err)
	}
	var leader *raft.Raft
	until(t, "a leader", func() bool {
		for _, r := range rafts {
			if r.State() == raft.Leader {
				leader = r
			}
		}
		return leader != nil
	})
	apply := func() {
		if err := leader.Apply([]byte("x"), time.Second).Error(); err != nil {
			t.Fatal(err)
		}
	}
	apply()
	until(t, "all level", func() bool { return rafts[2].LastIndex() == leader.LastIndex() })
	log.full.Store(true)
	apply()
	// Raft itself would then wait for ten seconds.
	until(t, "twelve refusals", func() bool { return log.refused.Load() >= 12 })
	if n := rafts[2].LastIndex(); n >= leader.LastIndex() {
		t.Fatalf("the full one has %d of %d", n, leader.LastIndex())
	}
	log.full.Store(false)
	room := time.Now()
	until(t, "level again", func() bool { return rafts[2].LastIndex() == leader.LastIndex() })
	if took := time.Since(room); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestEntriesForASilentPeerGoWithItsFirstHeartbeatThatGetsThrough(t *testing.T) {
	near, _ := port(t, freePort(t))
	at := freePort(t)
	there := raft.ServerAddress(at)
	entries := &raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 1, PrevLogTerm: 1, Entries: []*raft.Log{{Index: 2, Term: 1}}}
	beat := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{Addr: []byte("a")}, Term: 1}
	send := func(what *raft.AppendEntriesRequest) error {
		return near.AppendEntries("b", there, what, &raft.AppendEntriesResponse{})
	}
	if send(entries) == nil {
		t.Fatal("sent to nobody")
	}
	held := make(chan error, 1)
	go func() { held <- send(entries) }()
	for range 20 { // heartbeats do not wait
		if send(beat) == nil {
			t.Fatal("a heartbeat to nobody")
		}
	}
	select {
	case err := <-held:
		t.Fatal("entries did not wait:", err)
	default:
	}
	far, tcp := port(t, at)
	far.SetHeartbeatHandler(func(rpc raft.RPC) { rpc.Respond(&raft.AppendEntriesResponse{Term: 1, Success: true}, nil) })
	go func() {
		rpc := <-tcp.Consumer()
		rpc.Respond(&raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
	}()
	until(t, "a heartbeat gets through", func() bool { return send(beat) == nil })
	if err := <-held; err != nil {
		t.Error("the entries:", err)
	}
}

func TestNoHeartbeatIsLookedAtOnceTheStoresClose(t *testing.T) {
	near, _ := port(t, freePort(t))
	tcp, err := raft.NewTCPTransportWithLogger(freePort(t), nil, 3, 2*time.Second, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	far, quiet := cluster.Quiet(tcp)
	t.Cleanup(func() {
		_ = tcp.Close()
		tcp.CloseStreams()
	})
	entered, leave := make(chan struct{}), make(chan struct{})
	var looks atomic.Int64
	far.SetHeartbeatHandler(func(rpc raft.RPC) {
		if looks.Add(1) == 1 {
			close(entered)
			<-leave
		}
		rpc.Respond(&raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
	})
	send := func() error {
		beat := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{Addr: []byte("a")}, Term: 1}
		return near.AppendEntries("b", far.LocalAddr(), beat, &raft.AppendEntriesResponse{})
	}
	first, silenced := make(chan error, 1), make(chan struct{})
	go func() { first <- send() }()
	<-entered
	go func() {
		quiet()
		close(silenced)
	}()
	select {
	case <-silenced:
		t.Fatal("one is still looked at")
	case <-time.After(50 * time.Millisecond):
	}
	close(leave)
	<-silenced
	if err := <-first; err != nil {
		t.Error("the one under way:", err)
	}
	if send() == nil || looks.Load() != 1 {
		t.Errorf("%d looked at", looks.Load())
	}
}

func TestAFullDiskIsTriedAgainBeforeAnEntryIsRefusedAndTheCopyCountsAsBehindUntilItIsLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, back := &roomless{LogStore: raft.NewInmemStore()}, 0
		logs, since, level := cluster.Keeper(disk, func() { back++ })
		began := time.Now()
		if err := logs.StoreLog(&raft.Log{Index: 1}); err != nil || !since().IsZero() {
			t.Fatalf("%v, behind since %v", err, since())
		}
		disk.full.Store(true)
		freed := time.AfterFunc(50*time.Millisecond, func() { disk.full.Store(false) })
		defer freed.Stop()
		if err := logs.StoreLog(&raft.Log{Index: 2}); err != nil || time.Since(began) > 100*time.Millisecond {
			t.Fatalf("with room after 50 ms: %v after %v", err, time.Since(began))
		}
		if !since().Equal(began) || back != 1 {
			t.Errorf("behind since %v, told %d times", since().Sub(began), back)
		}
		disk.full.Store(true)
		began = time.Now()
		if err := logs.StoreLog(&raft.Log{Index: 3}); !errors.Is(err, syscall.ENOSPC) || time.Since(began) > 250*time.Millisecond {
			t.Fatalf("without room: %v after %v", err, time.Since(began))
		}
		if level(); since().IsZero() {
			t.Error("level while an entry is missing")
		}
		disk.full.Store(false)
		if err := logs.StoreLog(&raft.Log{Index: 3}); err != nil || back != 2 {
			t.Fatalf("%v, told %d times", err, back)
		}
		if level(); !since().IsZero() {
			t.Error("behind for ever")
		}
	})
}

func TestAPipelineEndsWithTheFirstRefusalAndItsWriterIsNotStuck(t *testing.T) {
	near, _ := port(t, freePort(t))
	far, tcp := port(t, freePort(t))
	go func() {
		for n := 1; ; n++ {
			select {
			case rpc := <-tcp.Consumer():
				rpc.Respond(&raft.AppendEntriesResponse{Term: 1, Success: n == 1}, nil)
			case <-t.Context().Done():
				return
			}
		}
	}()
	pipe, err := near.AppendEntriesPipeline("b", far.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pipe.Close() })
	written := make(chan int, 1)
	go func() { // as raft does, until it hears of the refusal
		n := uint64(1)
		for ; n <= 100; n++ {
			entries := &raft.AppendEntriesRequest{Term: 1, PrevLogEntry: n, PrevLogTerm: 1, Entries: []*raft.Log{{Index: n + 1, Term: 1}}}
			if _, err := pipe.AppendEntries(entries, &raft.AppendEntriesResponse{}); err != nil {
				break
			}
		}
		written <- int(n)
	}()
	for _, success := range []bool{true, false} {
		if got := <-pipe.Consumer(); got.Response().Success != success {
			t.Fatalf("%+v", got.Response())
		}
	} // and raft reads no more
	select {
	case n := <-written:
		if n > 10 {
			t.Errorf("%d were sent in vain", n)
		}
	case <-time.After(patience):
		t.Error("the writer is stuck")
	}
}
