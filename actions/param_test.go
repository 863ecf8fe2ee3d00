package actions_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"muster"
	"muster/actions"
)

// given makes parameters of a JSON object.
func given(t *testing.T, object string) muster.Params {
	t.Helper()
	var p muster.Params
	if err := json.Unmarshal([]byte(object), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

const every = `params:
  text:  {type: string, min: 2, pattern: '[a-zé\n-]*', max: 5}
  word:  {type: string}
  whole: {type: int, min: -5, max: 9007199254740993}
  part:  {type: float, min: 0.5, max: 1.5}
  flag:  {type: bool}
  pick:  {type: enum, values: [red, green]}
  wait:  {type: duration, min: 1s, max: 1m}
  list:  {type: list, max: 3}
  tree:  {type: object}
handler: {kind: exec, argv: [/bin/true, "--whole=${whole}", "--text=${text}"], stdin: params}
`

func TestEachParameterIsJudgedByItsType(t *testing.T) {
	e := executor(t, actions.ExecutorConfig{}, define(t, "all.types", every))
	for _, c := range []struct{ param, value, want string }{
		{"text", `"abc"`, ""},
		{"text", `"éé"`, ""},
		{"text", `"a"`, "must be at least 2 characters"},
		{"text", `"abcdef"`, "must be at most 5 characters"},
		{"text", `"abC"`, "must match"},
		{"text", `7`, "must be a string"},
		{"text", `null`, "must be a string"},
		{"text", `"a\nb"`, "must not have control characters"},
		{"text", `"-a"`, ""}, // behind --text= it is no option
		{"word", `"` + strings.Repeat("x", 257) + `"`, "must be at most 256 characters"},
		{"word", "\"\xff\"", "is not JSON"}, // no UTF-8
		{"word", `"` + strings.Repeat("x", 500000) + `"`, "is longer than"},
		{"whole", `9007199254740993`, ""},
		{"whole", `9007199254740994`, "must be at most 9007199254740993"},
		{"whole", `-6`, "must be at least -5"},
		{"whole", `1.0`, "must be a whole number"},
		{"whole", `1e3`, "must be a whole number"},
		{"whole", `"1"`, "must be a whole number"},
		{"whole", strings.Repeat("1", 500), "must be a whole number"},
		{"part", `0.5`, ""},
		{"part", `1.51`, "must be at most 1.5"},
		{"part", `1e999`, "must be a number"},
		{"part", `1e-99999`, "must be a number"},
		{"part", `"1"`, "must be a number"},
		{"flag", `true`, ""},
		{"flag", `"true"`, "must be true or false"},
		{"pick", `"red"`, ""},
		{"pick", `"blue"`, "must be one of red, green"},
		{"pick", `1`, "must be a string"},
		{"wait", `"30s"`, ""},
		{"wait", `"500ms"`, "must be at least 1s"},
		{"wait", `"2m"`, "must be at most 1m0s"},
		{"wait", `30`, "must be a duration"},
		{"wait", `"soon"`, "must be a duration"},
		{"list", `[1,"a",{}]`, ""},
		{"list", `[1,2,3,4]`, "must be at most 3 elements"},
		{"list", `{}`, "must be a list"},
		{"tree", `{"a":{"b":{"c":{}}}}`, ""},
		{"tree", `{"a":{"b":{"c":{"d":{}}}}}`, "nests deeper than 4"},
		{"tree", `[]`, "must be an object"},
		{"tree", `{"a":1,"a":2}`, "names a field twice"},
		{"tree", `{"a":"` + strings.Repeat("x", 70000) + `"}`, "is longer than 65536 bytes"},
		{"other", `1`, "is no parameter of all.types"},
	} {
		err := e.Admit(operator(), muster.Execution{Action: "all.types", Params: muster.Params{c.param: json.RawMessage(c.value)}})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s %s: %v", c.param, c.value, err)
			}
			continue
		}
		fault, ok := errors.AsType[*muster.Error](err)
		if !ok || fault.Kind != muster.Invalid || len(fault.Fields) != 1 || !strings.Contains(strings.Join(fault.Fields[c.param], " "), c.want) {
			t.Errorf("%s %.40s: %v, want %q", c.param, c.value, err, c.want)
		}
	}
}

func TestEveryWrongParameterIsNamedAtOnceAndNoValueRepeated(t *testing.T) {
	e := executor(t, actions.ExecutorConfig{}, define(t, "app.login", `params:
  user:  {type: string, required: true}
  token: {type: string, secret: true, max: 4}
handler: {kind: exec, argv: [/bin/true], stdin: params}
`))
	err := e.Admit(operator(), muster.Execution{Action: "app.login", Params: given(t, `{"token": "canary-1", "also": "canary-2"}`)})
	fault, ok := errors.AsType[*muster.Error](err)
	if !ok || muster.CodeOf(err) != "invalid_params" || len(fault.Fields) != 3 || strings.Contains(err.Error(), "canary") {
		t.Fatal(err)
	}
}

func TestOptionalParameterThatStandsAloneMustBeGiven(t *testing.T) {
	e := executor(t, actions.ExecutorConfig{}, define(t, "a.alone",
		"params: {x: {type: string}, y: {type: string}}\nhandler: {kind: exec, argv: [/bin/echo, '${x}', '--y=${y}']}\n"))
	err := e.Admit(operator(), muster.Execution{Action: "a.alone", Params: given(t, `{"y": "1"}`)})
	fault, ok := errors.AsType[*muster.Error](err)
	if !ok || muster.CodeOf(err) != "invalid_params" || len(fault.Fields) != 1 || !strings.HasPrefix(strings.Join(fault.Fields["x"], " "), "must be given") {
		t.Error(err)
	}
	if err := e.Admit(operator(), muster.Execution{Action: "a.alone", Params: given(t, `{"x": "1"}`)}); err != nil {
		t.Error(err)
	}
}

func TestArgumentThatLooksLikeAnOptionIsRefused(t *testing.T) {
	e := executor(t, actions.ExecutorConfig{},
		define(t, "a.bare", "params: {x: {type: string, required: true}}\nhandler: {kind: exec, argv: [/bin/echo, '${x}']}\n"),
		define(t, "a.number", "params: {x: {type: int, required: true}}\nhandler: {kind: exec, argv: [/bin/echo, '${x}']}\n"),
		define(t, "a.allowed", "params: {x: {type: string, required: true, allow_dash: true}}\nhandler: {kind: exec, argv: [/bin/echo, '${x}']}\n"),
		define(t, "a.ended", "params: {x: {type: string, required: true}}\nhandler: {kind: exec, argv: [/bin/echo, --, '${x}']}\n"),
	)
	for name, value := range map[string]string{"a.bare": `{"x": "-rf"}`, "a.number": `{"x": -1}`} {
		err := e.Admit(operator(), muster.Execution{Action: name, Params: given(t, value)})
		if muster.KindOf(err) != muster.Invalid || !strings.Contains(err.Error(), "must not begin with -") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"a.allowed", "a.ended"} {
		if err := e.Admit(operator(), muster.Execution{Action: name, Params: given(t, `{"x": "-rf"}`)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
