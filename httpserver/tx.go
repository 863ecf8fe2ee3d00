package httpserver

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster"
	"muster/httpserver/api"
)

func (s *Server) txTable() []Route {
	order := func(command muster.TxCommand) Route {
		return Route{
			Method: "POST", Path: "/v1/tx/{id}/" + string(command), Scope: muster.ScopeTx, Write: true,
			Handle: func(ctx context.Context, r *Request) (any, error) { return s.operateTx(ctx, r, command) },
		}
	}
	return []Route{
		{Method: "GET", Path: "/v1/tx", Scope: muster.ScopeTx, Query: []string{"status", "limit", "cursor"}, Handle: s.listTxs},
		{Method: "POST", Path: "/v1/tx", Scope: muster.ScopeTx, Waits: true, Query: []string{"plan"}, Handle: s.beginTx},
		{Method: "GET", Path: "/v1/tx/{id}", Scope: muster.ScopeTx, Query: []string{"wait_ms"}, Handle: s.showTx},
		{Method: "GET", Path: "/v1/tx/{id}/events", Scope: muster.ScopeTx, Handle: s.txEvents},
		order(muster.TxCancel), order(muster.TxTryNow), order(muster.TxSkip), order(muster.TxClose),
	}
}

// askedTx is a transaction as it is sent: in steps, or in the old form, one action
// for each node.
type askedTx struct {
	Name       string          `json:"name"`
	Key        string          `json:"key"`
	Policy     string          `json:"policy"`
	DeadlineMs *int64          `json:"deadline_ms"`
	Locks      []string        `json:"locks"`
	Steps      []askedStep     `json:"steps"`
	Actions    json.RawMessage `json:"actions"`
	Wait       *bool           `json:"wait"`
	TimeoutMs  int             `json:"timeout_ms"`
}

// askedStep is a step as it is sent: on is a slug or a selector.
type askedStep struct {
	ID        string          `json:"id"`
	On        json.RawMessage `json:"on"`
	Run       string          `json:"run"`
	With      muster.Params   `json:"with"`
	Undo      *muster.TxCall  `json:"undo"`
	Needs     *[]string       `json:"needs"`
	Precheck  *muster.TxCall  `json:"precheck"`
	Pivot     bool            `json:"pivot"`
	Retriable bool            `json:"retriable"`
}

// askedAction is what the old form asks of one node.
type askedAction struct {
	Action   string        `json:"action"`
	Params   muster.Params `json:"params"`
	Rollback *struct {
		Action string        `json:"action"`
		Params muster.Params `json:"params"`
	} `json:"rollback"`
}

// decodeTx reads a transaction.
func decodeTx(r *Request) (a askedTx, plan muster.TxPlan, err error) {
	if err := api.Decode(r.Body, &a); err != nil {
		return a, plan, placed(err)
	}
	if most := int(maxRunDeadline.Milliseconds()); a.TimeoutMs < 0 || a.TimeoutMs > most {
		return a, plan, muster.FieldError("timeout_ms", "must be from 1 to "+strconv.Itoa(most))
	}
	if err := checkKey("key", a.Key); err != nil {
		return a, plan, err
	}
	if r.Key != "" && a.Key != "" && r.Key != a.Key {
		return a, plan, muster.FieldError("key", "differs from the header "+api.HeaderIdempotency)
	}
	if a.Key == "" {
		a.Key = r.Key
	}
	plan = muster.TxPlan{Name: a.Name, Key: a.Key, Policy: a.Policy, Locks: a.Locks}
	if a.DeadlineMs != nil {
		if plan.DeadlineMs = *a.DeadlineMs; plan.DeadlineMs < 1 {
			return a, plan, muster.FieldError("deadline_ms", "must be 1 or more")
		}
	}
	switch {
	case a.Actions != nil && a.Steps != nil:
		err = muster.FieldError("actions", "does not go with steps: it is the older form of them")
	case a.Actions != nil:
		plan.Steps, err = oldSteps(a.Actions)
	default:
		plan.Steps, err = steps(a.Steps)
	}
	return a, plan, err
}

func steps(asked []askedStep) (steps []muster.PlanStep, err error) {
	for i, s := range asked {
		on, err := stepOn(s.On)
		if err != nil {
			return nil, within("steps["+strconv.Itoa(i)+"].on", err)
		}
		steps = append(steps, muster.PlanStep{
			ID: s.ID, On: on, Run: s.Run, With: s.With, Undo: s.Undo, Needs: s.Needs, Precheck: s.Precheck, Pivot: s.Pivot, Retriable: s.Retriable,
		})
	}
	return steps, nil
}

// stepOn reads where a step runs.
func stepOn(on json.RawMessage) (selector muster.Selector, err error) {
	if len(on) > 0 && on[0] == '"' {
		var slug string
		err = api.Decode(on, &slug)
		return muster.Selector{Nodes: &[]string{slug}}, err
	}
	if len(on) == 0 || string(on) == "null" {
		return selector, muster.FieldError("body", "must be a slug, or a selector like {\"where\": \"role=web\"}")
	}
	return selector, api.Decode(on, &selector)
}

// placed writes the places in lists as plans' other faults do: steps[0].on.
func placed(err error) error {
	e, ok := errors.AsType[*muster.Error](err)
	if !ok || len(e.Fields) != 1 {
		return err
	}
	for field, reasons := range e.Fields {
		return muster.FieldError(inList.ReplaceAllString(field, "[$1]"), strings.Join(reasons, ", "))
	}
	return err
}

var inList = regexp.MustCompile(`\.(\d+)\b`)

// within says in which field a decoded part stands.
func within(field string, err error) error {
	e, ok := errors.AsType[*muster.Error](err)
	if !ok || e.Fields == nil {
		return err
	}
	for inner, reasons := range e.Fields {
		at := field
		if inner != "body" {
			at += "." + inner
		}
		return muster.FieldError(at, strings.Join(reasons, ", "))
	}
	return err
}

// oldSteps reads the older form, in the order in which it is written.
func oldSteps(raw json.RawMessage) (steps []muster.PlanStep, err error) {
	slugs, values, err := api.Members(raw)
	if err != nil {
		return nil, within("actions", err)
	}
	for i, slug := range slugs {
		var a askedAction
		if err := api.Decode(values[i], &a); err != nil {
			return nil, within("actions."+slug, err)
		}
		s := muster.PlanStep{ID: slug, On: muster.Selector{Nodes: &[]string{slug}}, Run: a.Action, With: a.Params}
		if a.Rollback != nil {
			s.Undo = &muster.TxCall{Run: a.Rollback.Action, With: a.Rollback.Params}
		}
		steps = append(steps, s)
	}
	return steps, nil
}

func (s *Server) noTxs() error {
	if s.cfg.Txs != nil && s.cfg.Book != nil {
		return nil
	}
	return muster.Errorf(muster.Invalid, "this node leads no transactions").WithCode("tx_not_supported")
}

// beginTx begins a transaction and waits for its end, as long as is asked for;
// with plan=true it only says what would be done.
func (s *Server) beginTx(ctx context.Context, r *Request) (any, error) {
	if err := s.noTxs(); err != nil {
		return nil, err
	}
	only := r.Query.Get("plan")
	if !slices.Contains([]string{"", "true", "false"}, only) {
		return nil, muster.FieldError("plan", "must be true or false")
	}
	a, asked, err := decodeTx(r)
	if err != nil {
		return nil, err
	}
	asked.Rehearse = only == "true"
	limit := patience(ctx, r, a.TimeoutMs)
	writing, cancel := context.WithTimeout(ctx, min(limit, writeDeadline))
	defer cancel()
	t, err := s.cfg.Txs.PlanTx(writing, r.Rights, asked)
	if err != nil {
		return nil, err
	}
	if only == "true" {
		return api.Planned(t), nil
	}
	w := r.write()
	w.Key, w.Digest = a.Key, planDigest(asked)
	t, err = s.cfg.Txs.BeginTx(writing, w, t)
	if err != nil {
		return nil, err
	}
	waiting, over := context.WithTimeout(ctx, limit)
	defer over()
	if a.Wait == nil || *a.Wait {
		t = s.awaitTx(waiting, t)
	}
	if t.Status.Driven() {
		return status{http.StatusAccepted, t.Answer()}, nil
	}
	return t.Answer(), nil
}

// planDigest is the digest of what a transaction is to do, not of how it is
// answered.
func planDigest(p muster.TxPlan) string {
	p.Key = ""
	return digest(p)
}

// awaitTx waits until a transaction needs no driver any more, or ctx ends.
func (s *Server) awaitTx(ctx context.Context, t muster.Tx) muster.Tx {
	for {
		changed := s.cfg.Book.Changed()
		if now, ok := s.cfg.Book.Tx(t.ID); ok {
			t = now
		}
		if !t.Status.Driven() {
			return t
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return t
		}
	}
}

// lookFor is how long a transaction is looked for that this node's copy has not:
// longer than a new master takes.
const lookFor = 2 * time.Second

// findTx is a transaction by its ID. One that this node's copy has not may have
// begun a moment ago by way of another node: it is NotFound only if the copy has all
// that the master has, and NoMaster if that cannot be known.
func (s *Server) findTx(ctx context.Context, id string) (muster.Tx, error) {
	if err := s.noTxs(); err != nil {
		return muster.Tx{}, err
	}
	if t, ok := s.cfg.Book.Tx(id); ok {
		return t, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	level := s.cfg.Cluster.Linearize(ctx)
	t, ok := s.cfg.Book.Tx(id)
	switch {
	case ok:
		return t, nil
	case level != nil:
		return t, muster.Errorf(muster.NoMaster, "no transaction %s is known here, and whether there is one nobody could say: %w", strconv.Quote(id), level).
			WithHint("ask again, or ask another node; `muster status` shows whether there is a master")
	default:
		return t, muster.Errorf(muster.NotFound, "no transaction %s", strconv.Quote(id)).WithHint("muster tx list shows them")
	}
}

// showTx shows a transaction; with wait_ms, when it needs no driver any more or so
// much time has passed.
func (s *Server) showTx(ctx context.Context, r *Request) (any, error) {
	t, err := s.findTx(ctx, r.Params["id"])
	if err != nil {
		return nil, err
	}
	if r.Query.Has("wait_ms") {
		ms, err := strconv.Atoi(r.Query.Get("wait_ms"))
		if err != nil || ms < 1 || ms > int(readDeadline.Milliseconds()) {
			return nil, muster.FieldError("wait_ms", "must be from 1 to "+strconv.Itoa(int(readDeadline.Milliseconds())))
		}
		ctx, cancel := context.WithTimeout(ctx, patience(ctx, r, ms))
		defer cancel()
		t = s.awaitTx(ctx, t)
	}
	return t.Answer(), nil
}

// listTxs lists transactions, the newest first.
func (s *Server) listTxs(_ context.Context, r *Request) (any, error) {
	if err := s.noTxs(); err != nil {
		return nil, err
	}
	limit, err := pageLimit(r.Query)
	if err != nil {
		return nil, err
	}
	wanted := muster.TxStatus(r.Query.Get("status"))
	if wanted != "" && !wanted.Driven() && !wanted.Ended() && wanted != muster.TxParked {
		return nil, muster.FieldError("status", "must be pending, running, compensating, succeeded, rolled_back, parked or closed")
	}
	list := api.Txs{Transactions: []muster.TxAnswer{}}
	before := r.Query.Get("cursor")
	for _, t := range s.cfg.Book.Txs() {
		if before != "" && t.ID >= before || wanted != "" && t.Status != wanted {
			continue
		}
		if len(list.Transactions) == limit {
			list.Cursor = list.Transactions[limit-1].ID
			break
		}
		list.Transactions = append(list.Transactions, t.Answer())
	}
	return list, nil
}

// operateTx hands on an operator's word, from those who may run every step, undo
// and precheck where they run.
func (s *Server) operateTx(ctx context.Context, r *Request, command muster.TxCommand) (any, error) {
	t, err := s.findTx(ctx, r.Params["id"])
	if err != nil {
		return nil, err
	}
	o := muster.TxOrder{}
	if len(r.Body) > 0 {
		if err := api.Decode(r.Body, &o); err != nil {
			return nil, err
		}
	}
	o.Command = command
	switch {
	case (command == muster.TxSkip) != (o.Step != ""):
		return nil, muster.FieldError("step", "is to be said to skip one, and else not")
	case len(o.Reason) > maxReason:
		return nil, muster.FieldError("reason", "must have at most "+strconv.Itoa(maxReason)+" bytes")
	}
	if err := s.mayLead(r.Rights, t); err != nil {
		return nil, err
	}
	t, err = s.cfg.Txs.OperateTx(ctx, r.write(), t.ID, o)
	if err != nil {
		return nil, err
	}
	return t.Answer(), nil
}

// mayLead is nil if somebody could have begun a transaction: steps go on with the
// rights of the one who did.
func (s *Server) mayLead(by muster.Rights, t muster.Tx) error {
	nodes := map[string]muster.Node{}
	for _, n := range s.cfg.Cluster.Nodes() {
		nodes[n.ID] = n
	}
	for _, step := range t.Steps {
		if !by.Reaches(nodes[step.NodeID].Metadata) {
			return muster.OutOfReach(step.Node)
		}
		for _, a := range []muster.TxAction{step.Run, step.Undo, step.Check} {
			if a.Action == "" {
				continue
			}
			if err := need(by, "run:"+a.Action); err != nil {
				return err
			}
			if by.MaxRisk != "" && a.Risk.Level() > by.MaxRisk.Level() {
				return muster.Errorf(muster.Forbidden, "step %s: %s has risk %s, the caller may go up to %s", step.ID, a.Action, a.Risk, by.MaxRisk).WithCode("risk")
			}
		}
	}
	return nil
}

// maxReason is the longest reason of an operator, in bytes.
const maxReason = 200
