package index

import (
	"time"

	bleve "github.com/blevesearch/bleve_index_api"

	"muster"
)

// lookEvery is how often a batch that is not on disk yet is looked after.
const lookEvery = 100 * time.Millisecond

// persist gives a batch to the engine and waits until it is on disk. found says
// that its documents can be found, which they can in spite of an error when the
// disk refuses it: they may not survive then, and the outcome is unknown. bleve
// is told not to wait by itself, because it then closes the segment of a batch
// that was refused while searches read it.
func (e *engine) persist(todo *bleve.Batch) (found bool, err error) {
	onDisk := make(chan error, 1) // room for a late one
	todo.SetPersistedCallback(func(err error) { onDisk <- err })
	refused := e.refusals()
	if err := e.index.Batch(todo); err != nil {
		return false, err
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case err := <-onDisk:
			return true, err
		case <-look.C:
			if e.refusals() != refused {
				e.refused = onDisk
				return true, muster.Errorf(muster.OutcomeUnknown, "the disk under %s refuses the documents", e.path).
					WithHint("make room on it; they are written as soon as it takes them, unless the node stops before")
			}
		}
	}
}

// writable is an error while a batch is refused. One more would be held in
// memory, too, and after a crash there would be more generations that searches
// have seen than the next start knows of.
func (e *engine) writable() error {
	if e.refused == nil {
		return nil
	}
	select {
	case err := <-e.refused:
		e.refused = nil
		return err
	default:
		return muster.Errorf(muster.Unavailable, "nothing was written: the disk under %s still refuses what came before", e.path).
			WithHint("make room on it and try again")
	}
}

// refusals counts how often bleve could not write to the disk.
func (e *engine) refusals() uint64 {
	n, _ := e.index.StatsMap()["TotPersistLoopErr"].(uint64)
	return n
}
