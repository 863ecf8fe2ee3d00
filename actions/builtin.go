package actions

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"muster"
)

// Documents is this node's index.
type Documents interface {
	// Add puts in documents, one JSON object a line, or replaces them. Lines
	// that are refused are counted in the answer.
	Add(ctx context.Context, ndjson []byte) (muster.Indexed, error)
	// Delete returns how many there were.
	Delete(ctx context.Context, collection string, ids []string) (int, error)
	Stats(ctx context.Context) (muster.IndexStats, error)
}

// Cache is where this node keeps answers of searches.
type Cache interface {
	// FlushCache forgets all and returns how many there were.
	FlushCache() int
}

// builtin is an action that is part of the program.
type builtin func(ctx context.Context, c call) outcome

const (
	builtinOutput = 1 << 20 // bytes: the limit of the result of a builtin action
	lightAtOnce   = 64      // executions of one that costs next to nothing
)

// maxLineErrors is how many refused documents are told one by one.
const maxLineErrors = 100

// builtins are the actions of a node. Without docs those on an index are left
// out, without cache that on the cache.
func builtins(docs Documents, cache Cache) []Definition {
	all := make([]Definition, 0, 8)
	all = append(all,
		light(declare("node.ping", "Answer", muster.RiskRead, nil, ping)),
		light(declare("node.echo", "Repeat a text", muster.RiskRead, map[string]Param{
			"text": {Type: "string", Max: json.RawMessage("65536"), Required: true},
		}, echo)),
		declare("node.sleep", "Wait for a time", muster.RiskRead, map[string]Param{
			"for": {Type: "duration", Min: json.RawMessage(`"0s"`), Max: json.RawMessage(`"30m"`), Required: true},
		}, sleep),
	)
	if cache != nil {
		all = append(all, declare("cache.flush", "Forget the answers of searches", muster.RiskLow, nil,
			func(context.Context, call) outcome { return cacheFlush(cache) }))
	}
	if docs == nil {
		return all
	}
	documents := map[string]Param{"documents": {
		Type: "list", Min: json.RawMessage("1"), Max: json.RawMessage("100000"), Required: true, bytes: 32 << 20, depth: 64,
	}}
	add := func(ctx context.Context, c call) outcome { return indexAdd(ctx, docs, c) }
	return append(all,
		declare("index.add", "Put documents into the index", muster.RiskLow, documents, add),
		declare("index.update", "Replace documents in the index", muster.RiskLow, documents, add),
		declare("index.refresh", "Make sure that all written documents are found", muster.RiskLow, nil,
			func(ctx context.Context, _ call) outcome { return indexRefresh(ctx, docs) }),
		declare("index.delete", "Remove documents from the index", muster.RiskMedium, map[string]Param{
			"ids":        {Type: "list", Min: json.RawMessage("1"), Max: json.RawMessage("100000"), Required: true, bytes: 32 << 20, depth: 1},
			"collection": {Type: "string", Min: json.RawMessage("1"), Max: json.RawMessage("512")},
		}, func(ctx context.Context, c call) outcome { return indexDelete(ctx, docs, c) }),
	)
}

// declare makes the definition of a builtin action. All of them may be
// repeated.
func declare(name, title string, risk muster.Risk, params map[string]Param, do builtin) Definition {
	d := Definition{
		Action: name, Version: muster.Version, Title: title, Risk: risk, Idempotent: true, Params: params,
		Limits: Limits{Timeout: Duration(maxTimeout), Output: builtinOutput}, source: "built in", builtin: do,
	}
	told := schema(map[string]any{"action": name, "version": d.Version, "title": title, "risk": risk, "params": params})
	d.finish(canonical(told))
	return d
}

// light is a builtin action of which many may run at once.
func light(d Definition) Definition {
	d.Limits.Concurrency = new(lightAtOnce)
	return d
}

// done makes an outcome of a value or an error.
func done(v any, err error) outcome {
	if err != nil {
		return refused(err)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return failed(string(muster.Internal), "%v", err)
	}
	return outcome{state: muster.StateOK, result: raw}
}

// refused makes an outcome of an error.
func refused(err error) outcome {
	o := failed(muster.CodeOf(err), "%v", err)
	switch muster.KindOf(err) {
	case muster.Invalid, muster.Malformed:
		o.state = muster.StateInvalid
	case muster.OutcomeUnknown:
		o.state = muster.StateUnknown
	case muster.Forbidden, muster.Unauthorized:
		o.state = muster.StateDenied
	default:
	}
	return o
}

func ping(_ context.Context, c call) outcome {
	return done(map[string]any{"pong": true, "node_id": c.node, "version": muster.Version}, nil)
}

func echo(_ context.Context, c call) outcome {
	return done(map[string]json.RawMessage{"text": c.params["text"]}, nil)
}

func sleep(ctx context.Context, c call) outcome {
	text := textOf(c.params["for"])
	d, err := time.ParseDuration(text)
	if err != nil {
		return failed(string(muster.Internal), "%v", err)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return done(map[string]string{"slept": text}, nil)
	case <-ctx.Done():
		return outcome{state: muster.StateTimeout}
	}
}

func indexAdd(ctx context.Context, docs Documents, c call) outcome {
	var list []json.RawMessage
	if err := json.Unmarshal(c.params["documents"], &list); err != nil {
		return failed(string(muster.Internal), "%v", err)
	}
	var ndjson bytes.Buffer
	for _, d := range list {
		if err := json.Compact(&ndjson, d); err != nil {
			return failed(string(muster.Internal), "%v", err)
		}
		ndjson.WriteByte('\n')
	}
	added, err := docs.Add(ctx, ndjson.Bytes())
	added.Errors = added.Errors[:min(len(added.Errors), maxLineErrors)]
	o := done(added, err)
	if err == nil && added.Failed > 0 {
		o.state, o.fault = muster.StateFailed, &muster.ActionError{
			Code: "documents", Message: fmt.Sprintf("%d of %d documents were refused", added.Failed, len(list)),
		}
		if len(added.Errors) > 0 {
			first := added.Errors[0]
			o.fault.Message += fmt.Sprintf("; number %d: %s", first.Line, first.Message)
		}
	}
	return o
}

func indexDelete(ctx context.Context, docs Documents, c call) outcome {
	var ids []string
	if json.Unmarshal(c.params["ids"], &ids) != nil {
		return refused(muster.FieldError("ids", "must be a list of strings"))
	}
	collection := muster.DefaultCollection
	if raw, ok := c.params["collection"]; ok {
		collection = textOf(raw)
	}
	n, err := docs.Delete(ctx, collection, ids)
	o := done(map[string]int{"deleted": n}, err)
	if err == nil && n == 0 {
		o.state = muster.StateNoop
	}
	return o
}

// indexRefresh does nothing: what was written can be found. It proves that the
// index answers.
func indexRefresh(ctx context.Context, docs Documents) outcome {
	s, err := docs.Stats(ctx)
	o := done(map[string]uint64{"generation": s.Generation, "docs": s.Docs}, err)
	if err == nil {
		o.state = muster.StateNoop
	}
	return o
}

func cacheFlush(cache Cache) outcome {
	n := cache.FlushCache()
	o := done(map[string]int{"deleted": n}, nil)
	if n == 0 {
		o.state = muster.StateNoop
	}
	return o
}
