package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"muster"

	"go.etcd.io/bbolt"
)

// The jobs that this node led are by ID, which is in order of time: the node in
// it is always the same.
const (
	bucketJobs = "jobs"
	keepJobs   = 1000
)

// PutJob writes a job down; beyond a thousand the oldest go. Of results that are
// too long it keeps none. Its error has the code journal.
func (j *Journal) PutJob(job muster.Job) error {
	results := make(map[string]muster.Result, len(job.Results))
	for slug, r := range job.Results {
		results[slug] = ended(muster.JournalEntry{}, r, job.EndedAt).Result
	}
	job.Results = results
	value, err := json.Marshal(job)
	if err != nil {
		return fmt.Errorf("job %s: %w", job.Job, err)
	}
	err = j.using(func() error {
		return j.db.Update(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket([]byte(bucketJobs))
			return errors.Join(bucket.Put([]byte(job.Job), value), trim(bucket))
		})
	})
	if err != nil {
		return wrap(err)
	}
	return nil
}

// trim forgets the oldest jobs beyond those that are kept.
func trim(bucket *bbolt.Bucket) error {
	var gone [][]byte
	n, cursor := 0, bucket.Cursor()
	for key, _ := cursor.Last(); key != nil; key, _ = cursor.Prev() {
		if n++; n > keepJobs {
			gone = append(gone, append([]byte{}, key...))
		}
	}
	var err error
	for _, key := range gone {
		err = errors.Join(err, bucket.Delete(key))
	}
	return err
}

// Job returns a job. It is NotFound when there is none.
func (j *Journal) Job(id string) (job muster.Job, err error) {
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

// Jobs returns all jobs, the newest first.
func (j *Journal) Jobs() (all []muster.Job, err error) {
	err = j.using(func() error {
		return j.db.View(func(tx *bbolt.Tx) error {
			cursor := tx.Bucket([]byte(bucketJobs)).Cursor()
			for key, value := cursor.Last(); key != nil; key, value = cursor.Prev() {
				var job muster.Job
				if err := json.Unmarshal(value, &job); err != nil {
					return fmt.Errorf("job %s: %w", key, err)
				}
				all = append(all, job)
			}
			return nil
		})
	})
	if err != nil {
		return nil, wrap(err)
	}
	return all, nil
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
