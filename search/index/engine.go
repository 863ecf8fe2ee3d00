package index

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/blevesearch/bleve/v2/index/scorch"
	bleve "github.com/blevesearch/bleve_index_api"

	"muster"
)

// engine is one bleve index on disk. Whoever reads it is counted, so that it can
// be exchanged while searches go on.
type engine struct {
	id    string // index_id
	path  string
	index bleve.Index
	queue *bleve.AnalysisQueue
	pins  pins
	users sync.WaitGroup // Index.enter adds, and nobody once it is exchanged

	refused <-chan error // of the batch that the disk has not taken yet; the writer's
}

func (x *Index) openEngine(id string) (*engine, error) {
	e := &engine{
		id: id, path: filepath.Join(x.dir, id), queue: bleve.NewAnalysisQueue(x.opts.Workers),
		pins: pins{most: x.opts.Pins, kept: make(map[uint64]*pin)},
	}
	var err error
	e.index, err = scorch.NewScorch(scorch.Name, map[string]any{
		"path": e.path, "bolt_timeout": "1s", "unsafe_batch": true, // persist waits for the disk
	}, e.queue)
	if err == nil {
		err = e.index.Open()
	}
	if err != nil {
		e.queue.Close()
		if err.Error() == "timeout" { // bbolt's ErrTimeout, which bleve hands through
			return nil, muster.Errorf(muster.Conflict, "index in %s is open in another process: %w", x.dir, err)
		}
		return nil, fmt.Errorf("index in %s: %w", x.dir, err)
	}
	return e, nil
}

// close expects that nobody uses the engine.
func (e *engine) close() error {
	err := errors.Join(e.pins.drop(), e.index.Close())
	e.queue.Close()
	return err
}

// enter returns the present engine, which stays open until its users are done:
// the caller calls e.users.Done.
func (x *Index) enter() (*engine, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return nil, errClosed()
	}
	x.eng.users.Add(1)
	return x.eng, nil
}

// exchange puts an engine in the place of the present one, which is removed when
// the last of its users is done. Nobody waits for them: a search may take as long
// as it likes, and new ones find the new engine.
func (x *Index) exchange(fresh *engine) {
	x.mu.Lock()
	old := x.eng
	x.eng = fresh
	x.mu.Unlock()
	x.wg.Go(func() {
		old.users.Wait()
		err := errors.Join(old.close(), os.RemoveAll(old.path))
		x.mu.Lock()
		defer x.mu.Unlock()
		x.retired = errors.Join(x.retired, err)
	})
}
