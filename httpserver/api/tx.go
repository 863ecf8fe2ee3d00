package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"muster"

	"github.com/go-json-experiment/json/jsontext"
)

// Txs lists transactions, the newest first.
type Txs struct {
	Transactions []muster.TxAnswer `json:"transactions"`
	Cursor       string            `json:"cursor,omitempty"`
}

// TxPlanned is what a transaction would do: its steps in their order, in which
// order they would be undone, and what nothing would take back.
type TxPlanned struct {
	muster.TxAnswer
	UndoOrder []string `json:"undo_order"`
	NotUndone []string `json:"not_undone"`
}

// Planned describes a transaction that has not begun.
func Planned(t muster.Tx) TxPlanned {
	for i := range t.Steps {
		t.Steps[i].Status = muster.StepPending
	}
	t.Status = muster.TxPending
	p := TxPlanned{TxAnswer: t.Answer(), UndoOrder: []string{}, NotUndone: []string{}}
	p.ID = ""
	if t.Policy != muster.PolicyBackward {
		return p
	}
	behind := false
	for _, s := range t.Steps {
		behind = behind || s.Pivot
		switch {
		case behind:
		case s.Undo.Action != "":
			p.UndoOrder = append(p.UndoOrder, s.ID)
		case s.Run.Risk != muster.RiskRead:
			p.NotUndone = append(p.NotUndone, s.ID)
		}
	}
	slices.Reverse(p.UndoOrder)
	return p
}

// Members are the names and values of a JSON object, in the order in which they
// are written.
func Members(raw []byte) (names []string, values []json.RawMessage, err error) {
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	if dec.PeekKind() != '{' {
		return nil, nil, muster.FieldError("body", "must be an object")
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, nil, muster.Errorf(muster.Malformed, "body: %w", err)
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, nil, muster.Errorf(muster.Malformed, "body: %w", err)
		}
		text := name.String()
		value, err := dec.ReadValue()
		if err != nil {
			return nil, nil, muster.Errorf(muster.Malformed, "body: %w", err)
		}
		names, values = append(names, text), append(values, json.RawMessage(slices.Clone(value)))
	}
	return names, values, nil
}

// BeginTx begins the transaction of a plan, which is JSON. The answer says how it
// is when the wait ends.
func (c *Client) BeginTx(ctx context.Context, plan json.RawMessage) (a muster.TxAnswer, err error) {
	return a, c.Do(ctx, http.MethodPost, "/v1/tx", plan, &a)
}

// PlanTx says what a plan would do.
func (c *Client) PlanTx(ctx context.Context, plan json.RawMessage) (p TxPlanned, err error) {
	return p, c.Do(ctx, http.MethodPost, "/v1/tx?plan=true", plan, &p)
}

// Tx returns a transaction, when it needs no driver any more or after wait.
func (c *Client) Tx(ctx context.Context, id string, wait time.Duration) (a muster.TxAnswer, err error) {
	ms := ""
	if wait > 0 {
		ms = strconv.FormatInt(max(1, wait.Milliseconds()), 10)
	}
	return a, c.Do(ctx, http.MethodGet, "/v1/tx/"+pathID(id)+query("wait_ms", ms), nil, &a)
}

// Txs returns the transactions of a status, or all, page by page.
func (c *Client) Txs(ctx context.Context, status string) (all Txs, err error) {
	all.Transactions = []muster.TxAnswer{}
	for {
		var page Txs
		if err := c.Do(ctx, http.MethodGet, "/v1/tx"+query("limit", "1000", "status", status, "cursor", all.Cursor), nil, &page); err != nil {
			return all, err
		}
		all.Transactions, all.Cursor = append(all.Transactions, page.Transactions...), page.Cursor
		if page.Cursor == "" {
			return all, nil
		}
	}
}

// OperateTx gives an operator's word on a transaction.
func (c *Client) OperateTx(ctx context.Context, id string, o muster.TxOrder) (a muster.TxAnswer, err error) {
	return a, c.Do(ctx, http.MethodPost, "/v1/tx/"+pathID(id)+"/"+url.PathEscape(string(o.Command)), o, &a)
}
