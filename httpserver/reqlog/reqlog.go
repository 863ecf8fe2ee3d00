// Package reqlog keeps what the wire saw: a row for every search, action, sync
// and ping, in and out, in one bounded file per node. It is a witness and never
// a brake: a call does not wait for it, and what it cannot take in it drops and
// counts.
package reqlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"muster"
	"muster/httpserver/api"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Config says where the log is, how much it keeps and what it may not show.
type Config struct {
	Path    string
	Self    string                 // ID of this node
	Slug    func(id string) string // of a node; empty: not known
	MaxAge  time.Duration          // of a row; 0 is 7 days
	MaxSize int64                  // wanted bytes of the file, which never grows beyond 1.25 times this; 0 is 256 MiB
	Log     *slog.Logger

	// Secrets names the secret parameters of an action. Of an action that is not
	// known here no parameter is kept.
	Secrets func(action string) (names []string, known bool)
}

const (
	defaultAge   = 7 * 24 * time.Hour
	defaultSize  = 256 << 20
	interval     = 100 * time.Millisecond // between commits: what SIGKILL can cost
	sweepEvery   = time.Minute
	queueRows    = 4096
	queueShare   = 16 // the bodies in the queue take at most this part of the file's size
	maxLost      = 1 << 16
	openTimeout  = 2 * time.Second
	complainOnce = time.Minute
)

// Log is one node's request log.
type Log struct {
	cfg    Config
	db     *bbolt.DB
	hide   hider
	queue  chan entry
	held   atomic.Int64 // calls that are not yet in the file
	queued atomic.Int64 // bytes of their bodies

	dropped atomic.Uint64
	refused atomic.Uint64 // of strangers
	written atomic.Uint64
	closed  atomic.Bool
	rates   rates
	crowd   crowd

	mu   sync.Mutex
	lost []string // guarded by mu; rows whose end was dropped

	complained time.Time // of the one writer
	cancel     context.CancelFunc
	wg         sync.WaitGroup
}

// entry is a call on its way into the file.
type entry struct {
	call api.Call
	kind string
	size int64
}

// New makes a log; Start opens it. Until then, and after Stop, it drops what
// it is told.
func New(cfg Config) *Log {
	if cfg.MaxAge == 0 {
		cfg.MaxAge = defaultAge
	}
	if cfg.MaxSize == 0 {
		cfg.MaxSize = defaultSize
	}
	l := &Log{cfg: cfg, hide: newHider(), queue: make(chan entry, queueRows), rates: newRates(), cancel: func() {}}
	l.closed.Store(true)
	return l
}

// Start opens the file and begins to write. A row that was pending when the
// node died is failed from now on: nobody will end it. A file that cannot be
// read is put aside and a new one begun.
func (l *Log) Start(ctx context.Context) (err error) {
	if l.db, err = l.open(); err != nil {
		return err
	}
	if err := errors.Join(l.interrupt(time.Now()), l.recount(time.Now())); err != nil {
		return errors.Join(fmt.Errorf("read request log %s: %w", l.cfg.Path, err), l.db.Close())
	}
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.closed.Store(false)
	l.wg.Go(func() { l.write(ctx) })
	return nil
}

func (l *Log) open() (*bbolt.DB, error) {
	if err := os.MkdirAll(filepath.Dir(l.cfg.Path), 0o700); err != nil {
		return nil, fmt.Errorf("open request log: %w", err)
	}
	db, err := l.openFile()
	if errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum) || errors.Is(err, berrors.ErrVersionMismatch) {
		aside := l.cfg.Path + ".broken"
		l.cfg.Log.Warn("request log cannot be read, a new one begins", "error", err, "aside", aside)
		if err := os.Rename(l.cfg.Path, aside); err != nil {
			return nil, fmt.Errorf("put request log aside: %w", err)
		}
		db, err = l.openFile()
	}
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, muster.Errorf(muster.Unavailable, "request log %s is in use by another program", l.cfg.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("open request log %s: %w", l.cfg.Path, err)
	}
	return db, nil
}

// openFile leaves the free pages out of the file: each commit would write all
// of them again.
func (l *Log) openFile() (*bbolt.DB, error) {
	db, err := bbolt.Open(l.cfg.Path, 0o600, &bbolt.Options{
		Timeout: openTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, MaxSize: int(l.cfg.MaxSize / 4 * 5),
	})
	if err != nil {
		return nil, err
	}
	db.AllocSize = int(l.cfg.MaxSize / 64)
	err = db.Update(func(tx *bbolt.Tx) error {
		_, a := tx.CreateBucketIfNotExists([]byte(bucketRows))
		_, b := tx.CreateBucketIfNotExists([]byte(bucketPending))
		return errors.Join(a, b)
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// Stop writes what is in the queue and closes the file. A second Stop does
// nothing.
func (l *Log) Stop(context.Context) error {
	if l.closed.Swap(true) {
		return nil
	}
	l.cancel()
	l.wg.Wait()
	return l.db.Close()
}

// Record notes a call, at once: the work is done later, by the writer.
func (l *Log) Record(c api.Call) {
	kind := api.TypeOf(c.Method, c.Path)
	if kind == "" {
		return
	}
	if keyOf(c.ID) == nil {
		c.ID = uuid.Must(uuid.NewV7()).String()
	}
	stranger := c.Direction == "in" && c.Caller == ""
	if stranger && c.Pending {
		return
	}
	if stranger && !l.crowd.admits(time.Now()) {
		l.refused.Add(1)
		return
	}
	if l.closed.Load() || !l.enqueue(c, kind) {
		l.drop(c)
	}
}

// enqueue takes a call in if there is room. The last quarter of the room is for
// calls that are over: one that has only begun may yet be recorded whole.
func (l *Log) enqueue(c api.Call, kind string) bool {
	c.Payload, c.Response = clip(c.Payload), clip(c.Response)
	e := entry{c, kind, int64(len(c.Payload) + len(c.Response) + len(c.Err))}
	rows, bytes := int64(queueRows), l.cfg.MaxSize/queueShare
	if c.Pending {
		rows, bytes = rows/4*3, bytes/4*3
	}
	fits := l.held.Add(1) <= rows
	if fits = l.queued.Add(e.size) <= bytes && fits; !fits {
		l.release(1, e.size)
		return false
	}
	l.queue <- e // has room for all that are held
	return true
}

// release gives up the room of calls that are in the file, or will not be.
func (l *Log) release(calls int, size int64) {
	l.held.Add(-int64(calls))
	l.queued.Add(-size)
}

// drop counts a row that is not kept. Of one that has only begun nothing is
// lost yet.
func (l *Log) drop(c api.Call) {
	if c.Pending {
		return
	}
	l.dropped.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lost) < maxLost {
		l.lost = append(l.lost, c.ID)
	}
}

// Stats says how the log does.
type Stats struct {
	Written uint64 // commits of a row, since Start
	Dropped uint64 // rows that were not kept, since New
	Refused uint64 // rows of strangers beyond the few that they may leave, since New
	Queued  int    // calls that wait
	Bytes   int64  // of the file
}

// Stats returns how the log does.
func (l *Log) Stats() Stats {
	s := Stats{Written: l.written.Load(), Dropped: l.dropped.Load(), Refused: l.refused.Load(), Queued: int(l.held.Load())}
	if info, err := os.Stat(l.cfg.Path); err == nil {
		s.Bytes = info.Size()
	}
	return s
}

// SuccessRate is the percentage of successes, with two decimals, among the
// calls to a node in the last hour; nil without any.
func (l *Log) SuccessRate(nodeID string) *float64 { return l.rates.of(nodeID, time.Now()) }
