package index

import (
	"time"

	bleve "github.com/blevesearch/bleve_index_api"

	"muster"
)

// lookEvery is how often a batch that is not on disk yet is looked after.
const lookEvery = 100 * time.Millisecond

// persist gives a batch to the engine and waits until it is on disk. When the
// disk refuses it, its documents can be found but may not survive: the outcome
// is unknown. bleve is told not to wait by itself, because it then closes the
// segment of a batch that was refused while searches read it.
func (e *engine) persist(todo *bleve.Batch) error {
	onDisk := make(chan error, 1) // room for a late one
	todo.SetPersistedCallback(func(err error) { onDisk <- err })
	refused := e.refusals()
	if err := e.index.Batch(todo); err != nil {
		return err
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case err := <-onDisk:
			return err
		case <-look.C:
			if e.refusals() != refused {
				return muster.Errorf(muster.OutcomeUnknown, "the disk under %s refuses the documents", e.path).
					WithHint("make room on it; they are written as soon as it takes them, unless the node stops before")
			}
		}
	}
}

// refusals counts how often bleve could not write to the disk.
func (e *engine) refusals() uint64 {
	n, _ := e.index.StatsMap()["TotPersistLoopErr"].(uint64)
	return n
}
