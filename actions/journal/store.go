package journal

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"muster"

	"go.etcd.io/bbolt"
)

// The file: entries by key; the keys in the order in which they began, for those
// that are to be forgotten; and the keys of what has not ended.
const (
	bucketEntries = "entries"
	bucketOrder   = "order"
	bucketOpen    = "open"
	sweepChunk    = 256 // entries that one commit forgets at most
)

// recover reads what the last process left, and ends what it did not.
func (j *Journal) recover(now time.Time) (interrupted int, err error) {
	err = j.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{bucketEntries, bucketOrder, bucketOpen, bucketJobs, bucketSteps, bucketSelf} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		self := tx.Bucket([]byte(bucketSelf))
		if err := errors.Join(j.identify(self), j.unlock(self)); err != nil {
			return err
		}
		var open []muster.JournalEntry
		err := tx.Bucket([]byte(bucketOpen)).ForEach(func(key, _ []byte) error {
			e, err := get(tx, key)
			open = append(open, e)
			return err
		})
		for _, e := range open {
			err = errors.Join(err, put(tx, ended(e, interruption(), now)))
		}
		err = errors.Join(err, interruptJobs(tx, now))
		interrupted = len(open)
		j.bytes = 0
		j.jobs = jobs{}
		return errors.Join(err, tx.Bucket([]byte(bucketEntries)).ForEach(func(key, value []byte) error {
			j.bytes += int64(len(key) + len(value))
			return nil
		}), tx.Bucket([]byte(bucketJobs)).ForEach(func(_, value []byte) error {
			j.jobs.count, j.jobs.bytes = j.jobs.count+1, j.jobs.bytes+int64(len(value))
			return nil
		}))
	})
	return interrupted, err
}

// look reads an execution in the file; nil if it is not there.
func (j *Journal) look(key string) (have *muster.JournalEntry, err error) {
	err = j.using(func() error {
		return j.db.View(func(tx *bbolt.Tx) error {
			if tx.Bucket([]byte(bucketEntries)).Get([]byte(key)) == nil {
				return nil
			}
			e, err := get(tx, []byte(key))
			have = &e
			return err
		})
	})
	if err != nil {
		return nil, wrap(err)
	}
	return have, nil
}

// find returns an execution that goes on, or else what the file has of it, or
// neither. One that has no end there began, and may have ended, since it was looked
// for here; or its end could not be written down: the second look tells.
func (j *Journal) find(key string) (x *execution, have *muster.JournalEntry, err error) {
	for range 2 {
		j.mu.Lock()
		x = j.running[key]
		j.mu.Unlock()
		if x != nil {
			return x, nil, nil
		}
		have, err = j.look(key)
		if have == nil || !have.Ended.IsZero() {
			return nil, have, err
		}
	}
	*have = lost(*have)
	return nil, have, nil
}

// Outcome says what is known here of the execution of a job, and does not wait.
func (j *Journal) Outcome(job string) (muster.Outcome, error) {
	x, have, err := j.find(job)
	if have == nil {
		return muster.Outcome{Known: x != nil}, err
	}
	return muster.Outcome{Known: true, Result: &have.Result}, err
}

// wrap gives an error of the journal its kind: nothing was done.
func wrap(err error) error {
	if muster.KindOf(err) != muster.Internal {
		return err
	}
	return muster.Errorf(muster.Unavailable, "journal: %w", err).WithCode(codeJournal)
}

func get(tx *bbolt.Tx, key []byte) (e muster.JournalEntry, err error) {
	value := tx.Bucket([]byte(bucketEntries)).Get(key)
	if err := json.Unmarshal(value, &e); err != nil {
		return e, fmt.Errorf("entry %s: %w", key, err)
	}
	return e, nil
}

// put writes an entry. The first one of a key is last in the order.
func put(tx *bbolt.Tx, e muster.JournalEntry) error {
	key := []byte(e.Key)
	value, err := json.Marshal(e)
	if err != nil {
		return err
	}
	entries, order, open := tx.Bucket([]byte(bucketEntries)), tx.Bucket([]byte(bucketOrder)), tx.Bucket([]byte(bucketOpen))
	if entries.Get(key) == nil {
		n, err := order.NextSequence()
		if err := errors.Join(err, order.Put(binary.BigEndian.AppendUint64(nil, n), key)); err != nil {
			return err
		}
	}
	if e.Ended.IsZero() {
		err = open.Put(key, nil)
	} else {
		err = open.Delete(key)
	}
	return errors.Join(err, entries.Put(key, value))
}

// needed reports whether a transaction may still ask for an execution.
func (j *Journal) needed(e muster.JournalEntry, age time.Duration) bool {
	return e.Tx != nil && age < muster.TxMemory+keepAtLeast && (j.cfg.Over == nil || !j.cfg.Over(e.Tx.Tx, e.Started))
}

// sweep forgets what is too old, and as much as is needed for room, the oldest
// first; what goes on stays, and so does what may be asked for again. It returns
// the bytes that are free by it.
func (j *Journal) sweep(tx *bbolt.Tx, room int64, now time.Time) (freed int64, err error) {
	if room <= 0 && now.Before(j.young) {
		return 0, nil
	}
	order, entries := tx.Bucket([]byte(bucketOrder)), tx.Bucket([]byte(bucketEntries))
	var gone [][2][]byte
	oldest := true
	cursor := order.Cursor()
	for at, key := cursor.First(); at != nil && len(gone) < sweepChunk; at, key = cursor.Next() {
		e, err := get(tx, key)
		if err != nil {
			return freed, err
		}
		age := now.Sub(e.Started)
		if age < j.cfg.MaxAge && (freed >= room || age < keepAtLeast) {
			if oldest {
				j.young = e.Started.Add(j.cfg.MaxAge)
			}
			break
		}
		oldest = false
		if e.Ended.IsZero() || j.needed(e, age) {
			continue
		}
		freed += int64(len(key) + len(entries.Get(key)))
		gone = append(gone, [2][]byte{append([]byte{}, at...), append([]byte{}, key...)})
	}
	for _, g := range gone {
		e, bad := get(tx, g[1])
		err = errors.Join(err, bad, order.Delete(g[0]), entries.Delete(g[1]), forgetStep(tx, e))
	}
	return freed, err
}
