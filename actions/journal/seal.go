package journal

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"

	"muster"

	"go.etcd.io/bbolt"
)

// Seal makes a digest of parameters that says nothing without this journal's key:
// whoever is shown a plain one can try out what a short secret in them may be. It
// is HMAC-SHA-256, hex, and the same for the same digest as long as there is this
// journal. Start comes first.
func (j *Journal) Seal(digest string) string {
	mac := hmac.New(sha256.New, j.seal)
	mac.Write([]byte(digest))
	return hex.EncodeToString(mac.Sum(nil))
}

// unlock reads the key of the seals, or makes one and seals what is here.
func (j *Journal) unlock(tx *bbolt.Tx, self *bbolt.Bucket) error {
	if key := self.Get([]byte("seal")); key != nil {
		j.seal = append([]byte{}, key...)
		return nil
	}
	j.seal = make([]byte, sha256.Size)
	if _, err := rand.Read(j.seal); err != nil {
		return err
	}
	return errors.Join(self.Put([]byte("seal"), j.seal), j.sealAll(tx))
}

// plain is what an earlier version wrote of parameters.
type plain struct {
	Digest string `json:"params_sha256"`
}

// sealAll seals the digests that an earlier version wrote.
func (j *Journal) sealAll(tx *bbolt.Tx) error {
	entries := map[string][]byte{}
	err := tx.Bucket([]byte(bucketEntries)).ForEach(func(key, value []byte) error {
		var old plain
		e, err := get(tx, key)
		if err := errors.Join(err, json.Unmarshal(value, &old)); err != nil || old.Digest == "" {
			return err
		}
		e.Params = j.Seal(old.Digest)
		entries[string(key)], err = json.Marshal(e)
		return err
	})
	jobs := map[string][]byte{}
	err = errors.Join(err, tx.Bucket([]byte(bucketJobs)).ForEach(func(key, value []byte) error {
		var job muster.Job
		var old struct{ Order plain }
		if err := errors.Join(json.Unmarshal(value, &job), json.Unmarshal(value, &old)); err != nil || old.Order.Digest == "" {
			return err
		}
		job.Order.Digest = j.Seal(old.Order.Digest)
		raw, err := json.Marshal(job)
		jobs[string(key)] = raw
		return err
	}))
	for bucket, all := range map[string]map[string][]byte{bucketEntries: entries, bucketJobs: jobs} {
		for key, value := range all {
			err = errors.Join(err, tx.Bucket([]byte(bucket)).Put([]byte(key), value))
		}
	}
	return err
}
