package journal

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"

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

// unlock reads the key of the seals, or makes one.
func (j *Journal) unlock(self *bbolt.Bucket) error {
	if key := self.Get([]byte("seal")); key != nil {
		j.seal = append([]byte{}, key...)
		return nil
	}
	j.seal = make([]byte, sha256.Size)
	if _, err := rand.Read(j.seal); err != nil {
		return err
	}
	return self.Put([]byte("seal"), j.seal)
}
