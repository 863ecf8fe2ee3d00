package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	bleve "github.com/blevesearch/bleve_index_api"
	"github.com/google/uuid"

	"muster"
)

// What one batch gathers, and how long it waits for more.
const (
	batchDocs  = 1000
	batchBytes = 16 << 20
	batchWait  = 5 * time.Millisecond
)

// job is what a caller asks of the writer. One of the first four is set.
type job struct {
	put        []*prepared
	remove     []string        // keys
	collection string          // to remove
	rebuild    context.Context //nolint:containedctx // the caller's, for as long as it waits

	done              chan struct{} // closed when what follows is valid
	added, updated    int
	removed           int
	generation        uint64
	err               error
	documents, weight int
}

// do hands a job to the writer and waits. When ctx ends first the outcome is
// unknown: the writer goes on.
func (x *Index) do(ctx context.Context, j *job) error {
	j.done = make(chan struct{})
	if err := ctx.Err(); err != nil {
		return muster.Errorf(muster.Timeout, "nothing was written: %w", err)
	}
	select {
	case x.jobs <- j:
	case <-x.closing:
		return errClosed()
	case <-ctx.Done():
		return muster.Errorf(muster.Timeout, "nothing was written: %w", context.Cause(ctx))
	}
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return muster.Errorf(muster.OutcomeUnknown, "the write was not awaited: %w", context.Cause(ctx))
	}
}

// Put adds documents, or replaces those of equal collection and ID, which are
// kept in NFC; the last of equal ones wins. When it returns they are on disk and can be found. Documents
// that are refused are counted and named by their position, from 1, and do not
// keep the others out. With an error the counts tell what had been written
// before.
func (x *Index) Put(ctx context.Context, docs []muster.Document) (muster.Indexed, error) {
	out := muster.Indexed{Errors: []muster.LineError{}}
	j := &job{}
	flush := func() error {
		if j.documents == 0 {
			return nil
		}
		if err := x.do(ctx, j); err != nil {
			return err
		}
		out.Indexed += j.added
		out.Updated += j.updated
		out.Generation = j.generation
		j = &job{}
		return nil
	}
	for i, d := range docs {
		p, err := prepare(x.analyzer, d)
		if err != nil {
			out.Failed++
			out.Errors = append(out.Errors, muster.LineError{Line: i + 1, Message: err.Error()})
			continue
		}
		j.put = append(j.put, p)
		j.documents++
		j.weight += p.size
		if j.documents >= batchDocs || j.weight >= batchBytes {
			if err := flush(); err != nil {
				return out, err
			}
		}
	}
	if err := flush(); err != nil {
		return out, err
	}
	if out.Generation > 0 {
		return out, nil
	}
	return out, x.view(func(_ *engine, r bleve.IndexReader) error {
		t, err := readTotals(r)
		out.Generation = t.generation
		return err
	})
}

// Delete removes documents and returns how many there were.
func (x *Index) Delete(ctx context.Context, collection string, ids []string) (int, error) {
	j := &job{documents: len(ids)}
	for _, id := range ids {
		j.remove = append(j.remove, key(collectionOr(collection), id))
	}
	if len(ids) == 0 {
		return 0, nil
	}
	if err := x.do(ctx, j); err != nil {
		return 0, err
	}
	return j.removed, nil
}

// DeleteCollection removes all documents of a collection and returns how many
// there were.
func (x *Index) DeleteCollection(ctx context.Context, collection string) (int, error) {
	j := &job{collection: collectionOr(collection), documents: 1}
	if err := x.do(ctx, j); err != nil {
		return 0, err
	}
	return j.removed, nil
}

// Rebuild makes a new index, with a new index ID, from the stored documents and
// puts it in the place of this one. Searches go on meanwhile, writes wait.
func (x *Index) Rebuild(ctx context.Context) error {
	return x.do(ctx, &job{rebuild: ctx})
}

// write is the writer: the only one who changes the index.
func (x *Index) write() {
	for {
		var j *job
		select {
		case j = <-x.jobs:
		case <-x.closing:
			return
		}
		for j != nil {
			if j.rebuild != nil {
				j.err = x.rebuild(j.rebuild)
				close(j.done)
				break
			}
			var jobs []*job
			jobs, j = x.gather(j)
			x.apply(jobs)
		}
	}
}

// gather collects jobs for one batch, beginning with first. next is a job that
// has to run on its own afterwards, or nil.
func (x *Index) gather(first *job) (jobs []*job, next *job) {
	jobs = []*job{first}
	docs, weight := first.documents, first.weight
	wait := time.NewTimer(batchWait)
	defer wait.Stop()
	for docs < batchDocs && weight < batchBytes {
		select {
		case j := <-x.jobs:
			if j.rebuild != nil {
				return jobs, j
			}
			jobs = append(jobs, j)
			docs += j.documents
			weight += j.weight
		case <-wait.C:
			return jobs, nil
		case <-x.closing:
			return jobs, nil
		}
	}
	return jobs, nil
}

// change is what a batch does to one document.
type change struct {
	existed bool // before the batch
	old     counts
	now     *prepared // nil: removed
}

// batch is the state of the index as the jobs of one batch see it one after the
// other.
type batch struct {
	reader  bleve.IndexReader
	changes map[string]*change
}

// at returns the change of a document, at first none.
func (b *batch) at(key string) (c *change, exists bool, err error) {
	if c, ok := b.changes[key]; ok {
		return c, c.now != nil, nil
	}
	c = &change{}
	if c.old, c.existed, err = loadCounts(b.reader, key); err != nil {
		return nil, false, err
	}
	return c, c.existed, nil
}

func (b *batch) run(j *job) error {
	for _, p := range j.put {
		c, exists, err := b.at(p.key)
		if err != nil {
			return err
		}
		if exists {
			j.updated++
		} else {
			j.added++
		}
		c.now = p
		b.changes[p.key] = c
	}
	keys := j.remove
	if j.collection != "" {
		var err error
		if keys, err = b.keys(j.collection); err != nil {
			return err
		}
	}
	for _, k := range keys {
		c, exists, err := b.at(k)
		if err != nil {
			return err
		}
		if exists {
			j.removed++
			c.now = nil
			b.changes[k] = c
		}
	}
	return nil
}

// keys returns the documents of a collection.
func (b *batch) keys(collection string) (keys []string, err error) {
	prefix := key(collection, "")
	for k, c := range b.changes {
		if c.now != nil && !c.existed && strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	ids, err := b.reader.DocIDReaderAll()
	if err != nil {
		return nil, err
	}
	err = eachKey(b.reader, ids, func(k string) error {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
		return nil
	})
	return keys, err
}

func eachKey(r bleve.IndexReader, ids bleve.DocIDReader, f func(key string) error) (err error) {
	defer func() { err = errors.Join(err, ids.Close()) }()
	for {
		id, err := ids.Next()
		if err != nil || id == nil {
			return err
		}
		k, err := r.ExternalID(id)
		if err != nil {
			return err
		}
		if err := f(k); err != nil {
			return err
		}
	}
}

// apply runs jobs as one batch and answers them.
func (x *Index) apply(jobs []*job) {
	generation, changed, err := x.commit(jobs)
	for _, j := range jobs {
		if err != nil {
			j.err = fmt.Errorf("write documents: %w", err)
		}
		j.generation = generation
		close(j.done)
	}
	if changed {
		_ = x.tell() // it fails only when the index is closed
	}
}

// tell reports the present state to OnChange. A batch that the disk refused
// can be found all the same.
func (x *Index) tell() error {
	if x.opts.OnChange == nil {
		return nil
	}
	return x.view(func(e *engine, r bleve.IndexReader) error {
		t, err := readTotals(r)
		if err != nil {
			return err
		}
		docs, err := r.DocCount()
		if err != nil {
			return err
		}
		x.opts.OnChange(e.id, t.generation, docs)
		return nil
	})
}

// commit reports what can be found after it, and whether that changed, which it
// may have in spite of an error.
func (x *Index) commit(jobs []*job) (generation uint64, changed bool, err error) {
	if err := x.eng.writable(); err != nil {
		return 0, false, err
	}
	r, err := x.eng.index.Reader()
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	t, err := readTotals(r)
	if err != nil {
		return 0, false, err
	}
	b := &batch{reader: r, changes: make(map[string]*change)}
	for _, j := range jobs {
		if err := b.run(j); err != nil {
			return 0, false, err
		}
	}
	if len(b.changes) == 0 {
		return t.generation, false, nil
	}
	todo := bleve.NewBatch()
	for k, c := range b.changes {
		if c.existed {
			t.tokens.sub(c.old)
		}
		if c.now != nil {
			t.tokens.add(c.now.counts)
			todo.Update(c.now.doc)
		} else {
			todo.Delete(k)
		}
	}
	if t.generation, err = x.nextGeneration(t.generation); err != nil {
		return 0, false, err
	}
	todo.SetInternal([]byte(totalsKey), t.bytes())
	changed, err = x.eng.persist(todo)
	return t.generation, changed, err
}

// rebuild copies all documents into a new engine and exchanges the two.
func (x *Index) rebuild(ctx context.Context) (err error) {
	if err := x.eng.writable(); err != nil {
		return err
	}
	r, err := x.eng.index.Reader()
	if err != nil {
		return err
	}
	fresh, err := x.openEngine(uuid.NewString())
	if err != nil {
		return errors.Join(err, r.Close())
	}
	err = errors.Join(x.copyTo(ctx, fresh, r), r.Close())
	if err == nil {
		err = writeMeta(x.dir, meta{IndexID: fresh.id, Mapping: mappingVersion})
	}
	if err != nil {
		return errors.Join(fmt.Errorf("rebuild: %w", err), fresh.close(), os.RemoveAll(fresh.path))
	}
	x.exchange(fresh)
	return errors.Join(err, x.tell())
}

// copyTo puts all documents of r into e. The generation goes on from r's.
func (x *Index) copyTo(ctx context.Context, e *engine, r bleve.IndexReader) error {
	t, err := readTotals(r)
	if err != nil {
		return err
	}
	t.tokens = counts{}
	todo, weight := bleve.NewBatch(), 0
	flush := func() error {
		t.generation++
		todo.SetInternal([]byte(totalsKey), t.bytes())
		_, err := e.persist(todo)
		todo, weight = bleve.NewBatch(), 0
		return err
	}
	ids, err := r.DocIDReaderAll()
	if err != nil {
		return err
	}
	err = eachKey(r, ids, func(k string) error {
		if err := x.goingOn(ctx); err != nil {
			return err
		}
		d, ok, err := load(r, k)
		if err != nil || !ok {
			return errors.Join(err, fmt.Errorf("document %q is there: %t", k, ok))
		}
		p, err := prepare(x.analyzer, d)
		if err != nil {
			return err
		}
		t.tokens.add(p.counts)
		todo.Update(p.doc)
		if weight += p.size; len(todo.IndexOps) < batchDocs && weight < batchBytes {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

func (x *Index) goingOn(ctx context.Context) error {
	select {
	case <-x.closing:
		return errClosed()
	default:
		return ctx.Err()
	}
}
