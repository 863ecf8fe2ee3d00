package tx_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"muster"
	"muster/actions/tx"
	"muster/fsm"

	"github.com/hashicorp/raft"
)

// ledger is a log of one copy, the real registry, whose entries are committed at
// once, or get lost.
type ledger struct {
	fsm.Machine
	t      *testing.T
	driver string
	lost   func(op fsm.Op) error // instead of writing; nil: never
	gone   []string              // IDs of nodes that left
	opens  bool                  // the beginning has in it what the driver says first

	mu    sync.Mutex
	index uint64 // guarded by mu
	tries int    // guarded by mu; entries of a driver, those that got lost too
}

func newLedger(t *testing.T) *ledger {
	t.Helper()
	reg := fsm.New()
	return &ledger{Machine: fsm.Machine{Registry: reg}, t: t, driver: "n1"}
}

func (l *ledger) write(op fsm.Op, body any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if op == fsm.OpTxAdvance {
		l.tries++
	}
	if l.lost != nil {
		if err := l.lost(op); err != nil {
			return err
		}
	}
	cmd, err := fsm.NewCommand(op, time.Now(), "node:n1", body)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(cmd)
	if err != nil || len(cmd.Body) > muster.MaxTxEntry {
		return errors.Join(err, fmt.Errorf("an entry of %d bytes", len(cmd.Body)))
	}
	l.index++
	res, ok := l.Apply(&raft.Log{Index: l.index, Data: raw}).(fsm.Result)
	if !ok {
		return fmt.Errorf("no result of %s", op)
	}
	return res.Err()
}

// said is how many entries a driver wrote of the transaction, or tried to.
func (l *ledger) said() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tries
}

// ClaimTxs claims for this ledger's driver.
func (l *ledger) ClaimTxs(context.Context) error {
	return l.write(fsm.OpTxClaim, fsm.TxClaim{Driver: l.driver})
}

// AdvanceTx writes a driver's events.
func (l *ledger) AdvanceTx(_ context.Context, id string, epoch uint64, events []muster.TxEvent) error {
	return l.write(fsm.OpTxAdvance, fsm.TxAdvance{ID: id, Epoch: epoch, Events: events})
}

// PurgeTxs is of no use here.
func (l *ledger) PurgeTxs(context.Context, time.Time) error { return nil }

// Node knows every node that has not left.
func (l *ledger) Node(id string) (muster.Node, bool) {
	return muster.Node{ID: id}, !slices.Contains(l.gone, id)
}

func (l *ledger) begin(p tx.Plan) {
	l.t.Helper()
	p.ID = "t"
	made, err := tx.Resolve(p, able(), operator())
	if err != nil {
		l.t.Fatal(err)
	}
	body := fsm.TxBegin{Tx: made}
	if l.opens {
		first, err := fsm.BeginTx(made, 0, time.Now())
		if err != nil {
			l.t.Fatal(err)
		}
		body.Driver, body.Events = l.driver, tx.NewDriver(tx.Config{Self: l.driver}, l, l, nil).Opening(first)
	}
	if err := l.write(fsm.OpTxBegin, body); err != nil {
		l.t.Fatal(err)
	}
}

// until waits for a state of the transaction.
func (l *ledger) until(what string, ok func(muster.Tx) bool) muster.Tx {
	l.t.Helper()
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	for {
		changed := l.Changed()
		t, _ := l.Tx("t")
		if ok(t) {
			return t
		}
		select {
		case <-changed:
		case <-limit.C:
			l.t.Fatalf("not within 10 s: %s; it is %s", what, t.Status)
		}
	}
}

func over(t muster.Tx) bool { return t.ID != "" && !t.Status.Driven() }

// crew are nodes that answer as they are told.
type crew struct {
	answer func(ctx context.Context, op muster.TxOp) muster.Result

	mu    sync.Mutex
	calls []string // guarded by mu
}

// At notes the call and answers it.
func (c *crew) At(ctx context.Context, _ string, _ muster.Rights, x muster.Execution) muster.Result {
	c.note(fmt.Sprintf("%s %s %d", x.Tx.Op, x.Tx.Step, x.Tx.Generation))
	if c.answer == nil {
		return ok(tx.Order{})
	}
	return c.answer(ctx, *x.Tx)
}

// EndAt notes what is ended.
func (c *crew) EndAt(_ context.Context, _ string, _ muster.Rights, _, job string) error {
	c.note("end " + job)
	return nil
}

func (c *crew) note(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, text)
}

func (c *crew) made() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// lead has a driver work until the function returned is called.
func lead(t *testing.T, cfg tx.Config, l *ledger, hands tx.Hands) (depose func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Self = l.driver
	var wg sync.WaitGroup
	wg.Go(func() { tx.NewDriver(cfg, l, l, hands).Lead(ctx) })
	depose = func() { cancel(); wg.Wait() }
	t.Cleanup(depose)
	return depose
}

func serial() tx.Plan {
	return tx.Plan{Steps: []tx.Step{step("one", "a"), step("two", "b"), step("three", "c")}}
}

func TestATransactionOfThreeStepsTakesFourEntriesOrFive(t *testing.T) {
	for opens, want := range map[bool]int{true: 4, false: 5} {
		l, nodes := newLedger(t), &crew{}
		l.opens = opens
		lead(t, tx.Config{}, l, nodes)
		l.begin(serial())
		done := l.until("it ends", over)
		if n := 1 + l.said(); done.Status != muster.TxSucceeded || n != want { // beside a claim, if the driver began later
			t.Errorf("%s after %d entries, opened at once: %v", done.Status, n, opens)
		}
	}
}

func TestWhatIsMoreThanStartsIsNotSaidWithABeginning(t *testing.T) {
	made, err := tx.Resolve(tx.Plan{ID: "t", Steps: []tx.Step{step("one", "a")}}, able(), operator())
	if err != nil {
		t.Fatal(err)
	}
	first, err := fsm.BeginTx(made, 1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l := newLedger(t)
	if events := tx.NewDriver(tx.Config{}, l, l, nil).Opening(first); len(events) != 1 || events[0].Event != muster.EventStart {
		t.Errorf("%+v", events)
	}
	if events := tx.NewDriver(tx.Config{Callers: nobody{}}, l, l, nil).Opening(first); events != nil {
		t.Errorf("for a caller who may not go on: %+v", events)
	}
}

// nobody may go on.
type nobody struct{}

// Allowed is never so.
func (nobody) Allowed(muster.Rights) error { return muster.Errorf(muster.Forbidden, "revoked") }

func TestASilenceIsProofForTheMasterThatOpenedATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t)
		l.opens = true
		nodes := &crew{answer: func(context.Context, muster.TxOp) muster.Result {
			return state(muster.StateUnreachable, "no_connection")
		}}
		depose := lead(t, tx.Config{}, l, nodes)
		synctest.Wait() // it has looked for what it has to claim
		l.begin(serial())
		done := l.until("it ends", over)
		depose()
		if want := []string{"do one 1", "do one 2", "do one 3"}; done.Status != muster.TxRolledBack || !reflect.DeepEqual(nodes.made(), want) {
			t.Errorf("%s, %v", done.Status, nodes.made())
		}
	})
}

func TestARunThatBeginsAnewDoesNotTakeSilenceForProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t)
		l.opens = true
		lost := true
		l.lost = func(op fsm.Op) error {
			if op != fsm.OpTxAdvance || !lost {
				return nil
			}
			lost = false // the first run ends with that, and has made its call
			return muster.Errorf(muster.OutcomeUnknown, "the leadership was lost")
		}
		nodes := &crew{answer: func(context.Context, muster.TxOp) muster.Result {
			return state(muster.StateUnreachable, "no_connection")
		}}
		depose := lead(t, tx.Config{}, l, nodes)
		synctest.Wait() // it has looked for what it has to claim
		l.begin(serial())
		l.until("it was called again", func(now muster.Tx) bool { return now.Steps[0].Attempts > 1 })
		depose()
		if now, _ := l.Tx("t"); now.Steps[0].Generation != 1 || now.Steps[0].Status != muster.StepStarting {
			t.Errorf("%+v", now.Steps[0])
		}
	})
}

func TestNoCallLeavesWhenNobodyKnowsWhetherItsIntentIsWritten(t *testing.T) {
	l, nodes := newLedger(t), &crew{}
	tried := make(chan struct{}, 100)
	l.lost = func(op fsm.Op) error {
		if op != fsm.OpTxAdvance {
			return nil
		}
		tried <- struct{}{}
		return muster.Errorf(muster.OutcomeUnknown, "the leadership was lost")
	}
	depose := lead(t, tx.Config{}, l, nodes)
	l.begin(serial())
	for range 3 {
		<-tried
	}
	depose()
	if calls := nodes.made(); len(calls) > 0 {
		t.Errorf("called %v", calls)
	}
}

func TestTheNextMasterAsksForWhatTheLastOneBegan(t *testing.T) {
	l, nodes := newLedger(t), &crew{}
	asked := make(chan struct{}, 1)
	nodes.answer = func(ctx context.Context, op muster.TxOp) muster.Result {
		if op.Step != "two" || op.Op != muster.OpDo {
			return ok(tx.Order{})
		}
		asked <- struct{}{}
		<-ctx.Done()
		return state(muster.StateUnknown, "no_answer")
	}
	depose := lead(t, tx.Config{}, l, nodes)
	l.begin(serial())
	<-asked
	depose()
	before, _ := l.Tx("t")
	next := &crew{answer: func(_ context.Context, op muster.TxOp) muster.Result {
		if op.Epoch == before.Epoch {
			t.Error("the next master goes by the epoch of the last one")
		}
		return ok(tx.Order{})
	}}
	l.driver = "n2"
	lead(t, tx.Config{}, l, next)
	done := l.until("it ends", over)
	if want := []string{"do two 1", "do three 1"}; done.Status != muster.TxSucceeded || done.Driver != "n2" || !reflect.DeepEqual(next.made(), want) {
		t.Errorf("%s, driven by %s, %v", done.Status, done.Driver, next.made())
	}
	if err := l.AdvanceTx(t.Context(), "t", before.Epoch, []muster.TxEvent{{Event: muster.EventPark}}); muster.CodeOf(err) != "stale_epoch" {
		t.Errorf("the last master was heard: %v", err)
	}
}

func TestASilenceAfterATakeoverIsNoProofThatNothingWasDone(t *testing.T) {
	t.Run("begun, then started", func(t *testing.T) {
		l := newLedger(t)
		l.begin(serial())
		made, _ := l.Tx("t")
		if err := l.AdvanceTx(t.Context(), "t", made.Epoch, []muster.TxEvent{{Event: muster.EventStart, Step: "one", Generation: 1}}); err != nil {
			t.Fatal(err)
		}
		silent(t, l)
	})
	t.Run("begun and started in one entry", func(t *testing.T) {
		l := newLedger(t)
		l.opens = true // by this very node, in a reign before
		l.begin(serial())
		silent(t, l)
	})
}

// silent has a new reign begin over what another one started, with nodes that
// cannot be reached.
func silent(t *testing.T, l *ledger) {
	t.Helper()
	nodes := &crew{answer: func(_ context.Context, op muster.TxOp) muster.Result {
		if op.Op == muster.OpDo {
			return state(muster.StateUnreachable, "no_connection")
		}
		return ok(tx.Order{})
	}}
	lead(t, tx.Config{}, l, nodes)
	l.until("it was called again", func(now muster.Tx) bool { return now.Steps[0].Attempts > 1 })
	if now, _ := l.Tx("t"); now.Steps[0].Generation != 1 || now.Steps[0].Status != muster.StepStarting {
		t.Errorf("%+v", now.Steps[0])
	}
	if err := l.write(fsm.OpTxOperate, fsm.TxOperate{ID: "t", Command: muster.TxCancel}); err != nil {
		t.Fatal(err)
	}
	if done := l.until("it ends", over); done.Status != muster.TxRolledBack || !slices.Contains(nodes.made(), "undo one 2") {
		t.Errorf("%s, %v", done.Status, nodes.made())
	}
}

func TestACancelledStepThatNothingUndoesIsEndedWhereItRuns(t *testing.T) {
	l, running := newLedger(t), make(chan struct{}, 1)
	nodes := &crew{answer: func(ctx context.Context, _ muster.TxOp) muster.Result {
		running <- struct{}{}
		<-ctx.Done()
		return state(muster.StateUnknown, "no_answer")
	}}
	depose := lead(t, tx.Config{}, l, nodes)
	l.begin(tx.Plan{Steps: []tx.Step{step("one", "a", bare)}})
	<-running
	if err := l.write(fsm.OpTxOperate, fsm.TxOperate{ID: "t", Command: muster.TxCancel}); err != nil {
		t.Fatal(err)
	}
	done := l.until("it ends", over)
	depose()
	if a := done.Answer(); a.Status != muster.TxRolledBack || !reflect.DeepEqual(a.NotCompensated, []string{"one"}) || !slices.Contains(nodes.made(), "end t_t.one.do.1") {
		t.Errorf("%s, not undone %v, %v", a.Status, a.NotCompensated, nodes.made())
	}
}

func TestWhatAnOperatorClosesIsNotWaitedForAnyMore(t *testing.T) {
	l, running, left := newLedger(t), make(chan struct{}, 1), make(chan struct{})
	nodes := &crew{answer: func(ctx context.Context, _ muster.TxOp) muster.Result {
		running <- struct{}{}
		<-ctx.Done()
		close(left)
		return state(muster.StateUnknown, "no_answer")
	}}
	depose := lead(t, tx.Config{}, l, nodes)
	l.begin(tx.Plan{Policy: muster.PolicyForward, Steps: []tx.Step{step("one", "a")}})
	<-running
	for _, word := range []muster.TxCommand{muster.TxCancel, muster.TxClose} { // what goes forward is parked first
		if err := l.write(fsm.OpTxOperate, fsm.TxOperate{ID: "t", Command: word}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-left:
	case <-time.After(5 * time.Second):
		t.Error("the call is still waited for")
	}
	depose()
	if want := []string{"do one 1", "end t_t.one.do.1"}; !reflect.DeepEqual(nodes.made(), want) {
		t.Errorf("%v", nodes.made())
	}
}

// lookers answer prechecks when they are let.
type lookers struct {
	crew

	let   chan struct{}
	asked atomic.Int32 // so many are asked now
}

// At answers when it is let.
func (c *lookers) At(ctx context.Context, nodeID string, by muster.Rights, x muster.Execution) muster.Result {
	if x.Tx != nil {
		return c.crew.At(ctx, nodeID, by, x)
	}
	c.asked.Add(1)
	defer c.asked.Add(-1)
	<-c.let
	return ok(tx.Order{})
}

func TestPrechecksAreMadeSideBySideUpToTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, nodes := newLedger(t), &lookers{let: make(chan struct{})}
		look := func(s *tx.Step) { c := call("app.look"); s.Precheck = &c }
		var plan tx.Plan
		for i := range 5 {
			plan.Steps = append(plan.Steps, step(fmt.Sprint("s", i), "a", look))
		}
		depose := lead(t, tx.Config{Parallel: 2}, l, nodes)
		defer depose()
		l.begin(plan)
		for range 2 {
			if synctest.Wait(); nodes.asked.Load() != 2 {
				t.Errorf("%d ask at once", nodes.asked.Load())
			}
			nodes.let <- struct{}{}
		}
		close(nodes.let)
		if done := l.until("it ends", over); done.Status != muster.TxSucceeded {
			t.Errorf("%s", done.Status)
		}
	})
}

// caller is one whose key is revoked after a while.
type caller struct{ revoked chan struct{} }

// Allowed refuses once the key is revoked.
func (c caller) Allowed(muster.Rights) error {
	select {
	case <-c.revoked:
		return muster.Errorf(muster.Unauthorized, "Invalid API key")
	default:
		return nil
	}
}

func TestWhoseKeyEndsBeginsNoMoreStepsButIsUndone(t *testing.T) {
	l, by := newLedger(t), caller{make(chan struct{})}
	nodes := &crew{answer: func(_ context.Context, op muster.TxOp) muster.Result {
		if op.Step == "two" && op.Op == muster.OpDo {
			close(by.revoked)
		}
		return ok(tx.Order{})
	}}
	lead(t, tx.Config{Callers: by}, l, nodes)
	l.begin(serial())
	done := l.until("it ends", over)
	if want := "do one 1 do two 1 undo two 2 undo one 2"; done.Status != muster.TxRolledBack || strings.Join(nodes.made(), " ") != want || done.Error.Code != "unauthorized" {
		t.Errorf("%s, %v, %+v", done.Status, nodes.made(), done.Error)
	}
}

// logbook is a log that is kept line by line.
type logbook struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (b *logbook) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, string(line))
	return len(line), nil
}

// with gives the lines in which a text stands.
func (b *logbook) with(text string) (lines []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, line := range b.lines {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestTheLogSaysOnceThatATransactionIsParkedOrRolledBackAndWhy(t *testing.T) {
	l, nodes, log := newLedger(t), &crew{}, &logbook{}
	mended := atomic.Bool{}
	nodes.answer = func(_ context.Context, op muster.TxOp) muster.Result {
		switch {
		case op.Op == muster.OpUndo && op.Step == "one" && !mended.Load():
			return muster.Result{State: muster.StateFailed, Error: &muster.ActionError{Code: muster.CodeJournalLost, Message: "the disk is new"}}
		case op.Op == muster.OpDo && op.Step == "two":
			return muster.Result{State: muster.StateFailed, Error: &muster.ActionError{Code: "exit", Message: "no room"}}
		}
		return ok(tx.Order{})
	}
	cfg := tx.Config{Log: slog.New(slog.NewTextHandler(log, nil))}
	depose := lead(t, cfg, l, nodes)
	p := serial()
	p.Name = "release 7"
	l.begin(p)
	l.until("it is parked", func(t muster.Tx) bool { return t.Status == muster.TxParked })
	depose()
	depose = lead(t, cfg, l, nodes) // the next master has not parked it
	mended.Store(true)
	if err := l.write(fsm.OpTxOperate, fsm.TxOperate{ID: "t", Command: muster.TxTryNow}); err != nil {
		t.Fatal(err)
	}
	l.until("it is rolled back", func(t muster.Tx) bool { return t.Status == muster.TxRolledBack })
	depose()
	parked, back := log.with("is parked"), log.with("was rolled back")
	if len(parked) != 1 || len(back) != 1 {
		t.Fatalf("%q, %q", parked, back)
	}
	for _, want := range []string{"level=WARN", "tx=t", `name="release 7"`, "one on a: undo_failed: the disk is new", `reason="not undone: one"`} {
		if !strings.Contains(parked[0], want) {
			t.Errorf("without %s: %s", want, parked[0])
		}
	}
	for _, want := range []string{"level=INFO", "tx=t", `name="release 7"`, "step two failed: no room"} {
		if !strings.Contains(back[0], want) {
			t.Errorf("without %s: %s", want, back[0])
		}
	}
}

func TestLongResultsOfManyStepsAreWrittenInEntriesThatFit(t *testing.T) {
	l := newLedger(t)
	all := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Add(12)
	go func() { waiting.Wait(); close(all) }()
	nodes := &crew{answer: func(context.Context, muster.TxOp) muster.Result {
		waiting.Done()
		<-all
		return muster.Result{State: muster.StateOK, Success: true, Result: json.RawMessage(`"` + strings.Repeat("x", muster.MaxTxResult-100) + `"`)}
	}}
	p := tx.Plan{}
	for i := range 12 {
		p.Steps = append(p.Steps, step(fmt.Sprint("s", i), "a", needs()))
	}
	lead(t, tx.Config{Parallel: 12}, l, nodes)
	l.begin(p)
	if done := l.until("it ends", over); done.Status != muster.TxSucceeded {
		t.Errorf("%s", done.Status)
	}
}

func TestANodeThatWasNeverReachedIsCalledAnew(t *testing.T) {
	l := newLedger(t)
	nodes := &crew{answer: func(_ context.Context, op muster.TxOp) muster.Result {
		if op.Generation == 1 {
			return state(muster.StateUnreachable, "no_connection")
		}
		return ok(tx.Order{})
	}}
	lead(t, tx.Config{}, l, nodes)
	l.begin(tx.Plan{Steps: []tx.Step{step("one", "a")}})
	done := l.until("it ends", over)
	if want := []string{"do one 1", "do one 2"}; done.Status != muster.TxSucceeded || !reflect.DeepEqual(nodes.made(), want) {
		t.Errorf("%s, %v", done.Status, nodes.made())
	}
}

func TestWhatWasDoneByANodeThatIsGoneIsForAnOperatorAtOnce(t *testing.T) {
	l := newLedger(t)
	nodes := &crew{answer: func(_ context.Context, op muster.TxOp) muster.Result {
		if op.Step == "two" && op.Op == muster.OpDo {
			return muster.Result{State: muster.StateFailed, Error: &muster.ActionError{Code: "exit"}}
		}
		return ok(tx.Order{})
	}}
	l.gone = []string{"id-a"}
	lead(t, tx.Config{}, l, nodes)
	l.begin(serial())
	parked := l.until("it is parked", over)
	if s := parked.Steps[0]; parked.Status != muster.TxParked || s.Status != muster.StepUndoFailed || s.Error.Code != "node_gone" {
		t.Fatalf("%s: %+v", parked.Status, s)
	}
	if slices.Contains(nodes.made(), "undo one 2") || len(parked.Answer().Sheet) != 1 {
		t.Errorf("asked %v, sheet %v", nodes.made(), parked.Answer().Sheet)
	}
}
