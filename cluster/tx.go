package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"muster"
	"muster/fsm"

	jsonv1 "github.com/go-json-experiment/json/v1"
	"github.com/hashicorp/raft"
)

// BeginTx enters a transaction whose steps are bound to nodes; the master drives
// it from then on. A repeated call with the same idempotency key gives the first
// one's transaction, as it is now.
func (c *Cluster) BeginTx(ctx context.Context, w muster.Write, t muster.Tx) (muster.Tx, error) {
	return c.writeTx(ctx, w, fsm.OpTxBegin, fsm.TxBegin{Tx: t})
}

// OperateTx is an operator's word on a transaction: a Conflict if it means nothing
// in the state that is in.
func (c *Cluster) OperateTx(ctx context.Context, w muster.Write, id string, o muster.TxOrder) (muster.Tx, error) {
	return c.writeTx(ctx, w, fsm.OpTxOperate, fsm.TxOperate{ID: id, Command: o.Command, Step: o.Step, Reason: o.Reason})
}

// opened is a command as the master puts it into the log: the beginning of a
// transaction with what its driver here would say first, as far as there is room,
// and without what another node says in a driver's name.
func (c *Cluster) opened(cmd fsm.Command, raw []byte) ([]byte, error) {
	if cmd.Op != fsm.OpTxBegin {
		return raw, nil
	}
	var body fsm.TxBegin
	if err := jsonv1.Unmarshal(cmd.Body, &body); err != nil {
		return nil, muster.Errorf(muster.Malformed, "body of %s: %w", cmd.Op, err)
	}
	body.Driver, body.Events = "", nil
	if t, err := fsm.BeginTx(body.Tx, 0, time.Now()); err == nil && c.cfg.Opening != nil {
		body.Driver, body.Events = c.cfg.Self.ID, c.cfg.Opening(t)
	}
	full, err := rewritten(cmd, body)
	if muster.KindOf(err) == muster.TooLarge && len(body.Events) > 0 {
		body.Driver, body.Events = "", nil
		return rewritten(cmd, body)
	}
	return full, err
}

// rewritten is a command with another body, encoded. It is TooLarge if the registry
// would refuse it for its length.
func rewritten(cmd fsm.Command, body fsm.TxBegin) ([]byte, error) {
	out, err := fsm.NewCommand(cmd.Op, cmd.At, cmd.By, body)
	if err != nil {
		return nil, err
	}
	if err := fsm.TxFits(out.Body); err != nil {
		return nil, err
	}
	out.Key, out.Digest = cmd.Key, cmd.Digest
	return json.Marshal(out)
}

func (c *Cluster) writeTx(ctx context.Context, w muster.Write, op fsm.Op, body any) (muster.Tx, error) {
	res, err := c.write(ctx, w, op, body)
	if err != nil {
		return muster.Tx{}, err
	}
	t, ok := c.reg.Tx(res.ID)
	if !ok {
		return t, muster.Errorf(muster.Gone, "transaction %s ended long ago and is not kept any more", res.ID)
	}
	return t, nil
}

// ClaimTxs makes this node, which must be the master, the driver of all open
// transactions.
func (c *Cluster) ClaimTxs(ctx context.Context) error {
	return c.commit(ctx, fsm.OpTxClaim, fsm.TxClaim{Driver: c.cfg.Self.ID})
}

// AdvanceTx writes down what the driver of an epoch has to say. It is a Conflict
// if that is refused. Of the end all voters are told at once: at one of them
// somebody waits for it.
func (c *Cluster) AdvanceTx(ctx context.Context, id string, epoch uint64, events []muster.TxEvent) error {
	term := c.raft.CurrentTerm()
	raw, err := c.encode(fsm.OpTxAdvance, c.self(), fsm.TxAdvance{ID: id, Epoch: epoch, Driver: c.cfg.Self.ID, Events: events})
	if err != nil {
		return err
	}
	done := make(chan applied, 1)
	c.notes.add(noted{raw, detached(ctx), done})
	select {
	case a := <-done:
		if err := cmp.Or(a.err, a.res.Err()); err != nil {
			return err
		}
	case <-ctx.Done():
		return muster.Errorf(muster.OutcomeUnknown, "the driver was ended before it heard what became of an entry")
	}
	if t, ok := c.reg.Tx(id); ok && !t.Status.Driven() && c.raft.CurrentTerm() == term {
		for _, s := range c.raft.GetConfiguration().Configuration().Servers {
			if s.Suffrage == raft.Voter && string(s.ID) != c.cfg.Self.ID {
				c.tellers.to(string(s.ID)).add(committed{string(s.ID), t.Index, term})
			}
		}
	}
	return nil
}

// noted is what a driver has to say of one transaction, on its way to the log.
type noted struct {
	raw   []byte
	trace func() context.Context // the driver's, which does not end with its wait
	done  chan<- applied         // takes one without waiting
}

// manyNotes reports whether another one does not fit in with others.
func manyNotes(round []noted, next noted) bool {
	size := len(next.raw)
	for _, n := range round {
		size += len(n.raw)
	}
	return len(round) >= forwardMost || size > forwardBytes
}

// breath is how long the next round of notes waits after one of several, also for a
// note that stays alone. What a driver says next of a transaction comes after a
// call, which takes longer than writing: without a pause a round would serve a few
// of many.
func breath(did int, took time.Duration) time.Duration {
	if did < few {
		return 0
	}
	return min(2*took, mostBreath)
}

const mostBreath = 10 * time.Millisecond

// writeNotes commits what is to be said of several transactions together: one write
// to the disk serves all of them.
func (c *Cluster) writeNotes(round []noted) {
	ctx, cancel := context.WithTimeout(round[0].trace(), changeTimeout)
	defer cancel()
	raws := make([][]byte, len(round))
	for i, n := range round {
		raws[i] = n.raw
	}
	for i, a := range c.applyAll(ctx, raws) {
		round[i].done <- a
	}
}

// PurgeTxs forgets the transactions that ended before a time, if there are any.
func (c *Cluster) PurgeTxs(ctx context.Context, before time.Time) error {
	for _, t := range c.reg.Txs() {
		if t.Status.Ended() && t.EndedAt.Before(before) {
			return c.commit(ctx, fsm.OpTxPurge, fsm.TxPurge{Before: before.UTC()})
		}
	}
	return nil
}
