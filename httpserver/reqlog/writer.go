package reqlog

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"muster/httpserver/api"

	"go.etcd.io/bbolt"
)

// batch is what is committed together, by ID: a call that begins and ends
// meanwhile is one row.
type batch struct {
	calls map[string]entry
	taken int
	size  int64
}

func (b *batch) take(e entry) {
	b.calls[e.call.ID] = e
	b.taken++
	b.size += e.size
}

// write is the one writer: it gathers calls for a moment and commits them
// together.
func (l *Log) write(ctx context.Context) {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case e := <-l.queue:
			l.commit(l.gather(ctx, e))
		case <-sweep.C:
			if l.stale(time.Now()) {
				l.commit(batch{})
			}
		case <-ctx.Done():
			l.commit(l.rest())
			return
		}
	}
}

// gather collects calls until it is time to commit.
func (l *Log) gather(ctx context.Context, first entry) batch {
	b := batch{calls: map[string]entry{}}
	b.take(first)
	due := time.NewTimer(interval)
	defer due.Stop()
	for {
		select {
		case e := <-l.queue:
			b.take(e)
		case <-due.C:
			return b
		case <-ctx.Done():
			return b
		}
	}
}

// rest is what is in the queue at the end.
func (l *Log) rest() batch {
	b := batch{calls: map[string]entry{}}
	for {
		select {
		case e := <-l.queue:
			b.take(e)
		default:
			return b
		}
	}
}

// commit writes a batch. What cannot be written is dropped: a full disk is no
// reason to stop the node.
func (l *Log) commit(b batch) {
	defer l.release(b.taken, b.size)
	now := time.Now()
	rows := make([]api.Row, 0, len(b.calls))
	for _, e := range b.calls {
		rows = append(rows, l.row(e, now))
	}
	slices.SortFunc(rows, func(a, b api.Row) int { return strings.Compare(a.ID, b.ID) })
	if err := l.insert(rows, now); err != nil {
		l.dropped.Add(uint64(len(rows)))
		l.complain(errors.Join(err, l.relieve(now)), now)
		return
	}
	l.written.Add(uint64(len(rows)))
	for _, row := range rows {
		l.rates.count(row, now)
	}
}

// insert removes what is too old or too much, and puts the rows in.
func (l *Log) insert(rows []api.Row, now time.Time) error {
	l.mu.Lock()
	lost := l.lost
	l.lost = nil
	l.mu.Unlock()
	need := int64(0)
	for _, row := range rows {
		need += int64(len(row.Payload)+len(row.Response)) + rowSize
	}
	return l.db.Update(func(tx *bbolt.Tx) error {
		if err := l.prune(tx, need, now); err != nil {
			return err
		}
		for _, row := range rows {
			if err := put(tx, row); err != nil {
				return err
			}
		}
		for _, id := range lost {
			if err := fail(tx, keyOf(id), unrecorded, now); err != nil {
				return err
			}
		}
		return nil
	})
}

// rowSize is about what a row takes without its bodies.
const rowSize = 512

// relieve makes room after a failure: free pages in many small pieces may hold
// no large row.
func (l *Log) relieve(now time.Time) error {
	return l.db.Update(func(tx *bbolt.Tx) error { return l.prune(tx, l.cfg.MaxSize/4, now) })
}

// complain says, once a minute, why rows are not kept.
func (l *Log) complain(err error, now time.Time) {
	if now.Sub(l.complained) < complainOnce {
		return
	}
	l.complained = now
	l.cfg.Log.Warn("request log cannot be written, its rows are dropped", "error", err)
}
