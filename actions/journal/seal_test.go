package journal_test

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"testing"

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
