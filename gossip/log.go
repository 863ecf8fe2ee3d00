package gossip

import (
	"bytes"
	"log"
	"log/slog"
	"maps"
	"regexp"
	"sync"
	"time"
)

// libraryLog carries memberlist's log into slog: a message of one shape at
// most once a minute, since a dead peer would fill the disk.
type libraryLog struct {
	to      *slog.Logger
	numbers *regexp.Regexp // what differs between messages of one shape
	rarely  rarely
}

func newLibraryLog(to *slog.Logger) *log.Logger {
	return log.New(&libraryLog{to: to, numbers: regexp.MustCompile(`[0-9a-f]*[0-9][0-9a-f]*`)}, "", 0)
}

// Write takes one line.
func (l *libraryLog) Write(line []byte) (int, error) {
	size := len(line)
	line = bytes.TrimSpace(line)
	if rest, ok := bytes.CutPrefix(line, []byte("[ERR] ")); ok {
		if l.rarely.due(string(l.numbers.ReplaceAll(rest, []byte("N")))) {
			l.to.Warn("memberlist reports", "what", string(rest))
		}
		return size, nil
	}
	l.to.Debug("memberlist reports", "what", string(line))
	return size, nil
}

const quiet = time.Minute

// rarely lets each message through once a minute. The zero value is ready.
type rarely struct {
	mu   sync.Mutex
	last map[string]time.Time // guarded by mu
}

func (r *rarely) due(what string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.last, func(_ string, at time.Time) bool { return time.Since(at) >= quiet })
	if _, told := r.last[what]; told {
		return false
	}
	if r.last == nil {
		r.last = map[string]time.Time{}
	}
	r.last[what] = time.Now()
	return true
}
