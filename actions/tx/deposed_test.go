package tx_test

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"muster"
	"muster/actions/tx"
	"muster/fsm"

	"github.com/hashicorp/raft"
)

// stage is a real registry without raft, and nodes that do what they are asked.
type stage struct {
	fsm.Machine
	t *testing.T

	mu    sync.Mutex
	self  string   // the master; guarded by mu
	index uint64   // guarded by mu
	calls []string // jobs; guarded by mu
}

func (s *stage) put(op fsm.Op, body any) error {
	s.t.Helper()
	c, err := fsm.NewCommand(op, time.Now(), "operator", body)
	if err != nil {
		s.t.Fatal(err)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.index++
	index := s.index
	s.mu.Unlock()
	return s.Apply(&raft.Log{Index: index, Data: raw}).(fsm.Result).Err() //nolint:forcetypeassert // it is
}

func (s *stage) ClaimTxs(context.Context) error {
	return s.put(fsm.OpTxClaim, fsm.TxClaim{Driver: "old"})
}

func (s *stage) AdvanceTx(_ context.Context, id string, epoch uint64, events []muster.TxEvent) error {
	s.mu.Lock()
	self := s.self
	s.mu.Unlock()
	if self != "old" {
		return muster.Errorf(muster.NotMaster, "%s is the master", self)
	}
	return s.put(fsm.OpTxAdvance, fsm.TxAdvance{ID: id, Epoch: epoch, Driver: "old", Events: events})
}

func (s *stage) PurgeTxs(context.Context, time.Time) error { return nil }

func (s *stage) At(_ context.Context, _ string, _ muster.Rights, x muster.Execution) muster.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, x.Job)
	return muster.Result{State: muster.StateOK, Success: true}
}

func (s *stage) EndAt(context.Context, string, muster.Rights, string, string) error { return nil }

func (s *stage) begin(id string) uint64 {
	s.t.Helper()
	made, err := tx.Resolve(tx.Plan{ID: id, Steps: []tx.Step{step("one", "a")}}, able(), operator())
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.put(fsm.OpTxBegin, fsm.TxBegin{Tx: made}); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index
}

func TestADeposedMasterMakesNoCallsForWhatTheNextOneWroteDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := fsm.New()
		s := &stage{Machine: fsm.Machine{Registry: reg}, t: t, self: "old"}
		ctx, depose := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() {
			defer close(over)
			tx.NewDriver(tx.Config{Self: "old"}, s, s, s).Lead(ctx)
		}()
		s.begin("1")
		synctest.Wait()
		if t1, _ := s.Tx("1"); t1.Status != muster.TxSucceeded || t1.Driver != "old" {
			t.Errorf("%+v", t1)
		}
		s.mu.Lock()
		s.self = "new"
		s.mu.Unlock()
		epoch := s.begin("2")
		start := []muster.TxEvent{{Event: muster.EventStart, Step: "one", Generation: 1}}
		if err := s.put(fsm.OpTxAdvance, fsm.TxAdvance{ID: "2", Epoch: epoch, Driver: "new", Events: start}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // virtual
		synctest.Wait()
		depose()
		<-over
		if want := []string{"t_1.one.do.1"}; !slices.Equal(s.calls, want) {
			t.Errorf("called %v", s.calls)
		}
	})
}
