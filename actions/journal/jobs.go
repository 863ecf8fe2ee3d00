package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"muster"

	"go.etcd.io/bbolt"
)

// The jobs that this node led are by ID, which is in order of time: the node in
// it is always the same.
const (
	bucketJobs   = "jobs"
	keepJobs     = 1000
	keepJobBytes = 16 << 20
	lateTime     = 20 * time.Millisecond // how long what is written soon waits for company
)

// PutJob writes a job down; beyond a thousand, or 16 MiB, the oldest that have
// ended go. Of results that are too long it keeps none. With soon it does not wait
// for the disk: the job is on its way there. Its error has the code journal.
func (j *Journal) PutJob(job muster.Job, soon bool) error {
	results := make(map[string]muster.Result, len(job.Results))
	for slug, r := range job.Results {
		results[slug] = ended(muster.JournalEntry{}, r, job.EndedAt).Result
	}
	job.Results = results
	value, err := json.Marshal(job)
	if err != nil {
		return fmt.Errorf("job %s: %w", job.Job, err)
	}
	return j.using(func() error {
		waits := j.hurry(job, value)
		if soon && waits {
			return nil
		}
		c := change{job: job.Job}
		if soon {
			j.queue <- c
			return nil
		}
		done := make(chan placed, 1)
		c.done = done
		j.queue <- c
		return (<-done).err
	})
}

// late is a job on its way to the disk.
type late struct {
	job    muster.Job
	value  []byte
	queued bool // the writer has not taken it yet
}

// hurry puts a job on its way, and reports whether an earlier state of it still
// waited for the writer, which takes this one now.
func (j *Journal) hurry(job muster.Job, value []byte) (waits bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	waits = j.late[job.Job].queued
	j.late[job.Job] = late{job: job, value: value, queued: true}
	return waits
}

// taken returns the jobs that a batch names, as they are now.
func (j *Journal) taken(batch []change) map[string][]byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	jobs := map[string][]byte{}
	for _, c := range batch {
		if l, there := j.late[c.job]; there {
			jobs[c.job] = l.value
			l.queued = false
			j.late[c.job] = l
		}
	}
	return jobs
}

// arrived forgets jobs that are on the disk, unless they changed meanwhile.
func (j *Journal) arrived(jobs map[string][]byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for id := range jobs {
		if !j.late[id].queued {
			delete(j.late, id)
		}
	}
}

// jobs are the bounds of the jobs that are kept. They are the writer's own.
type jobs struct {
	count int
	bytes int64
}

// put writes jobs, and forgets the oldest.
func (b *jobs) put(tx *bbolt.Tx, batch map[string][]byte) error {
	bucket := tx.Bucket([]byte(bucketJobs))
	for id, value := range batch {
		before := bucket.Get([]byte(id))
		if before == nil {
			b.count++
		}
		b.bytes += int64(len(value) - len(before))
		if err := bucket.Put([]byte(id), value); err != nil {
			return err
		}
	}
	return b.trim(bucket)
}

// trim forgets the oldest jobs beyond those that are kept.
func (b *jobs) trim(bucket *bbolt.Bucket) (err error) {
	var gone [][]byte
	cursor := bucket.Cursor()
	for key, value := cursor.First(); key != nil && (b.count > keepJobs || b.bytes > keepJobBytes); key, value = cursor.Next() {
		var job struct{ Status string }
		if err := json.Unmarshal(value, &job); err == nil && job.Status == muster.JobRunning {
			continue
		}
		gone = append(gone, append([]byte{}, key...))
		b.count, b.bytes = b.count-1, b.bytes-int64(len(value))
	}
	for _, key := range gone {
		err = errors.Join(err, bucket.Delete(key))
	}
	return err
}

// lateOnes returns the jobs that are on their way to the disk, by ID.
func (j *Journal) lateOnes() map[string]muster.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	jobs := make(map[string]muster.Job, len(j.late))
	for id, l := range j.late {
		jobs[id] = l.job
	}
	return jobs
}

// Job returns a job. It is NotFound when there is none.
func (j *Journal) Job(id string) (job muster.Job, err error) {
	if job, late := j.lateOnes()[id]; late {
		return job, nil
	}
	err = j.using(func() error {
		return j.db.View(func(tx *bbolt.Tx) error {
			value := tx.Bucket([]byte(bucketJobs)).Get([]byte(id))
			if value == nil {
				return muster.Errorf(muster.NotFound, "no job %q", id)
			}
			return json.Unmarshal(value, &job)
		})
	})
	if err != nil {
		return job, wrap(err)
	}
	return job, nil
}

// Jobs yields the jobs with IDs below one, or all if it is empty, the newest first.
// No more is read than is taken. An error is the last thing.
func (j *Journal) Jobs(below string) iter.Seq2[muster.Job, error] {
	return func(yield func(muster.Job, error) bool) {
		late := lateJobs{jobs: j.lateOnes()}
		late.sort(below)
		err := j.using(func() error {
			return j.db.View(func(tx *bbolt.Tx) error { return late.merge(tx.Bucket([]byte(bucketJobs)).Cursor(), below, yield) })
		})
		if err != nil {
			yield(muster.Job{}, wrap(err))
		}
	}
}

// lateJobs are those on their way to the disk, where they may have arrived, or be as
// they were before.
type lateJobs struct {
	jobs map[string]muster.Job // by ID
	ids  []string              // of those that are still to come, the newest first
}

func (l *lateJobs) sort(below string) {
	for id := range l.jobs {
		if below == "" || id < below {
			l.ids = append(l.ids, id)
		}
	}
	slices.SortFunc(l.ids, func(a, b string) int { return strings.Compare(b, a) })
}

// merge yields these jobs and those on the disk, until it has all, or enough.
func (l *lateJobs) merge(disk *bbolt.Cursor, below string, yield func(muster.Job, error) bool) error {
	for key, value := last(disk, below); key != nil; key, value = disk.Prev() {
		if !l.until(string(key), yield) {
			return nil
		}
		if _, newer := l.jobs[string(key)]; newer {
			continue
		}
		var job muster.Job
		if err := json.Unmarshal(value, &job); err != nil {
			return fmt.Errorf("job %s: %w", key, err)
		}
		if !yield(job, nil) {
			return nil
		}
	}
	l.until("", yield)
	return nil
}

// until yields those that are not older than one, and reports whether more is
// wanted.
func (l *lateJobs) until(id string, yield func(muster.Job, error) bool) bool {
	for len(l.ids) > 0 && l.ids[0] >= id {
		next := l.ids[0]
		l.ids = l.ids[1:]
		if !yield(l.jobs[next], nil) {
			return false
		}
	}
	return true
}

// last moves a cursor to the last key below one, or the last of all.
func last(cursor *bbolt.Cursor, below string) (key, value []byte) {
	if below == "" {
		return cursor.Last()
	}
	if key, _ := cursor.Seek([]byte(below)); key == nil {
		return cursor.Last()
	}
	return cursor.Prev()
}

// interruptJobs ends the jobs that the last process did not.
func interruptJobs(tx *bbolt.Tx, now time.Time) error {
	bucket := tx.Bucket([]byte(bucketJobs))
	ended := map[string][]byte{}
	err := bucket.ForEach(func(key, value []byte) error {
		var job muster.Job
		err := json.Unmarshal(value, &job)
		if err != nil || job.Status != muster.JobRunning {
			return err
		}
		job.Status, job.EndedAt = muster.JobInterrupted, now.UTC()
		for _, slug := range job.Pending {
			job.Results[slug] = muster.Result{Node: slug, State: muster.StateUnknown, Error: &muster.ActionError{
				Code: "interrupted", Message: "the node that led the job went down meanwhile; it may have been done",
			}}
		}
		job.FailureCount += len(job.Pending)
		job.NodesExecuted += len(job.Pending)
		job.Pending = nil
		ended[string(key)], err = json.Marshal(job)
		return err
	})
	for key, value := range ended {
		err = errors.Join(err, bucket.Put([]byte(key), value))
	}
	return err
}
