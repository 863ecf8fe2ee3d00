package index

import (
	bleve "github.com/blevesearch/bleve_index_api"

	"muster"
)

// A generation's number must never name two states, yet searches see a batch
// before it is on disk, and it may not get there. At most one batch is on its way
// at a time, so that before a crash searches saw at most the generation after the
// one on disk: resume leaves it out. The first batch after that takes a number
// further ahead, which is written down before it, for the next crash.

// resume finds the highest generation that searches may have seen.
func (x *Index) resume(issued uint64) error {
	return x.view(func(_ *engine, r bleve.IndexReader) error {
		t, err := readTotals(r)
		x.issued = max(t.generation+1, issued)
		return err
	})
}

// nextGeneration returns the number for a batch on top of the present generation.
func (x *Index) nextGeneration(present uint64) (uint64, error) {
	next := max(present, x.issued) + 1
	if next > present+1 {
		if err := writeMeta(x.dir, meta{IndexID: x.eng.id, Mapping: mappingVersion, Issued: next}); err != nil {
			return 0, muster.Errorf(muster.Unavailable, "nothing was written: %s: %w", metaFile, err).
				WithHint("look whether the disk has room and can be written to")
		}
	}
	x.issued = next
	return next, nil
}
