package actions

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"muster"
)

// Journal remembers executions, also when the process dies. What it cannot write
// down is not started. Its errors are *muster.Error, or the cause of ctx.
type Journal interface {
	// Recall returns what became of an execution that was begun before, and waits
	// for one that goes on; nil if none was.
	Recall(ctx context.Context, e muster.JournalEntry) (*muster.Result, error)

	// Begin writes down that an execution starts, unless it was begun before: then
	// it returns what Recall does.
	Begin(ctx context.Context, e muster.JournalEntry) (*muster.Result, error)

	// End writes down what became of it, and returns what may be told.
	End(key string, r muster.Result) muster.Result
}

// entry is an execution as the journal has it.
func (e *Executor) entry(by muster.Rights, a *action, x muster.Execution) muster.JournalEntry {
	return muster.JournalEntry{
		Key: x.Job, Job: x.Job, Action: a.Action, Version: a.Version, Digest: a.digest, Params: e.cfg.Seal.digest(x.Params),
		Check: x.Check, Caller: by.Principal, Started: time.Now().UTC(),
	}
}

// Seal keys a digest, so that what is in it cannot be tried out by whoever sees it.
// Nil leaves it as it is.
type Seal func(digest string) string

// digest is that of parameters as JSON with sorted names, however they are
// written: SHA-256 in hex, sealed.
func (s Seal) digest(params muster.Params) string {
	sum := sha256.Sum256(canonical(bytes.TrimSpace(paramsJSON(params))))
	plain := hex.EncodeToString(sum[:])
	if s == nil {
		return plain
	}
	return s(plain)
}

// written reports whether executions of an action are written down. What only
// reads is not, and may be done again.
func (e *Executor) written(a *action) bool {
	return e.cfg.Journal != nil && a.Risk != muster.RiskRead
}

// once waits for its turn and does an execution between its two entries, unless
// it was begun before.
func (e *Executor) once(ctx context.Context, a *action, c call, x muster.JournalEntry, began time.Time) muster.Result {
	var book Journal = blank{}
	if e.written(a) {
		book = e.cfg.Journal
	}
	if known, err := book.Recall(ctx, x); known != nil || err != nil {
		return repeated(known, err, began)
	}
	leave, err := e.turn(ctx, a, c)
	if err != nil {
		return resultOf(notStarted(err), nil, began)
	}
	defer leave()
	if known, err := book.Begin(ctx, x); known != nil || err != nil {
		return repeated(known, err, began)
	}
	seen := e.watch(ctx, &c)
	r := resultOf(e.perform(ctx, a, c), c.hide, began)
	seen()
	return book.End(x.Key, r)
}

// repeated is the result of an execution that the journal did not let start.
func repeated(known *muster.Result, err error, began time.Time) muster.Result {
	if known != nil {
		return *known
	}
	if _, judged := errors.AsType[*muster.Error](err); judged {
		return resultOf(refused(err), nil, began)
	}
	return resultOf(outcome{state: muster.StateUnknown, fault: &muster.ActionError{
		Code: "no_answer", Message: "it was begun before and goes on: " + err.Error(),
	}}, nil, began)
}

// blank is a journal in which nothing is written.
type blank struct{}

// Recall knows nothing.
func (blank) Recall(context.Context, muster.JournalEntry) (*muster.Result, error) { return nil, nil }

// Begin lets everything start.
func (blank) Begin(context.Context, muster.JournalEntry) (*muster.Result, error) { return nil, nil }

// End passes on what became of it.
func (blank) End(_ string, r muster.Result) muster.Result { return r }
