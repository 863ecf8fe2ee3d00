package tx_test

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/actions/journal"
	"muster/actions/tx"
	"muster/fsm"

	"github.com/hashicorp/raft"
)

// The simulator plays a cluster in virtual time: the state machine, the decisions
// and the journals are the real ones; raft, the network, the nodes' processes and
// what actions do are played, by one seed per schedule. It runs in one goroutine,
// so that a seed always gives the same schedule.

// flaw is what a trial takes out of the design.
type flaw string

const (
	noDedupe  flaw = "the participant's dedupe"
	noBarrier flaw = "the barrier"
	noUnknown flaw = "the undo of unknown steps"
	noIntent  flaw = "intent before call"
	noCheck   flaw = "the state machine's check of transitions"
	noDoubt   flaw = "the doubt about what an earlier master called"
	noName    flaw = "the journal's ID"

	// inMap takes out nothing, but keeps transactions as noCheck does.
	inMap flaw = "the registry"
)

// sim is one schedule.
type sim struct {
	seed    uint64
	rng     *rand.Rand
	without flaw
	trace   *strings.Builder // nil: none is kept

	now   time.Time
	queue moments
	seq   int
	calm  bool // nothing breaks any more

	reg   fsm.Machine
	index uint64
	lax   map[string]muster.Tx // in the place of the registry's; nil: there is none
	txs   []*played

	nodes []*simNode
	lead  *master // nil: none
	lords []*master
	steps map[string]*deed // what became of a step in the world, by transaction and ID

	bad   []string
	count map[string]int
}

// moment is something that happens at a time.
type moment struct {
	at  time.Time
	seq int
	do  func()
}

type moments []moment

func (m moments) Len() int { return len(m) }
func (m moments) Less(i, j int) bool {
	return m[i].at.Before(m[j].at) || m[i].at.Equal(m[j].at) && m[i].seq < m[j].seq
}
func (m moments) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m *moments) Push(x any)   { *m = append(*m, x.(moment)) }
func (m *moments) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}

func (w *sim) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, moment{w.now.Add(d), w.seq, do})
}

// pass has virtual time come to a moment.
func (w *sim) pass(at time.Time) {
	if at.After(w.now) {
		w.now = at
	}
}

// book is a node's journal, whose clock is brought to the moment.
func (w *sim) book(n *simNode) *journal.Journal {
	if d := time.Until(w.now); d > 0 {
		<-time.After(d)
	}
	return n.journal
}

func (w *sim) say(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%12.3f %s\n", w.now.Sub(w.txs[0].born).Seconds(), fmt.Sprintf(format, args...))
	}
}

func (w *sim) wrong(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.bad = append(w.bad, text)
	w.say("WRONG: %s", text)
}

// odds reports true so many times in a hundred.
func (w *sim) odds(percent int) bool { return w.rng.IntN(100) < percent }

// within draws a time, short ones more often than long ones.
func (w *sim) within(most time.Duration) time.Duration {
	f := w.rng.Float64()
	return time.Duration(f * f * f * float64(most))
}

// disks are the nodes' journals, which stay from schedule to schedule.
type disks struct {
	dir   string
	nodes []*simNode
}

func newDisks(t *testing.T) *disks {
	t.Helper()
	d := &disks{dir: t.TempDir()}
	for _, slug := range []string{"a", "b", "c"} {
		n := &simNode{slug: slug, path: filepath.Join(d.dir, slug)}
		if err := n.open(); err != nil {
			t.Fatal(err)
		}
		d.nodes = append(d.nodes, n)
	}
	return d
}

func (d *disks) close(t *testing.T) {
	t.Helper()
	for _, n := range d.nodes {
		if err := n.journal.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// played is a transaction of a schedule and what an operator said of it.
type played struct {
	plan    tx.Plan
	id      string
	born    time.Time
	begun   bool
	skipped map[string]bool // steps that count as an operator said
	retried bool
	closed  bool
}

// play runs one schedule and returns what was wrong with it.
func play(seed uint64, without flaw, d *disks, traced bool) *sim {
	w := &sim{
		seed: seed, rng: rand.New(rand.NewPCG(seed, 0x6d757374)), without: without, now: time.Now(), nodes: d.nodes,
		steps: map[string]*deed{}, count: map[string]int{},
	}
	if traced {
		w.trace = &strings.Builder{}
	}
	if without == noCheck || without == inMap {
		w.lax = map[string]muster.Tx{}
	}
	reg := fsm.New()
	w.reg = fsm.Machine{Registry: reg}
	w.index = 1
	for _, n := range w.nodes {
		n.up, n.works, n.began = true, map[string]*work{}, w.now
	}
	w.script()
	for steps := 0; len(w.queue) > 0 && len(w.bad) == 0; steps++ {
		if steps > 20_000 {
			w.wrong("it does not end")
			break
		}
		m := heap.Pop(&w.queue).(moment)
		w.pass(m.at)
		m.do()
	}
	if len(w.bad) == 0 {
		w.judge()
	}
	w.book(w.nodes[0]) // the next schedule begins when this one has ended
	return w
}

// script draws what will happen.
func (w *sim) script() {
	jump := w.odds(3)
	for i := range 1 + w.rng.IntN(3) {
		p := &played{id: fmt.Sprintf("%d-%d", w.seed, i), skipped: map[string]bool{}, born: w.now}
		p.plan = w.draw(p.id)
		w.txs = append(w.txs, p)
		w.after(w.within(5*time.Second), func() { w.begin(p, 0) })
	}
	w.say("seed %d", w.seed)
	w.crown(0)
	storm := w.within(90 * time.Second)
	some := func(most int, do func()) {
		for range w.rng.IntN(most + 1) {
			w.after(time.Duration(w.rng.Float64()*float64(storm)), do)
		}
	}
	some(3, w.depose)
	some(2, func() { w.crash(w.nodes[w.rng.IntN(3)], false) })
	if w.odds(8) {
		some(1, func() { w.crash(w.nodes[w.rng.IntN(3)], true) })
	}
	some(2, w.operator)
	if jump { // what nodes forget must be only this schedule's
		for _, n := range w.nodes {
			w.do(n.wipe())
		}
		some(1, func() {
			d := []time.Duration{time.Hour, 47 * time.Hour, 48*time.Hour + time.Minute, 50 * time.Hour}[w.rng.IntN(4)]
			w.say("%v pass", d)
			w.count["jumps"]++
			w.pass(w.now.Add(d))
		})
	}
	w.after(storm, w.end)
}

// end has everything go well from now on.
func (w *sim) end() {
	w.say("calm")
	w.calm = true
	for _, n := range w.nodes {
		w.start(n)
	}
	if w.lead == nil {
		w.crown(0)
	}
	w.after(time.Hour, w.finish)
}

// finish has an operator look at what is parked, perhaps.
func (w *sim) finish() {
	if w.lead == nil {
		w.crown(0)
	}
	if !w.odds(50) {
		return
	}
	for _, p := range w.txs {
		t, ok := w.tx(p.id)
		if !ok || t.Status != muster.TxParked {
			continue
		}
		if w.odds(50) {
			w.operate(p, muster.TxTryNow, "")
			continue
		}
		for _, todo := range t.Answer().Sheet {
			w.operate(p, muster.TxSkip, todo.Step)
		}
	}
}

// draw makes a plan that can be begun.
func (w *sim) draw(id string) tx.Plan {
	p := tx.Plan{ID: id, DeadlineMs: int64(2_000 + w.rng.IntN(60_000))}
	if w.odds(10) {
		p.Policy = muster.PolicyForward
	}
	for _, lock := range []string{"x", "y"} {
		if w.odds(25) {
			p.Locks = append(p.Locks, lock)
		}
	}
	n := 1 + w.rng.IntN(4)
	pivot := -1
	if w.odds(20) {
		pivot = w.rng.IntN(n)
	}
	graph := pivot < 0 && w.odds(40)
	for i := range n {
		s := step(fmt.Sprint("s", i), []string{"a", "b", "c"}[w.rng.IntN(3)], runs([]string{"sim.do", "sim.set"}[w.rng.IntN(2)]))
		undo := call([]string{"sim.undo", "sim.unset"}[w.rng.IntN(2)])
		s.Undo = &undo
		if w.odds(10) {
			look := call("sim.look")
			s.Precheck = &look
		}
		switch {
		case i == pivot:
			s.Pivot, s.Undo = true, nil
		case pivot >= 0 && i > pivot:
			s.Retriable, s.Undo = true, nil
		case pivot < 0 && w.odds(10):
			s.Undo = nil
		case w.odds(10):
			s.Run = call("sim.part")
		}
		if graph {
			var ids []string
			for j := range i {
				if w.odds(40) {
					ids = append(ids, fmt.Sprint("s", j))
				}
			}
			s.Needs = &ids
		}
		p.Steps = append(p.Steps, s)
	}
	return p
}

// skills are what the nodes of a schedule can: do and undo, which may not be done
// twice; set and unset, which may; part, which does something even if it fails;
// look, which only reads.
func (w *sim) skills() map[string]tx.Ability {
	mk := func(name string, risk muster.Risk, idempotent bool) muster.ActionInfo {
		return muster.ActionInfo{Action: name, Version: "1.0.0", Digest: "d", Risk: risk, LimitMs: 5_000, Idempotent: idempotent, Params: json.RawMessage(`{}`)}
	}
	set, part := mk("sim.set", muster.RiskLow, true), mk("sim.part", muster.RiskLow, false)
	set.Retry = &muster.TxRetry{Attempts: 3, Jitter: true}
	part.Undo = &muster.TxUndo{Action: "sim.undo", OnFailed: true}
	actions := []muster.ActionInfo{mk("sim.do", muster.RiskLow, false), set, part, mk("sim.undo", muster.RiskLow, false), mk("sim.unset", muster.RiskLow, true), mk("sim.look", muster.RiskRead, true)}
	can := map[string]tx.Ability{}
	for _, n := range w.nodes {
		can["id-"+n.slug] = tx.Ability{Journal: n.journal.ID(), Actions: actions}
	}
	return can
}

// begin has a client begin a transaction, who tries again while there is no
// master, or a lock is held. What the last master had on its way may be in the log,
// too, before the next one claims.
func (w *sim) begin(p *played, tries int) {
	m := w.lead
	if m == nil && len(w.lords) > 0 && !w.calm && w.odds(30) {
		m = w.lords[len(w.lords)-1]
		w.count["begun by the deposed"]++
	}
	if m == nil {
		w.after(500*time.Millisecond, func() { w.begin(p, tries) })
		return
	}
	t, err := tx.Resolve(p.plan, w.skills(), operator())
	if err != nil {
		w.wrong("resolve: %v", err)
		return
	}
	body := w.opened(m, t)
	err = w.write(fsm.OpTxBegin, fmt.Sprint(p.id, tries), body)
	if err == nil && w.odds(10) { // the answer was lost
		err = w.write(fsm.OpTxBegin, fmt.Sprint(p.id, tries), w.opened(m, t))
	}
	w.say("begin %s: %v", p.id, err)
	switch {
	case err == nil:
		p.begun = true
		for _, s := range t.Steps {
			w.say("  %s at %s: %s, undo %s, needs %v, pivot %v, retriable %v", s.ID, s.Node, s.Run.Action, s.Undo.Action, s.Needs, s.Pivot, s.Retriable)
			w.steps[p.id+" "+s.ID] = &deed{step: s, times: map[string]int{}}
		}
		if !m.dead {
			m.look()
		}
	case muster.CodeOf(err) != "locked":
		w.wrong("begin: %v", err)
	case tries < 5:
		w.after(10*time.Second, func() { w.begin(p, tries+1) })
	}
}

// opened is a beginning as a master puts it into the log: in most cases with what it
// starts at once.
func (w *sim) opened(m *master, t muster.Tx) fsm.TxBegin {
	body := fsm.TxBegin{Tx: t}
	first, err := fsm.BeginTx(t, 0, w.now)
	if err != nil || w.without == noIntent || w.odds(30) {
		return body
	}
	events := w.decide(first, nil)
	if len(events) > 0 && !slices.ContainsFunc(events, func(e muster.TxEvent) bool { return e.Event != muster.EventStart }) {
		body.Driver, body.Events = m.name, events
		w.count["begun in one entry"]++
	}
	return body
}

// write has an entry applied.
func (w *sim) write(op fsm.Op, key string, body any) error {
	w.index++
	if w.lax != nil {
		return w.writeLax(body)
	}
	c, err := fsm.NewCommand(op, w.now, "operator", body)
	if err != nil {
		return err
	}
	c.Key, c.Digest = key, key
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return w.reg.Apply(&raft.Log{Index: w.index, Data: raw}).(fsm.Result).Err()
}

func (w *sim) tx(id string) (muster.Tx, bool) {
	if w.lax != nil {
		t, ok := w.lax[id]
		return t, ok
	}
	return w.reg.Tx(id)
}

func (w *sim) open() (open []muster.Tx) {
	if w.lax == nil {
		return w.reg.OpenTxs()
	}
	for _, p := range w.txs {
		if t, ok := w.lax[p.id]; ok && !t.Status.Ended() {
			open = append(open, t)
		}
	}
	return open
}

// writeLax is the state machine without locks, and without its checks: whatever a
// driver says is taken.
func (w *sim) writeLax(body any) (err error) {
	switch b := body.(type) {
	case fsm.TxBegin:
		if _, known := w.lax[b.Tx.ID]; !known {
			t, err := fsm.BeginTx(b.Tx, w.index, w.now)
			if err != nil {
				return err
			}
			if next, err := fsm.AdvanceTx(t, t.Epoch, b.Events, w.index, w.now); err == nil && len(b.Events) > 0 {
				t, t.Driver = next, b.Driver
			}
			w.lax[b.Tx.ID] = t
		}
	case fsm.TxClaim:
		for _, t := range w.open() {
			w.lax[t.ID] = fsm.ClaimTx(t, b.Driver, b.Park, w.index, w.now)
		}
	case fsm.TxOperate:
		w.lax[b.ID], err = fsm.OperateTx(w.lax[b.ID], b, "operator", w.index, w.now)
	case fsm.TxAdvance:
		t := w.lax[b.ID]
		if w.without == inMap {
			if t, err = fsm.AdvanceTx(t, b.Epoch, b.Events, w.index, w.now); err != nil {
				return err
			}
		} else {
			for _, e := range b.Events {
				t = force(t, e, w.index, w.now)
			}
		}
		t.Driver = cmp.Or(t.Driver, b.Driver)
		w.lax[b.ID] = t
	}
	return err
}

// force applies an event, whether it follows or not.
func force(t muster.Tx, e muster.TxEvent, index uint64, at time.Time) muster.Tx {
	if next, err := fsm.AdvanceTx(t, t.Epoch, []muster.TxEvent{e}, index, at); err == nil {
		return next
	}
	t.Steps = slices.Clone(t.Steps)
	switch e.Event {
	case muster.EventAbort:
		t.Status, t.Back = muster.TxCompensating, true
	case muster.EventPark:
		t.Status = muster.TxParked
	default:
		i := slices.IndexFunc(t.Steps, func(s muster.TxStep) bool { return s.ID == e.Step })
		s := &t.Steps[i]
		s.Generation = max(s.Generation, e.Generation)
		switch e.Event {
		case muster.EventChecked:
			s.Checked = true
		case muster.EventStart:
			s.Status, s.StartedAt, s.Since = muster.StepStarting, at, at
		case muster.EventUndo:
			s.Status, s.Since = muster.StepUndoing, at
		case muster.EventAgain:
			s.NotBefore = e.NotBefore
		default:
			s.Status = muster.StepStatus(e.Event)
		}
	}
	if next, err := fsm.AdvanceTx(t, t.Epoch, nil, index, at); err == nil {
		t = next // has it end, if it has come to that
	}
	return t
}

// operator says something about some transaction.
func (w *sim) operator() {
	p := w.txs[w.rng.IntN(len(w.txs))]
	t, ok := w.tx(p.id)
	if !ok || w.lead == nil {
		return
	}
	command := []muster.TxCommand{muster.TxCancel, muster.TxCancel, muster.TxTryNow, muster.TxSkip, muster.TxClose}[w.rng.IntN(5)]
	w.operate(p, command, t.Steps[w.rng.IntN(len(t.Steps))].ID)
}

func (w *sim) operate(p *played, command muster.TxCommand, step string) {
	if command != muster.TxSkip {
		step = ""
	}
	err := w.write(fsm.OpTxOperate, "", fsm.TxOperate{ID: p.id, Command: command, Step: step, Reason: "why not"})
	w.say("operator: %s %s %s: %v", command, p.id, step, err)
	if err == nil {
		w.count[string(command)]++
		p.skipped[step] = p.skipped[step] || command == muster.TxSkip
		p.retried = p.retried || command == muster.TxTryNow
		p.closed = p.closed || command == muster.TxClose
	}
	if w.lead != nil {
		w.lead.look()
	}
}

func (w *sim) do(err error) {
	if err != nil {
		w.wrong("the simulator: %v", err)
	}
}

// simNode is a node's process and its disk.
type simNode struct {
	slug, path string
	journal    *journal.Journal
	up         bool
	life       int
	began      time.Time
	works      map[string]*work // what it executes, by job
}

func (n *simNode) open() error {
	n.journal = journal.New(journal.Config{Path: n.path, NoSync: true, MaxAge: muster.TxMemory + time.Hour})
	return n.journal.Start(context.Background())
}

// wipe puts an empty disk in the place of the node's.
func (n *simNode) wipe() error {
	if err := n.journal.Stop(context.Background()); err != nil {
		return err
	}
	if err := os.Remove(n.path); err != nil {
		return err
	}
	return n.open()
}

// crash ends a node's process: what the journal had not committed is gone.
func (w *sim) crash(n *simNode, wiped bool) {
	if !n.up || w.calm {
		return
	}
	w.count["crashes"]++
	w.say("%s goes down, wiped: %v", n.slug, wiped)
	n.up = false
	n.life++
	n.works = map[string]*work{}
	w.do(w.book(n).Stop(context.Background()))
	if wiped {
		w.count["wipes"]++
		w.do(os.Remove(n.path))
	}
	w.after(w.within(20*time.Second), func() { w.start(n) })
}

func (w *sim) start(n *simNode) {
	if !n.up {
		w.say("%s comes up", n.slug)
		n.up, n.began = true, w.now
		w.book(n)
		w.do(n.open())
	}
}
