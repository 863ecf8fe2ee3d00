// Package journal is a node's lasting memory of what it executes: an entry is on
// the disk before an action starts, and another before its outcome is told. It
// never runs anything, and never forgets what has not ended.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"muster"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Config says where the journal is and how much it keeps.
type Config struct {
	Path    string
	NoSync  bool          // leave it to the system when the file is on the disk: for trials
	MaxAge  time.Duration // of an execution that has ended; 0 is 30 days
	MaxSize int64         // bytes of all entries; 0 is 64 MiB
	Log     *slog.Logger  // nil: no log

	// Over reports whether a transaction has ended, of which something was executed
	// here at that time: then it may be forgotten for room like anything else. Nil:
	// nobody knows.
	Over func(tx string, at time.Time) bool
}

const (
	defaultAge  = 30 * 24 * time.Hour
	defaultSize = 64 << 20
	// keepAtLeast is how old an entry is when it may be given up for room: the
	// same execution may be asked for again until then.
	keepAtLeast = time.Hour
	openTimeout = 2 * time.Second
	queueLength = 1024
)

// Journal is one node's journal. It is safe for concurrent use.
type Journal struct {
	cfg     Config
	db      *bbolt.DB
	id      string // set by Start
	seal    []byte // key of the seals; set by Start
	queue   chan change
	commits atomic.Uint64
	bytes   int64     // of all entries and what the open ones may grow by; the writer's own
	jobs    jobs      // the writer's own
	young   time.Time // until then nothing is too old; the writer's own

	mu      sync.Mutex
	running map[string]*execution // by key; guarded by mu
	late    map[string]late       // on their way to the disk, by ID; guarded by mu
	stopped bool                  // guarded by mu
	writes  sync.WaitGroup        // Add is guarded by mu
	wg      sync.WaitGroup
}

// New makes a journal; Start opens it.
func New(cfg Config) *Journal {
	if cfg.MaxAge == 0 {
		cfg.MaxAge = defaultAge
	}
	if cfg.MaxSize == 0 {
		cfg.MaxSize = defaultSize
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Journal{cfg: cfg, queue: make(chan change, queueLength), running: map[string]*execution{}, late: map[string]late{}, stopped: true}
}

// Start opens the file. What was open when the last process ended is interrupted
// from now on. A file that cannot be read is an error: it is the record of what
// was done, and is not thrown away.
func (j *Journal) Start(context.Context) (err error) {
	j.db, err = bbolt.Open(j.cfg.Path, 0o600, &bbolt.Options{Timeout: openTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, berrors.ErrTimeout) {
		return muster.Errorf(muster.Unavailable, "journal %s is in use by another program", j.cfg.Path)
	}
	if err != nil {
		return muster.Errorf(muster.Unavailable, "open journal %s: %w", j.cfg.Path, err).
			WithHint("restore it, or move it away: then nobody knows any more what this node has executed")
	}
	j.db.NoSync = j.cfg.NoSync
	j.db.AllocSize = int(j.cfg.MaxSize / 16)
	interrupted, err := j.recover(time.Now())
	if err != nil {
		return errors.Join(fmt.Errorf("read journal %s: %w", j.cfg.Path, err), j.db.Close())
	}
	if interrupted > 0 {
		j.cfg.Log.Warn("executions were interrupted when the node went down", "count", interrupted)
	}
	j.mu.Lock()
	j.stopped = false
	j.mu.Unlock()
	j.wg.Go(j.write)
	return nil
}

// Stop writes what waits and closes the file; later executions are refused. A
// second Stop does nothing.
func (j *Journal) Stop(context.Context) error {
	j.mu.Lock()
	stopped := j.stopped
	j.stopped = true
	j.mu.Unlock()
	if stopped {
		return nil
	}
	j.writes.Wait()
	close(j.queue)
	j.wg.Wait()
	return j.db.Close()
}

// Commits is how many times the file was written, since Start.
func (j *Journal) Commits() uint64 { return j.commits.Load() }

// Recall returns what became of an execution that was begun before, and waits for
// it if it goes on: nil if none was. It is a Conflict if the key was used for
// another request.
func (j *Journal) Recall(ctx context.Context, e muster.JournalEntry) (*muster.Result, error) {
	x, have, err := j.find(e.Key)
	switch {
	case x != nil:
		return x.wait(ctx, e)
	case have == nil:
		return nil, err
	default:
		return recalled(*have, e)
	}
}

// Begin notes that an execution is about to start; when it returns, that is on
// the disk. If it was begun before, it is not to be started: then Begin returns
// what Recall does. Any other error has the code journal, and nothing may start.
func (j *Journal) Begin(ctx context.Context, e muster.JournalEntry) (*muster.Result, error) {
	for {
		x, mine := j.claim(e)
		if mine {
			return j.start(x)
		}
		if known, err := x.wait(ctx, e); known != nil || err != nil {
			return known, err
		}
	}
}

func (j *Journal) start(x *execution) (known *muster.Result, err error) {
	have, err := j.look(x.entry.Key)
	if have != nil {
		if have.Ended.IsZero() { // this process did not get to write its end
			*have = lost(*have)
		}
		known, err = recalled(*have, x.entry)
	}
	if known == nil && err == nil {
		var written muster.JournalEntry
		if written, err = j.put(x.entry); err == nil && !written.Ended.IsZero() {
			known = &written.Result // there was nothing to do
		}
	}
	if known != nil || err != nil {
		j.release(x, known)
	}
	return known, err
}

// End notes what became of an execution that was begun, and returns what may be
// told of it: that, or that the outcome is unknown, if it could not be written.
func (j *Journal) End(key string, r muster.Result) muster.Result {
	j.mu.Lock()
	x := j.running[key]
	j.mu.Unlock()
	if x == nil {
		return unwritten(r, muster.Errorf(muster.Internal, "it was not begun"))
	}
	if _, err := j.put(ended(x.entry, r, time.Now())); err != nil {
		r = unwritten(r, err)
	}
	j.release(x, &r)
	return r
}
