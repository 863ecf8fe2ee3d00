package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster"
)

// blow strikes a process when an execution of a step has come to a point.
type blow struct {
	op, step, point string
	do              func()

	at     time.Time
	struck chan struct{}
	next   chan time.Time // of the next call of another execution
}

func (a *ledgerApp) await(b *blow) {
	b.struck, b.next = make(chan struct{}), make(chan time.Time, 1)
	var first string
	a.mu.Lock()
	defer a.mu.Unlock()
	a.strike = func(key, point string) {
		a.mu.Lock()
		hit := first == "" && point == b.point && strings.Contains(key, "."+b.step+"."+b.op+".")
		if hit {
			first = key
		}
		next := first != "" && key != first
		a.mu.Unlock()
		switch {
		case hit:
			b.do()
			b.at = time.Now()
			close(b.struck)
		case next:
			select {
			case b.next <- time.Now():
			default:
			}
		}
	}
}

// plant gives all agents the two actions that call an application: one does, one
// takes back.
func (d *demo) plant(t *testing.T, a *ledgerApp) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"do", "undo"} {
		text := fmt.Sprintf("action: ledger.%s\nversion: 1.0.0\ntitle: Write its key\nrisk: low\nidempotent: %v\nhandler: {kind: exec, argv: [/usr/bin/env, %q, %q, %q]}\nlimits: {timeout: 20s}\n",
			name, name == "undo", "MUSTER_ACT="+a.URL, self, a.file)
		if name == "undo" {
			text += "retry: {attempts: 10, first: 200ms}\n"
		}
		if err := os.WriteFile(filepath.Join(d.dir, "actions", "ledger-"+name+".yaml"), meant([]byte(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range d.names {
		if err := d.procs[name].Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the actions are there", func() bool {
		code, out := d.words(t, d.names[0], "action", "show", "ledger.undo")
		return code == 0 && strings.Contains(out, strings.Join(d.names, ", "))
	})
}

// five is a transaction of five steps, on nodes in turn.
func five(on ...string) json.RawMessage {
	steps := make([]string, 0, 5)
	for i := range 5 {
		steps = append(steps, fmt.Sprintf(`{"id":"s%d","on":%q,"run":"ledger.do","undo":{"run":"ledger.undo"}}`, i+1, on[i%len(on)]))
	}
	return json.RawMessage(`{"wait":false,"steps":[` + strings.Join(steps, ",") + `]}`)
}

// trial is what many transactions came to.
type trial struct {
	t     *testing.T
	d     *demo
	a     *ledgerApp
	ended map[muster.TxStatus]int
	all   []muster.TxAnswer
	took  []time.Duration // from a blow to the next call
}

// run has a transaction meet a blow, ends that by mend, and looks at its end.
func (r *trial) run(asker string, on []string, fails bool, b *blow, mend func()) muster.TxAnswer {
	r.t.Helper()
	r.a.await(b)
	r.a.mu.Lock()
	r.a.fails = ""
	if fails {
		r.a.fails = "s5"
	}
	r.a.mu.Unlock()
	var x muster.TxAnswer
	until(r.t, "all nodes say what they can", func() bool { // the one struck last may still be on its way
		var err error
		x, err = r.d.client(asker).BeginTx(r.t.Context(), five(on...))
		if err != nil && muster.KindOf(err) != muster.Unavailable {
			r.t.Fatal(err)
		}
		return err == nil
	})
	select {
	case <-b.struck:
	case <-time.After(time.Minute):
		r.t.Fatalf("%s of %s did not come to %s", b.op, b.step, b.point)
	}
	if mend != nil {
		patience := 5 * time.Second // it may be for the one that was struck to go on
		if b.op == muster.OpDo && b.step == "s5" && !fails || b.op == muster.OpUndo && b.step == "s1" {
			patience = time.Second // it was the last
		}
		select {
		case at := <-b.next:
			r.took = append(r.took, at.Sub(b.at))
		case <-time.After(patience):
		}
		mend()
	}
	limit := time.Now().Add(2 * time.Minute)
	for {
		var err error
		if x, err = r.d.client(asker).Tx(r.t.Context(), x.ID, 0); err == nil && !x.Status.Driven() {
			break
		}
		if time.Now().After(limit) || !look(r.t.Context()) {
			r.t.Fatalf("it does not end: %s (%s), %v, history %+v", x.Status, statuses(x), err, x.History)
		}
	}
	r.ended[x.Status]++
	r.all = append(r.all, x)
	r.judge(x)
	return x
}

// judge holds a transaction's end against what is in the files and the ledger.
func (r *trial) judge(x muster.TxAnswer) {
	r.t.Helper()
	stands, done := map[string]bool{}, map[string]int{}
	for _, key := range r.a.effects(r.t) {
		part := strings.Split(strings.TrimPrefix(key, "t_"+x.ID+"."), ".")
		if len(part) != 3 {
			continue
		}
		step, op := part[0], part[1]
		stands[step] = op == muster.OpDo
		if op == muster.OpDo {
			done[step]++
		}
	}
	wrong := func(format string, args ...any) {
		r.t.Helper()
		r.t.Errorf("%s is %s (%s): %s; effects %v; history %+v", x.ID, x.Status, statuses(x), fmt.Sprintf(format, args...), r.a.effects(r.t), x.History)
	}
	for _, s := range x.Steps {
		onSheet := slices.ContainsFunc(x.Sheet, func(todo muster.TxTodo) bool { return todo.Step == s.ID })
		switch {
		case done[s.ID] > 1:
			wrong("%s was done %d times", s.ID, done[s.ID])
		case x.Status == muster.TxSucceeded && !stands[s.ID]:
			wrong("%s does not stand", s.ID)
		case x.Status == muster.TxRolledBack && stands[s.ID]:
			wrong("%s stands", s.ID)
		case x.Status == muster.TxParked && stands[s.ID] && !onSheet:
			wrong("%s stands and is not on the sheet", s.ID)
		}
	}
}

// once looks at all there was, however late it came: every transaction's end, and
// that every key came to each point once, in the file and in the ledger.
func (r *trial) once() {
	r.t.Helper()
	for _, x := range r.all {
		r.judge(x)
	}
	lines := map[string]int{}
	for _, key := range r.a.effects(r.t) {
		if lines[key]++; lines[key] > 1 {
			r.t.Errorf("%s is in the file %d times", key, lines[key])
		}
	}
	r.a.mu.Lock()
	defer r.a.mu.Unlock()
	for key, points := range r.a.calls {
		want := []string{atBegin, atFile, atLedger}
		if len(points) > len(want) || !slices.Equal(points, want[:len(points)]) {
			r.t.Errorf("%s called the application at %v", key, points)
		}
	}
}

// strikes are the points of a transaction at which its master dies: each step, on
// its way there and back.
func strikes(i int) (b *blow, fails bool) {
	b = &blow{op: muster.OpDo, step: fmt.Sprintf("s%d", i%5+1), point: []string{atBegin, atFile, atLedger}[i/2%3]}
	if fails = i/5%2 == 1; fails {
		if step := 4 - i%5; step > 0 {
			b.op, b.step = muster.OpUndo, fmt.Sprintf("s%d", step)
		} else {
			b.step, b.point = "s5", atBegin
		}
	}
	return b, fails
}

func masterDies(t *testing.T, runs int, names ...string) {
	t.Helper()
	d, master := agents(t, names...)
	r := &trial{t: t, d: d, a: newLedgerApp(t), ended: map[muster.TxStatus]int{}}
	d.plant(t, r.a)
	for i := range runs {
		b, fails := strikes(i)
		struck, process := master, d.procs[master].Process
		kill := i%2 == 0
		asker := other(d, master)
		on := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == master && i%3 != 2 })
		mend := func() {
			if kill {
				if err := d.start(struck); err != nil {
					t.Fatal(err)
				}
			} else if err := process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
		}
		b.do = func() {
			var err error
			if kill {
				err = d.kill(struck)
			} else {
				err = process.Signal(syscall.SIGSTOP)
			}
			if err != nil {
				t.Error(err)
			}
		}
		began := time.Now()
		x := r.run(asker, on, fails, b, mend)
		if t.Failed() {
			return
		}
		t.Logf("%d: killed %v at %s of %s (%s): %s after %v", i, kill, b.op, b.step, b.point, x.Status, time.Since(began).Round(time.Millisecond))
		if master = settled(t, d); master == "" {
			t.Fatal("the cluster is not whole again")
		}
	}
	r.once()
	if len(r.took) == 0 {
		t.Fatal("nothing was measured")
	}
	slices.Sort(r.took)
	fmt.Printf("%d deaths of the master of %d nodes: %v; from its death to the next step (%d times): median %v, maximum %v\n",
		runs, len(names), r.ended, len(r.took), r.took[len(r.took)/2].Round(time.Millisecond), r.took[len(r.took)-1].Round(time.Millisecond))
}

// TestTheMasterDiesAtEveryStepOfATransaction kills or stops it ten times, with
// MUSTER_CHAOS 200 times, with MUSTER_RUNS=N 2 N times.
func TestTheMasterDiesAtEveryStepOfATransaction(t *testing.T) {
	three, more := 7, 3
	if os.Getenv("MUSTER_CHAOS") != "" {
		three, more = 130, 70
	}
	if n, err := strconv.Atoi(os.Getenv("MUSTER_RUNS")); err == nil {
		three, more = n, n
	}
	t.Run("of three", func(t *testing.T) { masterDies(t, three, "a", "b", "c") })
	t.Run("of five", func(t *testing.T) { masterDies(t, more, "a", "b", "c", "d", "e") })
}

// TestAParticipantDiesBeforeInAndAfterEachEffect kills the node that does a step,
// or takes it back, and brings it up again: the same, or with a new disk.
func TestAParticipantDiesBeforeInAndAfterEachEffect(t *testing.T) {
	d, master := trio(t)
	r := &trial{t: t, d: d, a: newLedgerApp(t), ended: map[muster.TxStatus]int{}}
	d.plant(t, r.a)
	on := slices.DeleteFunc(slices.Clone(d.names), func(name string) bool { return name == master })
	n := 0
	for _, point := range []string{atBegin, atFile, atLedger} {
		for i := range 9 {
			if os.Getenv("MUSTER_CHAOS") == "" && i != 2 && i != 6 {
				continue
			}
			b := &blow{op: muster.OpDo, step: fmt.Sprintf("s%d", i+1), point: point}
			if i > 4 {
				b.op, b.step = muster.OpUndo, fmt.Sprintf("s%d", i-4)
			}
			victim := on[int(b.step[1]-'1')%len(on)]
			wipe := (n+n/9)%3 == 2
			n++
			var before []string // keys when the blow fell
			b.do = func() {
				err := d.kill(victim)
				before = r.a.keys()
				if err == nil && wipe {
					err = os.Remove(filepath.Join(d.dir, victim, "journal.db"))
				}
				if err == nil {
					err = d.start(victim)
				}
				if err != nil {
					t.Error(err)
				}
			}
			x := r.run(master, on, i > 4, b, nil)
			t.Logf("%s of %s, at %s, wiped %v: %s", b.op, b.step, point, wipe, x.Status)
			want := muster.TxRolledBack
			if wipe {
				want = muster.TxParked
			}
			if x.Status != want {
				t.Errorf("it is %s, not %s (%s)", x.Status, want, statuses(x))
			}
			if wipe {
				r.unasked(x, victim, before)
			}
			if settled(t, d) == "" || t.Failed() {
				t.FailNow()
			}
		}
	}
	r.once()
	fmt.Printf("%d deaths of a participant: %v\n", n, r.ended)
}

// keys are those of all executions that have called the application.
func (a *ledgerApp) keys() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Keys(a.calls))
}

// unasked holds that a node which lost its disk did nothing for a transaction
// afterwards.
func (r *trial) unasked(x muster.TxAnswer, victim string, before []string) {
	r.t.Helper()
	for _, key := range r.a.keys() {
		for _, s := range x.Steps {
			if s.Node == victim && !slices.Contains(before, key) && strings.HasPrefix(key, "t_"+x.ID+"."+s.ID+".") {
				r.t.Errorf("%s lost its disk, and then did %s", victim, key)
			}
		}
	}
}
