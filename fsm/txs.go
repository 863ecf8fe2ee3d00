package fsm

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"muster"
)

// TxBegin is the body of OpTxBegin: a transaction whose steps are bound to nodes.
// The master that puts it into the log says what is begun at once, if it is the one
// to drive it: that saves an entry.
type TxBegin struct {
	Tx     muster.Tx        `json:"tx"`
	Driver string           `json:"driver,omitempty"` // node ID
	Events []muster.TxEvent `json:"events,omitempty"`
}

// TxClaim is the body of OpTxClaim: a new master takes over all that is open.
// With Park it parks them instead of going on: what they did is not what the
// registry knows, which was restored from a copy.
type TxClaim struct {
	Driver string              `json:"driver"`
	Park   *muster.ActionError `json:"park,omitempty"`
}

// TxAdvance is the body of OpTxAdvance: what a driver has to say of a
// transaction, results and the next intents together.
type TxAdvance struct {
	ID     string           `json:"id"`
	Epoch  uint64           `json:"epoch"`
	Driver string           `json:"driver,omitempty"` // node ID: of one that nobody has claimed
	Events []muster.TxEvent `json:"events"`
}

// TxOperate is the body of OpTxOperate: an operator's word.
type TxOperate struct {
	ID      string           `json:"id"`
	Command muster.TxCommand `json:"command"`
	Step    string           `json:"step,omitempty"`
	Reason  string           `json:"reason,omitempty"`
}

// TxPurge is the body of OpTxPurge: forget what ended before a time.
type TxPurge struct {
	Before time.Time `json:"before"`
}

func (b TxBegin) named() []string   { return []string{b.Tx.ID} }
func (b TxClaim) named() []string   { return []string{b.Driver} }
func (b TxAdvance) named() []string { return []string{b.ID} }
func (b TxOperate) named() []string { return []string{b.ID} }
func (TxPurge) named() []string     { return nil }

// txRow is a transaction as it is stored.
type txRow struct {
	ID    string    `json:"id"`
	Order string    `json:"order"` // open ones, then those that have ended, by when
	Size  int       `json:"size"`  // bytes of one that has ended; that, and what follows, is 0 of others
	Nth   int       `json:"nth"`   // of those that have ended, the forgotten counted, too
	Sum   int64     `json:"sum"`   // bytes of it and of all that ended before it
	Tx    muster.Tx `json:"tx"`
}

const codeLocked = "locked"

const (
	orderOpen  = "0 "
	orderEnded = "1 "
)

// TxFits refuses the beginning of a transaction that is too long for the log: the
// body of its command may be muster.MaxTxEntry.
func TxFits(body []byte) error {
	if len(body) <= muster.MaxTxEntry {
		return nil
	}
	return muster.Errorf(muster.TooLarge, "the transaction is %d bytes with what is known of its actions; %d may be", len(body), muster.MaxTxEntry).
		WithHint("give its steps shorter parameters, or make two of it")
}

func (a applier) txBegin(b TxBegin) (string, error) {
	if a.tx(b.Tx.ID) != nil {
		return "", muster.Errorf(muster.Conflict, "transaction %s exists", b.Tx.ID)
	}
	t, err := BeginTx(b.Tx, a.index, a.at)
	if err != nil {
		return "", err
	}
	open := a.txs(orderOpen)
	if len(open) >= muster.MaxOpenTxs {
		return "", muster.Errorf(muster.Limited, "%d transactions are open; no more may be", len(open)).WithCode("too_many_txs").
			WithHint("muster tx list shows them; parked ones can be closed")
	}
	for _, row := range open {
		for _, lock := range row.Tx.Locks {
			if slices.Contains(t.Locks, lock) {
				return "", muster.Errorf(muster.Conflict, "the lock %s is held by transaction %s, which is %s", lock, row.ID, row.Tx.Status).WithCode(codeLocked).
					WithHint("wait for it: muster tx watch " + row.ID)
			}
		}
	}
	if len(b.Events) > 0 {
		if next, err := AdvanceTx(t, t.Epoch, b.Events, a.index, a.at); err == nil {
			t, t.Driver = next, b.Driver
		}
	}
	return t.ID, a.putTx(t)
}

func (a applier) txClaim(b TxClaim) error {
	for _, row := range a.txs(orderOpen) {
		if err := a.putTx(ClaimTx(row.Tx, b.Driver, b.Park, a.index, a.at)); err != nil {
			return err
		}
	}
	return nil
}

func (a applier) txAdvance(b TxAdvance) (string, error) {
	row := a.tx(b.ID)
	if row == nil {
		return "", noTx(b.ID)
	}
	t, err := AdvanceTx(row.Tx, b.Epoch, b.Events, a.index, a.at)
	if err != nil {
		return "", err
	}
	t.Driver = cmp.Or(t.Driver, b.Driver)
	return t.ID, a.putTx(t)
}

func (a applier) txOperate(b TxOperate) (string, error) {
	row := a.tx(b.ID)
	if row == nil {
		return "", noTx(b.ID)
	}
	t, err := OperateTx(row.Tx, b, a.by, a.index, a.at)
	if err != nil {
		return "", err
	}
	if turned(row.Tx, b) {
		return t.ID, nil
	}
	return t.ID, a.putTx(t)
}

func noTx(id string) error {
	return muster.Errorf(muster.NotFound, "no transaction %s", id).WithHint("muster tx list shows them")
}

// txPurge forgets transactions that ended before a time.
func (a applier) txPurge(b TxPurge) {
	for _, row := range a.txs(orderEnded) {
		if !row.Tx.EndedAt.Before(b.Before) {
			return
		}
		a.t.txs.drop(row.ID)
	}
}

// putTx stores a transaction. When one ends, the oldest of those that ended are
// forgotten as far as there are too many, or too much of them.
func (a applier) putTx(t muster.Tx) error {
	row := &txRow{ID: t.ID, Order: orderOpen + t.ID, Tx: t}
	if !t.Status.Ended() {
		a.t.txs.put(row)
		return nil
	}
	raw, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("measure transaction: %w", err)
	}
	row.Size, row.Nth, row.Sum = len(raw), 1, int64(len(raw))
	if order, before := a.t.txs.last(byOrder); strings.HasPrefix(order, orderEnded) {
		row.Nth, row.Sum = before.Nth+1, before.Sum+row.Sum
	}
	row.Order = fmt.Sprintf("%s%020d %020d", orderEnded, a.index, row.Nth) // one entry may end several
	a.t.txs.put(row)
	for {
		old := a.t.txs.first(byOrder, orderEnded)
		if old == nil || row.Nth-old.Nth < muster.MaxEndedTxs && row.Sum-old.Sum+int64(old.Size) <= muster.MaxEndedSize {
			return nil
		}
		a.t.txs.drop(old.ID)
	}
}

func (a applier) tx(id string) *txRow { return a.t.txs.row(id) }

// txs lists transactions, those open or those ended, in their order.
func (a applier) txs(order string) (rows []*txRow) {
	for found, row := range a.t.txs.from(byOrder, order) {
		if !strings.HasPrefix(found, order) {
			break
		}
		rows = append(rows, row)
	}
	return rows
}

// Txs returns the transactions, the newest first.
func (r *Registry) Txs() []muster.Tx {
	rows := slices.Collect(r.now().txs.all())
	txs := make([]muster.Tx, len(rows))
	for i, row := range rows {
		txs[len(rows)-1-i] = row.Tx // IDs begin with the time
	}
	return txs
}

// OpenTxs returns those that have not ended.
func (r *Registry) OpenTxs() []muster.Tx {
	rows := applier{t: r.now()}.txs(orderOpen)
	txs := make([]muster.Tx, len(rows))
	for i, row := range rows {
		txs[i] = row.Tx
	}
	return txs
}

// TxOver reports whether a transaction, of which a node did something at a time,
// is known to need nothing more: it has ended, or was forgotten since. A copy that
// knows of none begun later may only be behind.
func (r *Registry) TxOver(id string, at time.Time) bool {
	t := r.now()
	if row := t.txs.row(id); row != nil {
		return row.Tx.Status.Ended()
	}
	last, known := t.txs.rows.Max()
	return known && last.row.Tx.CreatedAt.After(at)
}

// Tx returns a transaction by its ID.
func (r *Registry) Tx(id string) (muster.Tx, bool) {
	if row := (applier{t: r.now()}).tx(id); row != nil {
		return row.Tx, true
	}
	return muster.Tx{}, false
}
