// Package index is the embedded engine: it holds the documents of one node and
// answers for them with exact statistics and scores. It never asks another
// node.
package index

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/blevesearch/bleve/v2/analysis"
	"github.com/blevesearch/bleve/v2/analysis/lang/en"
	"github.com/blevesearch/bleve/v2/registry"
	bleve "github.com/blevesearch/bleve_index_api"
	"github.com/google/uuid"

	"muster"
)

// Options shape an Index. The zero value is good.
type Options struct {
	PinFor   time.Duration                                 // how long a generation is kept after its last use; 0 means 60 s, the longest search
	Pins     int                                           // generations kept at most, besides those that are read now; 0 means 256
	OnChange func(indexID string, generation, docs uint64) // called after each batch, by the writer: must be quick; may be nil
	Workers  int                                           // goroutines that analyse; 0 means 2
}

// Index is an open index. It is safe for concurrent use.
type Index struct {
	dir      string
	opts     Options
	analyzer analysis.Analyzer
	jobs     chan *job
	closing  chan struct{}
	wg       sync.WaitGroup // writer, janitor and those who wait to close an engine
	issued   uint64         // the highest generation that searches may have seen; Open's, then the writer's

	mu      sync.Mutex // guards what follows
	eng     *engine    // read and exchanged by the writer, which needs no lock to read it
	closed  bool
	retired error // from closing engines that were exchanged
}

// meta is what meta.json says. The engine is in the directory IndexID.
type meta struct {
	IndexID string `json:"index_id"`
	Mapping int    `json:"mapping"`
	Issued  uint64 `json:"issued,omitempty"` // a generation that searches may have seen
}

const metaFile = "meta.json"

// Open opens the index in dir, which it makes if it is missing. An index that
// another process has open is a Conflict.
func Open(dir string, opts Options) (*Index, error) {
	if opts.PinFor <= 0 {
		opts.PinFor = time.Minute
	}
	if opts.Pins <= 0 {
		opts.Pins = 256
	}
	if opts.Workers <= 0 {
		opts.Workers = 2
	}
	analyzer, err := registry.NewCache().AnalyzerNamed(en.AnalyzerName)
	if err != nil {
		return nil, fmt.Errorf("analyser: %w", err)
	}
	x := &Index{
		dir: dir, opts: opts, analyzer: analyzer,
		jobs: make(chan *job), closing: make(chan struct{}),
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("index in %s: %w", dir, err)
	}
	m, err := readMeta(dir)
	fresh := errors.Is(err, fs.ErrNotExist)
	if fresh {
		m, err = create(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("index in %s: %w", dir, err)
	}
	if m.Mapping != mappingVersion {
		return nil, muster.Errorf(muster.Conflict, "index in %s has mapping %d, this program writes %d", dir, m.Mapping, mappingVersion)
	}
	if x.eng, err = x.openEngine(m.IndexID); err != nil {
		return nil, err
	}
	x.sweep(m.IndexID)
	if !fresh {
		if err := x.resume(m.Issued); err != nil {
			return nil, errors.Join(err, x.eng.close())
		}
	}
	x.wg.Go(x.write)
	x.wg.Go(x.expirePins)
	return x, nil
}

// engines returns the directories in dir that are an engine's.
func engines(dir string) (ids []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if _, err := uuid.Parse(e.Name()); err == nil && e.IsDir() {
			ids = append(ids, e.Name())
		}
	}
	return ids, err
}

// create makes the meta file of a new index. Documents that are there without
// one are not swept away for it.
func create(dir string) (m meta, err error) {
	ids, err := engines(dir)
	if err != nil {
		return m, err
	}
	if len(ids) > 0 {
		return m, muster.Errorf(muster.Conflict, "%s is missing, but %s is there", metaFile, ids[0]).
			WithHint("bring back " + metaFile + ", or remove the directory to begin an empty index")
	}
	m = meta{IndexID: uuid.NewString(), Mapping: mappingVersion}
	return m, writeMeta(dir, m)
}

// sweep removes what an interrupted rebuild left. The lock on the engine that
// stays is held, so nobody else builds here.
func (x *Index) sweep(keep string) {
	ids, err := engines(x.dir)
	if err != nil {
		return
	}
	for _, id := range ids {
		if id != keep {
			_ = os.RemoveAll(filepath.Join(x.dir, id))
		}
	}
}

func readMeta(dir string) (m meta, err error) {
	b, err := os.ReadFile(filepath.Join(dir, metaFile))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%s: %w", metaFile, err)
	}
	if _, err := uuid.Parse(m.IndexID); err != nil {
		return m, fmt.Errorf("%s: index_id: %w", metaFile, err)
	}
	return m, nil
}

func writeMeta(dir string, m meta) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, metaFile+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, metaFile))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	if d, err := os.Open(dir); err == nil { // some systems cannot sync a directory
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}

// Close ends the writer, waits for searches and closes the index. What was
// answered is on disk. A second Close is harmless.
func (x *Index) Close() error {
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return nil
	}
	x.closed = true
	close(x.closing)
	x.mu.Unlock()
	x.wg.Wait() // from here on nobody exchanges the engine
	x.eng.users.Wait()
	return errors.Join(x.retired, x.eng.close())
}

func errClosed() error { return muster.Errorf(muster.Unavailable, "the index is closed") }

// view runs f on the present snapshot.
func (x *Index) view(f func(e *engine, r bleve.IndexReader) error) error {
	e, err := x.enter()
	if err != nil {
		return err
	}
	defer e.users.Done()
	r, err := e.index.Reader()
	if err != nil {
		return fmt.Errorf("index reader: %w", err)
	}
	return errors.Join(f(e, r), r.Close())
}

// Get returns a document as it was put, or NotFound. The collection "" is the
// default one.
func (x *Index) Get(ctx context.Context, collection, id string) (d muster.Document, err error) {
	if err := ctx.Err(); err != nil {
		return d, err
	}
	err = x.view(func(_ *engine, r bleve.IndexReader) error {
		var ok bool
		d, ok, err = load(r, key(collectionOr(collection), id))
		if err == nil && !ok {
			return muster.Errorf(muster.NotFound, "no document %q in collection %q", id, collectionOr(collection))
		}
		return err
	})
	return d, err
}

// Stats describes the index as it is now. Node stays empty.
func (x *Index) Stats(ctx context.Context) (s muster.IndexStats, err error) {
	err = x.view(func(e *engine, r bleve.IndexReader) error {
		t, err := readTotals(r)
		if err != nil {
			return err
		}
		s = muster.IndexStats{
			IndexID: e.id, Generation: t.generation, Tokens: t.tokens.table(), ScoringID: ScoringID,
			Collections: make(map[string]uint64),
		}
		if s.Docs, err = r.DocCount(); err != nil {
			return err
		}
		if s.Bytes, err = size(e.path); err != nil {
			return err
		}
		dict, err := r.FieldDict(fieldCollection)
		if err != nil {
			return err
		}
		defer func() { _ = dict.Close() }()
		for {
			entry, err := dict.Next()
			if err != nil || entry == nil {
				return err
			}
			// The dictionary counts the deleted, too.
			n, err := documents(ctx, r, fieldCollection, entry.Term)
			if err != nil {
				return err
			}
			if n > 0 {
				s.Collections[entry.Term] = n
			}
		}
	})
	return s, err
}

// Present names the present state, which the next search would read.
func (x *Index) Present() (indexID string, generation uint64, err error) {
	err = x.view(func(e *engine, r bleve.IndexReader) error {
		t, err := readTotals(r)
		indexID, generation = e.id, t.generation
		return err
	})
	return indexID, generation, err
}

// documents returns how many living documents have the term.
func documents(ctx context.Context, r bleve.IndexReader, field, term string) (uint64, error) {
	t, err := r.TermFieldReader(ctx, []byte(term), field, false, false, false)
	if err != nil {
		return 0, err
	}
	return t.Count(), t.Close()
}

// size adds up the files under dir. Merges remove some meanwhile.
func size(dir string) (total uint64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				total += uint64(info.Size())
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return total, err
}

// totals are kept in the index, changed in the batch that changes the documents.
type totals struct {
	generation uint64
	tokens     counts
}

const totalsKey = "muster"

func (t totals) bytes() []byte {
	return append(binary.AppendUvarint(nil, t.generation), t.tokens.bytes()...)
}

func readTotals(r bleve.IndexReader) (t totals, err error) {
	b, err := r.GetInternal([]byte(totalsKey))
	if err != nil || len(b) == 0 {
		return t, err
	}
	g, n := binary.Uvarint(b)
	if n <= 0 {
		return t, errors.New("totals of the index cannot be read")
	}
	t.generation = g
	t.tokens, err = parseCounts(b[n:])
	return t, err
}
