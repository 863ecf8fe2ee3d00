package reqlog

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"muster/httpserver/api"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
)

// The file: rows by ID, which is in order of time, and the IDs of those that
// are pending.
const (
	bucketRows    = "rows"
	bucketPending = "pending"
	chunk         = 1000 // rows that one transaction looks at: a long one keeps pages from being used again
)

func keyOf(id string) []byte {
	key, err := uuid.Parse(id)
	if err != nil {
		return nil
	}
	return key[:]
}

// timeOf is when a row's ID was made, to the millisecond (RFC 9562, 5.7).
func timeOf(key []byte) time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(key[:8]) >> 16))
}

// firstAt is the first ID of a moment.
func firstAt(t time.Time) []byte {
	key := make([]byte, 16)
	binary.BigEndian.PutUint64(key, uint64(max(0, t.UnixMilli()))<<16)
	return key
}

func encode(r api.Row) ([]byte, error) {
	payload, response := r.Payload, r.Response
	r.Payload, r.Response = nil, nil
	head, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	value := make([]byte, 0, binary.MaxVarintLen32+len(head)+len(payload)+len(response)+len(`{"p":,"r":}`))
	value = append(binary.AppendUvarint(value, uint64(len(head))), head...)
	return bodies{payload, response}.append(value), nil
}

var errRow = errors.New("row cannot be read")

// decodeHead reads all of a row but the bodies, which follow in rest.
func decodeHead(value []byte) (r api.Row, rest []byte, err error) {
	n, used := binary.Uvarint(value)
	if used <= 0 || n > uint64(len(value)-used) {
		return r, nil, errRow
	}
	end := used + int(n)
	if err := json.Unmarshal(value[used:end], &r); err != nil {
		return r, nil, fmt.Errorf("%w: %w", errRow, err)
	}
	return r, value[end:], nil
}

func decode(value []byte) (api.Row, error) {
	r, rest, err := decodeHead(value)
	var b bodies
	if err == nil {
		err = json.Unmarshal(rest, &b)
	}
	r.Payload, r.Response = b.Payload, b.Response
	return r, err
}

// put writes a row. What is over is never pending again.
func put(tx *bbolt.Tx, r api.Row) error {
	key := keyOf(r.ID)
	value, err := encode(r)
	if err != nil {
		return err
	}
	rows, pending := tx.Bucket([]byte(bucketRows)), tx.Bucket([]byte(bucketPending))
	rows.FillPercent = 0.9 // rows come nearly in order
	if r.Status == api.RowPending {
		err = pending.Put(key, nil)
	} else {
		err = pending.Delete(key)
	}
	return errors.Join(err, rows.Put(key, value))
}

// remove deletes the rows with these keys.
func remove(tx *bbolt.Tx, keys [][]byte) (err error) {
	rows, pending := tx.Bucket([]byte(bucketRows)), tx.Bucket([]byte(bucketPending))
	for _, key := range keys {
		err = errors.Join(err, rows.Delete(key), pending.Delete(key))
	}
	return err
}

// fail ends a pending row whose end nobody saw.
func fail(tx *bbolt.Tx, key []byte, why string, now time.Time) error {
	value := tx.Bucket([]byte(bucketRows)).Get(key)
	if value == nil {
		return tx.Bucket([]byte(bucketPending)).Delete(key)
	}
	r, err := decode(value)
	if err != nil {
		return remove(tx, [][]byte{key})
	}
	if r.Status != api.RowPending {
		return nil
	}
	r.Status, r.ErrorMessage, r.UpdatedAt = api.RowFailed, why, now.UTC()
	return put(tx, r)
}

// interrupt fails the rows that an earlier process left pending.
func (l *Log) interrupt(now time.Time) error {
	return l.db.Update(func(tx *bbolt.Tx) error {
		var keys [][]byte
		cursor := tx.Bucket([]byte(bucketPending)).Cursor()
		for key, _ := cursor.First(); key != nil; key, _ = cursor.Next() {
			keys = append(keys, append([]byte{}, key...))
		}
		for _, key := range keys {
			if err := fail(tx, key, interrupted, now); err != nil {
				return err
			}
		}
		return nil
	})
}

// recount reads the last hour's success rates from the rows.
func (l *Log) recount(now time.Time) error {
	return l.scan(nil, func(key, value []byte) (bool, error) {
		if timeOf(key).Before(now.Add(-time.Hour)) {
			return false, nil
		}
		if r, _, err := decodeHead(value); err == nil {
			l.rates.count(r, now)
		}
		return true, nil
	})
}

// scan shows rows, the newest first, from the one before an ID, or from the
// last, until see returns false. What it shows is not to be kept.
func (l *Log) scan(before []byte, see func(key, value []byte) (more bool, err error)) error {
	for more := true; more; {
		err := l.db.View(func(tx *bbolt.Tx) (err error) {
			cursor := tx.Bucket([]byte(bucketRows)).Cursor()
			var key, value []byte
			if before == nil {
				key, value = cursor.Last()
			} else {
				cursor.Seek(before)
				key, value = cursor.Prev()
			}
			for range chunk {
				if key == nil {
					more = false
					return nil
				}
				if more, err = see(key, value); err != nil || !more {
					return err
				}
				before = append([]byte{}, key...)
				key, value = cursor.Prev()
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
