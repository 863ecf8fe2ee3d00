package reqlog

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"muster"
	"muster/httpserver/api"

	"go.etcd.io/bbolt"
)

const defaultPage = 100

// List returns a page of this node's rows, the newest first.
func (l *Log) List(ctx context.Context, f api.RequestFilter) (api.Requests, error) {
	page := api.Requests{Requests: []api.Row{}, Dropped: l.dropped.Load()}
	if l.closed.Load() {
		return page, muster.Errorf(muster.Unavailable, "the request log is closed")
	}
	limit := f.Limit
	if limit == 0 {
		limit = defaultPage
	}
	oldest := firstAt(f.Since)
	err := l.scan(keyOf(f.Cursor), func(key, value []byte) (bool, error) {
		if err := ctx.Err(); err != nil || bytes.Compare(key, oldest) < 0 {
			return false, err
		}
		head, _, err := decodeHead(value)
		if err != nil || !fits(l.named(head), f) {
			return true, nil //nolint:nilerr // a row that cannot be read is no reason to show none
		}
		if len(page.Requests) == limit {
			page.Cursor = page.Requests[limit-1].ID
			return false, nil
		}
		row, err := decode(value)
		if err == nil {
			page.Requests = append(page.Requests, l.named(row))
		}
		return true, nil
	})
	if err != nil {
		return page, fmt.Errorf("read request log: %w", err)
	}
	return page, nil
}

// named is a row with the names that its nodes have now: when it was written,
// this node may not have known them yet.
func (l *Log) named(r api.Row) api.Row {
	if slug := l.cfg.Slug(r.NodeID); slug != "" {
		r.Node = slug
	}
	if slug := l.cfg.Slug(l.cfg.Self); slug != "" {
		r.RecordedBy = slug
	}
	return r
}

func fits(r api.Row, f api.RequestFilter) bool {
	mine := f.Principal == "" && f.Own == "" || r.Caller == f.Principal || f.Own != "" && r.NodeID == f.Own
	return mine && (f.Node == "" || r.NodeID == f.Node || r.Node == f.Node) &&
		(f.Type == "" || r.RequestType == f.Type) && (f.Status == "" || r.Status == f.Status) &&
		(f.Trace == "" || r.TraceID == f.Trace) && r.DurationMs >= f.Slow.Milliseconds() && !r.CreatedAt.Before(f.Since)
}

// Keep removes the rows of nodes that are not known any more.
func (l *Log) Keep(ctx context.Context, known func(nodeID string) bool) error {
	var doomed [][]byte
	gone := map[string]bool{}
	err := l.scan(nil, func(key, value []byte) (bool, error) {
		if r, _, err := decodeHead(value); err == nil && r.NodeID != "" && !known(r.NodeID) {
			doomed = append(doomed, append([]byte{}, key...))
			gone[r.NodeID] = true
		}
		return ctx.Err() == nil, ctx.Err()
	})
	for id := range gone {
		l.rates.forget(id)
	}
	for err == nil && len(doomed) > 0 {
		n := min(chunk, len(doomed))
		err = l.db.Update(func(tx *bbolt.Tx) error { return remove(tx, doomed[:n]) })
		doomed = doomed[n:]
	}
	if err != nil {
		return fmt.Errorf("remove rows from request log: %w", err)
	}
	return nil
}

// prune removes the oldest rows: those that are too old, and as many as it
// takes for need more bytes to fit.
func (l *Log) prune(tx *bbolt.Tx, need int64, now time.Time) error {
	oldest := firstAt(now.Add(-l.cfg.MaxAge))
	over := l.used(tx) + need - l.cfg.MaxSize/10*9
	var doomed [][]byte
	cursor := tx.Bucket([]byte(bucketRows)).Cursor()
	for key, value := cursor.First(); key != nil && (over > 0 || bytes.Compare(key, oldest) < 0); key, value = cursor.Next() {
		over -= int64(len(key) + len(value))
		doomed = append(doomed, append([]byte{}, key...))
	}
	return remove(tx, doomed)
}

// stale reports whether there are rows that are too old.
func (l *Log) stale(now time.Time) (is bool) {
	_ = l.db.View(func(tx *bbolt.Tx) error { // begins as long as the file is open
		key, _ := tx.Bucket([]byte(bucketRows)).Cursor().First()
		is = key != nil && bytes.Compare(key, firstAt(now.Add(-l.cfg.MaxAge))) < 0
		return nil
	})
	return is
}

// used is how many bytes of the file hold something.
func (l *Log) used(tx *bbolt.Tx) int64 {
	stats := l.db.Stats()
	return tx.Size() - int64(stats.FreePageN+stats.PendingPageN)*int64(l.db.Info().PageSize)
}
