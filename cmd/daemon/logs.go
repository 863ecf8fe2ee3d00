package daemon

import (
	"context"
	"io"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// quiet is how long a message of the same shape from a library is held back
// after it was logged once: a permanent fault must not fill the disk.
const quiet = time.Minute

// raftLog carries raft's log into slog, limited per shape of message.
type raftLog struct {
	hclog.Logger // the null logger: everything not overridden here

	to   *slog.Logger
	mu   *sync.Mutex
	last map[string]time.Time // guarded by mu
}

func newRaftLog(to *slog.Logger) hclog.Logger {
	return &raftLog{Logger: hclog.NewNullLogger(), to: to.With("part", "raft"), mu: &sync.Mutex{}, last: map[string]time.Time{}}
}

func (l *raftLog) Log(level hclog.Level, msg string, args ...any) { l.write(level, msg, args) }
func (l *raftLog) Debug(msg string, args ...any)                  { l.write(hclog.Debug, msg, args) }
func (l *raftLog) Info(msg string, args ...any)                   { l.write(hclog.Info, msg, args) }
func (l *raftLog) Warn(msg string, args ...any)                   { l.write(hclog.Warn, msg, args) }
func (l *raftLog) Error(msg string, args ...any)                  { l.write(hclog.Error, msg, args) }
func (l *raftLog) Named(string) hclog.Logger                      { return l }
func (l *raftLog) With(...any) hclog.Logger                       { return l }

// StandardLogger serves the parts of raft that want the standard logger.
func (l *raftLog) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(io.Discard, "", 0)
}

// write lowers raft's routine to debug: what an operator needs to know of it,
// the cluster says in its own words.
func (l *raftLog) write(level hclog.Level, msg string, args []any) {
	to := slog.LevelDebug
	if level >= hclog.Error {
		to = slog.LevelWarn
	}
	ctx := context.Background()
	if !l.to.Enabled(ctx, to) {
		return
	}
	if to > slog.LevelDebug && !l.due(msg) {
		return
	}
	for i := 1; i < len(args); i += 2 {
		if f, ok := args[i].(hclog.Format); ok && len(f) > 0 {
			args[i] = strings.TrimSpace(slog.AnyValue(f[1:]).String())
		}
	}
	l.to.Log(ctx, to, "raft reports", append([]any{"what", msg}, args...)...)
}

func (l *raftLog) due(shape string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.last[shape]) < quiet {
		return false
	}
	l.last[shape] = time.Now()
	return true
}
