package journal

import (
	"errors"
	"time"

	"muster"

	"go.etcd.io/bbolt"
)

// change is an entry on its way to the disk, or the job with an ID, as it is when
// it is written.
type change struct {
	entry muster.JournalEntry
	job   string
	done  chan<- placed // has room; nil: nobody waits
}

// placed is what became of a change: the entry as it was written.
type placed struct {
	entry muster.JournalEntry
	err   error
}

// using keeps the file open while do works with it.
func (j *Journal) using(do func() error) error {
	j.mu.Lock()
	if j.stopped {
		j.mu.Unlock()
		return muster.Errorf(muster.Unavailable, "the journal is closed").WithCode(codeJournal)
	}
	j.writes.Add(1)
	j.mu.Unlock()
	defer j.writes.Done()
	return do()
}

// put writes an entry and returns it when it is on the disk. The beginning of a
// step may have ended with that.
func (j *Journal) put(e muster.JournalEntry) (written muster.JournalEntry, err error) {
	err = j.using(func() error {
		done := make(chan placed, 1)
		j.queue <- change{entry: e, done: done}
		p := <-done
		written = p.entry
		return p.err
	})
	return written, err
}

// write is the one writer. What came while it wrote goes to the disk together;
// what nobody waits for goes with the next, or soon.
func (j *Journal) write() {
	var batch []change
	soon := time.NewTimer(lateTime)
	defer soon.Stop()
	for open := true; open; {
		due := true
		select {
		case c, more := <-j.queue:
			if open = more; !open {
				break
			}
			if len(batch) == 0 {
				soon.Reset(lateTime)
			}
			batch = append(batch, c)
			due = c.done != nil
			for len(j.queue) > 0 {
				c := <-j.queue
				batch, due = append(batch, c), due || c.done != nil
			}
		case <-soon.C:
		}
		if due && len(batch) > 0 {
			j.commit(batch)
			batch = nil
		}
	}
}

// commit writes what there is room for: ends always, beginnings if they leave
// room for their ends.
func (j *Journal) commit(batch []change) {
	errs := make([]error, len(batch))
	bytes, kept := j.bytes, j.jobs
	late := j.taken(batch)
	err := j.db.Update(func(tx *bbolt.Tx) error {
		freed, err := j.sweep(tx, bytes+int64(len(batch))*maxEntry-j.cfg.MaxSize, time.Now())
		if err != nil {
			return err
		}
		bytes -= freed
		for i := range batch {
			if batch[i].job != "" {
				continue
			}
			var grown int64
			if grown, errs[i] = j.enter(tx, &batch[i].entry, bytes); errs[i] != nil && !told(errs[i]) {
				return errs[i]
			}
			bytes += grown
		}
		return kept.put(tx, late)
	})
	if err == nil {
		j.bytes, j.jobs = bytes, kept
		j.commits.Add(1)
	} else if len(late) > 0 {
		j.cfg.Log.Error("jobs cannot be written down", "count", len(late), "error", err)
	}
	j.arrived(late)
	for i, c := range batch {
		if (errs[i] == nil || !told(errs[i])) && err != nil {
			errs[i] = wrap(err)
		}
		if c.done != nil {
			c.done <- placed{c.entry, errs[i]}
		}
	}
}

// enter writes one entry as it is to be, and returns by how much the entries are
// more. An error that is told is that of this entry alone.
func (j *Journal) enter(tx *bbolt.Tx, e *muster.JournalEntry, bytes int64) (int64, error) {
	if err := j.admit(*e, bytes); err != nil {
		return 0, err
	}
	if e.Tx != nil && e.Ended.IsZero() {
		now, err := j.place(tx, *e, time.Now())
		if err != nil {
			return 0, err
		}
		*e = now
	}
	return grow(tx, *e)
}

// told reports whether an error is a refusal that the caller is told.
func told(err error) bool {
	_, ok := errors.AsType[*muster.Error](err)
	return ok
}

// admit refuses a beginning that there is no room for.
func (j *Journal) admit(e muster.JournalEntry, bytes int64) error {
	if !e.Ended.IsZero() || bytes+maxEntry <= j.cfg.MaxSize {
		return nil
	}
	return muster.Errorf(muster.Limited, "the journal is full of what was executed within the last %v, and for transactions that have not ended", keepAtLeast).WithCode(codeJournal)
}

// grow writes an entry and returns by how much the entries are more.
func grow(tx *bbolt.Tx, e muster.JournalEntry) (int64, error) {
	entries, key := tx.Bucket([]byte(bucketEntries)), []byte(e.Key)
	before := entries.Get(key)
	size := -int64(len(before))
	if before == nil {
		size = int64(len(key))
	}
	err := put(tx, e)
	return size + int64(len(entries.Get(key))), err
}
