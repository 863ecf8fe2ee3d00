package journal

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"muster"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
)

// What the journal keeps of steps of transactions: by transaction and step, the
// highest generation and the keys of all executions. Its own ID is under "id".
const (
	bucketSteps = "steps"
	bucketSelf  = "self"
)

// stepRecord is what is known of a step beside its executions.
type stepRecord struct {
	Generation int      `json:"generation"`
	Keys       []string `json:"keys"` // of its executions, in the order in which they began
}

// ID names this journal. One that was lost and made anew has another.
func (j *Journal) ID() string { return j.id }

// identify reads the journal's ID, or gives it one.
func (j *Journal) identify(self *bbolt.Bucket) error {
	if id := self.Get([]byte("id")); id != nil {
		j.id = string(id)
		return nil
	}
	j.id = uuid.Must(uuid.NewV7()).String()
	return self.Put([]byte("id"), []byte(j.id))
}

// Step returns the executions of a step, in the order in which they began, those
// that go on too.
func (j *Journal) Step(tx, step string) (known []muster.JournalEntry, err error) {
	err = j.using(func() error {
		return j.db.View(func(btx *bbolt.Tx) error {
			record, err := readStep(btx, tx, step)
			if err != nil {
				return err
			}
			known, err = executions(btx, record)
			return err
		})
	})
	if err != nil {
		return nil, wrap(err)
	}
	for i, e := range known {
		if !e.Ended.IsZero() {
			continue
		}
		_, have, err := j.find(e.Key)
		if err != nil {
			return nil, err
		}
		if have != nil { // it does not go on
			known[i] = *have
		}
	}
	return known, nil
}

func stepKey(tx, step string) []byte { return []byte(tx + "\x00" + step) }

func readStep(btx *bbolt.Tx, tx, step string) (r stepRecord, err error) {
	value := btx.Bucket([]byte(bucketSteps)).Get(stepKey(tx, step))
	if value == nil {
		return r, nil
	}
	if err := json.Unmarshal(value, &r); err != nil {
		return r, fmt.Errorf("step %s of %s: %w", step, tx, err)
	}
	return r, nil
}

// goOn are the keys of what goes on.
func (j *Journal) goOn() map[string]bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	keys := make(map[string]bool, len(j.running))
	for key := range j.running {
		keys[key] = true
	}
	return keys
}

// executions reads those of a step.
func executions(btx *bbolt.Tx, r stepRecord) (known []muster.JournalEntry, err error) {
	for _, key := range r.Keys {
		if btx.Bucket([]byte(bucketEntries)).Get([]byte(key)) == nil {
			continue // forgotten
		}
		e, err := get(btx, []byte(key))
		if err != nil {
			return nil, err
		}
		known = append(known, e)
	}
	return known, nil
}

// place judges the beginning of an execution of a step against what is known of
// that: what is late is refused, what there is nothing to undo of has ended with
// that. The entry is then to be written. It runs in the one writer, so nothing
// begins beside it.
func (j *Journal) place(btx *bbolt.Tx, e muster.JournalEntry, now time.Time) (muster.JournalEntry, error) {
	record, err := readStep(btx, e.Tx.Tx, e.Tx.Step)
	if err != nil {
		return e, err
	}
	if e.Tx.Generation <= record.Generation {
		return e, muster.Errorf(muster.Conflict, "step %s of %s: this is call %d, and %d was here before", e.Tx.Step, e.Tx.Tx, e.Tx.Generation, record.Generation).
			WithCode(muster.CodeSuperseded)
	}
	known, err := executions(btx, record)
	if err != nil {
		return e, err
	}
	goOn := j.goOn()
	for i, k := range known {
		if k.Ended.IsZero() && !goOn[k.Key] {
			known[i] = lost(k)
		}
	}
	switch {
	case e.Tx.Op == muster.OpUndo:
		e, err = undoing(e, known, now)
	case running(known):
		err = muster.Errorf(muster.Conflict, "an earlier call of step %s still runs", e.Tx.Step).WithCode(muster.CodeStillRunning)
	case e.Unready != nil:
		e = refuse(e, now)
	}
	if err != nil {
		return e, err
	}
	record.Generation = e.Tx.Generation
	record.Keys = append(record.Keys, e.Key)
	value, err := json.Marshal(record)
	if err != nil {
		return e, err
	}
	return e, btx.Bucket([]byte(bucketSteps)).Put(stepKey(e.Tx.Tx, e.Tx.Step), value)
}

// undoing judges an undo by the executions of its step.
func undoing(e muster.JournalEntry, known []muster.JournalEntry, now time.Time) (muster.JournalEntry, error) {
	did := doings(known)
	switch {
	case len(did) != e.Seen:
		return e, muster.Errorf(muster.Conflict, "step %s began meanwhile", e.Tx.Step).WithCode(muster.CodeStillRunning)
	case len(did) == 0 && e.Tx.Done:
		return e, muster.Errorf(muster.Conflict, "nothing is known here of step %s of %s", e.Tx.Step, e.Tx.Tx).WithCode(muster.CodeNotRemembered)
	case running(did):
		return e, muster.Errorf(muster.Conflict, "step %s still runs", e.Tx.Step).WithCode(muster.CodeStillRunning)
	case !effective(did, e.Tx.OnFailed):
		return ended(e, muster.Result{State: muster.StateNoop, Success: true, Error: &muster.ActionError{
			Code: muster.CodeNothingToUndo, Message: "it was never begun here, or failed",
		}}, now), nil
	case e.Unready == nil:
		return e, nil
	default:
		return refuse(e, now), nil
	}
}

// doings are those executions of a step that did it, or tried.
func doings(known []muster.JournalEntry) (did []muster.JournalEntry) {
	for _, e := range known {
		if e.Tx != nil && e.Tx.Op == muster.OpDo {
			did = append(did, e)
		}
	}
	return did
}

// running reports whether one of some executions has not ended.
func running(known []muster.JournalEntry) bool {
	return slices.ContainsFunc(known, func(e muster.JournalEntry) bool { return e.Ended.IsZero() })
}

// effective reports whether executions that have ended may have done something
// that is to be undone; failed ones only if that is said.
func effective(did []muster.JournalEntry, failed bool) bool {
	return slices.ContainsFunc(did, func(e muster.JournalEntry) bool {
		return !e.Result.Nothing() || failed && !e.Refused && e.Result.State == muster.StateFailed
	})
}

// refuse ends what may not start.
func refuse(e muster.JournalEntry, now time.Time) muster.JournalEntry {
	e = ended(e, refusal(e.Unready), now)
	e.Refused = true
	return e
}

// refusal is the result of what may not start.
func refusal(err error) muster.Result {
	r := muster.Result{State: muster.StateFailed, Error: &muster.ActionError{Code: muster.CodeOf(err), Message: err.Error()}}
	switch muster.KindOf(err) {
	case muster.Forbidden:
		r.State = muster.StateDenied
	case muster.Malformed, muster.Invalid:
		r.State = muster.StateInvalid
	default:
	}
	return r
}

// forgetStep forgets a step whose last execution is forgotten.
func forgetStep(btx *bbolt.Tx, e muster.JournalEntry) error {
	if e.Tx == nil {
		return nil
	}
	record, err := readStep(btx, e.Tx.Tx, e.Tx.Step)
	if err != nil {
		return err
	}
	left, err := executions(btx, record)
	if err != nil || len(left) > 0 {
		return err
	}
	return btx.Bucket([]byte(bucketSteps)).Delete(stepKey(e.Tx.Tx, e.Tx.Step))
}
