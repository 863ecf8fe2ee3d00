package journal_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"muster"
	"muster/actions/journal"
)

func TestASealIsTheSameInOneJournalAndAnotherInEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := journal.New(journal.Config{Path: path})
	if err := j.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := j.Seal("digest")
	stop(t, j)
	if again := opened(t, journal.Config{Path: path}).Seal("digest"); again != first || len(first) != 64 {
		t.Errorf("%s, and %s after a restart", first, again)
	}
	sum := sha256.Sum256([]byte("digest"))
	other := opened(t, journal.Config{})
	if sealed := other.Seal("digest"); sealed == first || sealed == hex.EncodeToString(sum[:]) || other.Seal("other") == sealed {
		t.Errorf("%s in another journal", sealed)
	}
}

func TestDigestsThatAnEarlierVersionWroteAreSealed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := journal.New(journal.Config{Path: path})
	if err := j.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop(t, j)
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error {
		return errors.Join(
			tx.Bucket([]byte("self")).Delete([]byte("seal")),
			tx.Bucket([]byte("entries")).Put([]byte("a"), []byte(`{"key":"a","job":"a","action":"app.x","params_sha256":"plain-1","caller":"operator","started":"2026-11-01T10:00:00Z","ended":"2026-11-01T10:00:01Z","result":{"state":"ok","success":true}}`)),
			tx.Bucket([]byte("jobs")).Put([]byte("j_n_1"), []byte(`{"job":"j_n_1","status":"failed","order":{"targets":[],"params_sha256":"plain-2"}}`)))
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	j = opened(t, journal.Config{Path: path})
	e := entry("a")
	if _, err := j.Recall(t.Context(), e); muster.KindOf(err) != muster.Conflict {
		t.Errorf("with other parameters: %v", err)
	}
	e.Params = j.Seal("plain-1")
	if known, err := j.Recall(t.Context(), e); err != nil || known == nil || known.State != muster.StateOK {
		t.Errorf("with the same parameters: %+v, %v", known, err)
	}
	job, err := j.Job("j_n_1")
	if err != nil || job.Order.Digest != j.Seal("plain-2") {
		t.Errorf("%+v, %v", job.Order, err)
	}
}
