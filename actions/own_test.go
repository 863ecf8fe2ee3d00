package actions_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"muster"
	"muster/actions"
)

const ownText = `action: app.add
version: 1.0.0
title: Add
risk: low
params: {n: {type: int, required: true}, pin: {type: string, secret: true}}
result: {sum: {type: int}}
handler: {kind: go}
check: {kind: go}
limits: {timeout: 50ms}
`

func TestAProgramsOwnFunctionIsAnActionLikeAnyOther(t *testing.T) {
	var got actions.Call
	var answer any
	var err error
	d, e := actions.Own("add", []byte(ownText), func(ctx context.Context, c actions.Call) (any, error) {
		got = c
		if answer == "wait" {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if answer == "panic" {
			panic(string(c.Params["pin"]))
		}
		return answer, err
	})
	if e != nil {
		t.Fatal(e)
	}
	x, e := actions.NewExecutor(actions.ExecutorConfig{ID: "n", Own: []actions.Definition{d}})
	if e != nil {
		t.Fatal(e)
	}
	for _, c := range []struct {
		params string
		answer any
		err    error
		state  muster.State
		says   string
	}{
		{`{"n":1}`, map[string]int{"sum": 2}, nil, muster.StateOK, `{"sum":2}`},
		{`{"n":"x"}`, nil, nil, muster.StateInvalid, "n: "},
		{`{"n":1}`, map[string]int{"total": 2}, nil, muster.StateFailed, "has no field sum"},
		{`{"n":1}`, func() {}, nil, muster.StateFailed, "unsupported type"},
		{`{"n":1}`, nil, errors.New("no luck"), muster.StateFailed, "no luck"},
		{`{"n":1}`, nil, muster.FieldError("n", "is taken"), muster.StateInvalid, "is taken"},
		{`{"n":1}`, nil, muster.Errorf(muster.OutcomeUnknown, "who knows"), muster.StateUnknown, "who knows"},
		{`{"n":1,"pin":"c4n4ry-pin"}`, nil, errors.New("not with c4n4ry-pin"), muster.StateFailed, "not with [redacted]"},
		{`{"n":1}`, "wait", nil, muster.StateTimeout, "killed at its limit"},
		{`{"n":1,"pin":"c4n4ry-pin"}`, "panic", nil, muster.StateFailed, "broke down"},
	} {
		answer, err = c.answer, c.err
		r := run(t, x, "app.add", c.params)
		said := string(r.Result)
		if r.Error != nil {
			said = r.Error.Message
		}
		if r.State != c.state || !strings.Contains(said, c.says) {
			t.Errorf("%s %v %v: %s %s", c.params, c.answer, c.err, r.State, said)
		}
	}
	if got.Action != "app.add" || got.Key != "j_1.n" || string(got.Params["n"]) != "1" || got.Check {
		t.Errorf("%+v", got)
	}
	answer, err = map[string]int{"sum": 2}, nil
	r := x.Execute(t.Context(), operator(), muster.Execution{Action: "app.add", Params: muster.Params{"n": json.RawMessage("1")}, Job: "j", Check: true})
	if r.State != muster.StateOK || !got.Check {
		t.Errorf("dry run: %+v", r)
	}
	if err := x.Reload(nil); err != nil || run(t, x, "app.add", `{"n":1}`).State != muster.StateOK {
		t.Errorf("a reload took it away: %v", err)
	}
	if err := x.Reload([]actions.Definition{define(t, "app.add", "handler: {kind: http, url: http://127.0.0.1:1}\n")}); err == nil || !strings.Contains(err.Error(), "defined twice") {
		t.Errorf("a file that takes its name: %v", err)
	}
	if _, err := parse("d.yaml", ownText); err == nil || !strings.Contains(err.Error(), "d.yaml:7: handler.kind: go actions are part of a program") {
		t.Errorf("from a file: %v", err)
	}
	if _, err := actions.Own("add", []byte(ownText), nil); muster.KindOf(err) != muster.Invalid {
		t.Errorf("without a function: %v", err)
	}
}
