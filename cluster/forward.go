package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"muster"
	"muster/fsm"

	jsonv1 "github.com/go-json-experiment/json/v1"
	"github.com/hashicorp/raft"
)

const (
	forwardTimeout = time.Second // one try at one master
	forwardsAtOnce = 1           // calls to the master under way; what comes meanwhile goes with the next
	forwardMost    = 256         // commands in a call
	forwardBytes   = 1 << 20     // of commands in a call of more than one
)

// grace is how long the next call waits at most for those who got their answers
// from the last one.
func grace(took time.Duration) time.Duration { return min(took, 10*time.Millisecond) }

// forwarded is a command on its way to the master, in the name of its caller.
type forwarded struct {
	By      muster.Rights   `json:"by"`
	Command json.RawMessage `json:"command"`

	trace func() context.Context // the caller's, which does not end with the caller's wait
	done  chan<- answer          // takes one without waiting
}

// answer is what became of a command: a result, or an error that left no entry
// in the log, or of which nobody knows.
type answer struct {
	Result fsm.Result   `json:"result,omitzero"`
	Failed *fsm.Refusal `json:"failed,omitempty"`
}

// batch is the body of a call to the master, outcome that of its answer: one
// for each command, in the same order.
type (
	batch struct {
		Commands []forwarded `json:"commands"`
	}
	outcome struct {
		Answers []answer `json:"answers"`
	}
)

// atMaster runs a command here if this node leads, and at the master if it does
// not, together with others that are on their way there. The master never sends
// it on.
func (c *Cluster) atMaster(ctx context.Context, by muster.Rights, cmd fsm.Command, raw []byte) (fsm.Result, error) {
	if c.raft.State() == raft.Leader {
		if _, err := fsm.Decode(raw); err != nil {
			return fsm.Result{}, err
		}
		if err := c.allowed(ctx, cmd); err != nil {
			return fsm.Result{}, err
		}
		raw, err := c.opened(cmd, raw)
		if err != nil {
			return fsm.Result{}, err
		}
		return c.applyHere(ctx, raw)
	}
	done := make(chan answer, 1)
	f := forwarded{By: by, Command: raw, trace: detached(ctx), done: done}
	if examined(cmd.Op) { // that takes its time: nobody else should wait for it
		if !c.background(func() { c.forward([]forwarded{f}) }) {
			c.unsent(f)
		}
	} else {
		c.forwards.add(f)
	}
	select {
	case a := <-done:
		if a.Failed != nil {
			return fsm.Result{}, fsm.Result{Refused: a.Failed}.Err()
		}
		return a.Result, nil
	case <-ctx.Done():
		return fsm.Result{}, muster.Errorf(muster.Timeout, "the deadline passed before the master answered")
	}
}

// detached is a context that goes on when ctx ends. A call for many goes under
// that of the first.
func detached(ctx context.Context) func() context.Context {
	return func() context.Context { return context.WithoutCancel(ctx) }
}

// tooMuch reports whether another command does not fit into a call.
func tooMuch(round []forwarded, next forwarded) bool {
	size := len(next.Command)
	for _, f := range round {
		size += len(f.Command)
	}
	return len(round) >= forwardMost || size > forwardBytes
}

func (*Cluster) unsent(f forwarded) { f.done <- failed(errStopping()) }

func errStopping() error { return muster.Errorf(muster.NotMaster, "this node is stopping") }

// forward sends commands to the master in one call, and gives each caller the
// answer to its own. An error of the call is one for all.
func (c *Cluster) forward(round []forwarded) {
	answers, err := c.send(round)
	for i, f := range round {
		if err != nil {
			f.done <- failed(err)
			continue
		}
		f.done <- answers[i]
	}
}

func (c *Cluster) send(round []forwarded) ([]answer, error) {
	master, err := c.masterPeer()
	if err != nil {
		return nil, err
	}
	body, err := jsonv1.Marshal(batch{round})
	if err != nil {
		return nil, muster.Errorf(muster.Internal, "encode commands: %w", err)
	}
	ctx, cancel := context.WithTimeout(round[0].trace(), forwardTimeout)
	defer cancel()
	raw, err := c.wire.Apply(ctx, master, body)
	if err != nil {
		return nil, err
	}
	var out outcome
	if err := jsonv1.Unmarshal(raw, &out); err != nil || len(out.Answers) != len(round) {
		return nil, muster.Errorf(muster.OutcomeUnknown, "the master gave %d answers to %d commands", len(out.Answers), len(round))
	}
	return out.Answers, nil
}

// Apply runs the commands of a batch that the node with ID from forwarded, and
// returns an answer to each. Its own errors are of kind Malformed. Those of a
// command are NotMaster unless this node leads, and Forbidden if the original
// caller lacks the right, or for a command that only a master makes.
func (c *Cluster) Apply(ctx context.Context, from string, body []byte) ([]byte, error) {
	var b batch
	if err := jsonv1.Unmarshal(body, &b); err != nil {
		return nil, muster.Errorf(muster.Malformed, "commands: %w", err)
	}
	out := outcome{Answers: make([]answer, len(b.Commands))}
	good := make([][]byte, 0, len(b.Commands))
	place := make([]int, 0, len(b.Commands)) // of each good one in the batch
	for i, f := range b.Commands {
		cmd, err := c.admissible(ctx, from, f)
		raw := []byte(f.Command)
		if err == nil {
			raw, err = c.opened(cmd, raw)
		}
		if err != nil {
			out.Answers[i] = failed(err)
			continue
		}
		good, place = append(good, raw), append(place, i)
	}
	term := c.raft.CurrentTerm()
	latest := uint64(0)
	for i, done := range c.applyAll(ctx, good) {
		if out.Answers[place[i]] = (answer{Result: done.res}); done.err != nil {
			out.Answers[place[i]] = failed(done.err)
		}
		latest = max(latest, done.index)
	}
	if latest > 0 && c.raft.CurrentTerm() == term { // so it is the term of the entries, too
		c.tellers.to(from).add(committed{from, latest, term})
	}
	return jsonv1.Marshal(out)
}

// admissible checks a forwarded command: the node that sent it vouches for who
// its caller is, not for what that may do.
func (c *Cluster) admissible(ctx context.Context, from string, f forwarded) (fsm.Command, error) {
	cmd, err := fsm.Decode(f.Command)
	if err != nil {
		return cmd, err
	}
	own, err := offers(cmd, from)
	if err != nil {
		return cmd, err
	}
	scope := cmd.Op.Scope()
	switch {
	case scope == muster.ScopeNode && !own:
		return cmd, muster.Errorf(muster.Forbidden, "%s is for the master itself", cmd.Op)
	case !f.By.May(scope) || cmd.By != f.By.Principal:
		return cmd, muster.Errorf(muster.Forbidden, "%s needs the scope %s", cmd.Op, scope)
	case f.By.Expired(time.Now()):
		return cmd, muster.Errorf(muster.Forbidden, "the key has expired")
	default:
		return cmd, c.allowed(ctx, cmd)
	}
}

func failed(err error) answer {
	why := fsm.RefusalOf(err)
	return answer{Failed: &why}
}

// committed names the newest entry that a follower waits for.
type committed struct {
	id          string
	index, term uint64
}

// tellers let followers know what is committed, each follower by itself, so
// that none that hangs holds up the others.
type tellers struct {
	make func() *gather[committed]

	mu sync.Mutex
	by map[string]*gather[committed] // by node ID; guarded by mu
}

func (t *tellers) to(id string) *gather[committed] {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by[id] == nil {
		t.by[id] = t.make()
	}
	return t.by[id]
}

// tellCommitted lets a follower know at once that an entry is committed: it
// waits for that to answer its caller, and raft itself would tell it with its
// next message, up to 100 ms later. This is such a message, an AppendEntries
// without entries: it holds only if the follower has the entry in its log
// (Ongaro's thesis, figure 3.1), and changes nothing otherwise.
func (c *Cluster) tellCommitted(round []committed) {
	last := slices.MaxFunc(round, func(a, b committed) int {
		return cmp.Or(cmp.Compare(a.term, b.term), cmp.Compare(a.index, b.index))
	})
	self := raft.ServerID(c.cfg.Self.ID)
	addr := c.trans.EncodePeer(self, c.trans.LocalAddr())
	req := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(self), Addr: addr},
		Term:      last.term, PrevLogEntry: last.index, PrevLogTerm: last.term, LeaderCommitIndex: last.index,
	}
	if err := c.trans.AppendEntries(raft.ServerID(last.id), addressOf(last.id), req, &raft.AppendEntriesResponse{}); err != nil {
		c.log.Debug("tell commit index", "node", last.id, "error", err)
	}
}
