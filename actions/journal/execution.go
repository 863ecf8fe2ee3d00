package journal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"muster"
)

// Bounds of what an entry keeps.
const (
	maxResult = 4 << 10
	maxText   = 1 << 10 // of an error's message, and of the output in it
	maxEntry  = 16 << 10
)

// codeJournal is the code of an error of the journal itself.
const codeJournal = "journal"

// execution is one that goes on in this process.
type execution struct {
	entry  muster.JournalEntry
	over   chan struct{}
	result *muster.Result // set before over is closed; nil: it was never begun
}

// wait returns the result of an execution when it is over; nil if it did not
// begin after all.
func (x *execution) wait(ctx context.Context, e muster.JournalEntry) (*muster.Result, error) {
	if err := same(x.entry, e); err != nil {
		return nil, err
	}
	select {
	case <-x.over:
		return x.result, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func same(known, e muster.JournalEntry) error {
	if known.SameRequest(e) {
		return nil
	}
	return muster.Errorf(muster.Conflict, "%s was used for another request: %s at %s", e.Key, known.Action, known.Started.Format(time.RFC3339))
}

// recalled is the outcome of an execution for who asks for the same one.
func recalled(have, e muster.JournalEntry) (*muster.Result, error) {
	if err := same(have, e); err != nil {
		return nil, err
	}
	return &have.Result, nil
}

// claim takes a key for this execution; mine is false if another one has it.
func (j *Journal) claim(e muster.JournalEntry) (x *execution, mine bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if x := j.running[e.Key]; x != nil {
		return x, false
	}
	x = &execution{entry: e, over: make(chan struct{})}
	j.running[e.Key] = x
	return x, true
}

// release gives up a key and tells those who wait what became of it.
func (j *Journal) release(x *execution, r *muster.Result) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.running, x.entry.Key)
	x.result = r
	close(x.over)
}

// ended is an entry with its outcome, as much as is kept of it.
func ended(e muster.JournalEntry, r muster.Result, now time.Time) muster.JournalEntry {
	if len(r.Result) > maxResult {
		sum := sha256.Sum256(r.Result)
		r.Result, e.Cut = nil, hex.EncodeToString(sum[:])
	}
	if r.Error != nil {
		fault := *r.Error
		fault.Message, fault.Output = head(fault.Message), tail(fault.Output)
		r.Error = &fault
	}
	e.Ended, e.Result = now.UTC(), r
	return e
}

func head(text string) string { return text[:min(len(text), maxText)] }

func tail(text string) string { return text[max(0, len(text)-maxText):] }

// unwritten says that an outcome cannot be relied upon.
func unwritten(r muster.Result, err error) muster.Result {
	message := fmt.Sprintf("it ended (%s), but that could not be written down: %v", r.State, err)
	r.State, r.Success, r.Error = muster.StateUnknown, false, &muster.ActionError{Code: codeJournal, Message: message}
	return r
}

// lost is an execution whose end could not be written down.
func lost(e muster.JournalEntry) muster.JournalEntry {
	e.Ended, e.Result = e.Started, unwritten(muster.Result{State: muster.StateUnknown}, errors.New("the journal failed"))
	return e
}

// interruption is what became of an execution whose process went down.
func interruption() muster.Result {
	return muster.Result{State: muster.StateInterrupted, Error: &muster.ActionError{
		Code: "interrupted", Message: "the node went down while it ran",
	}}
}
