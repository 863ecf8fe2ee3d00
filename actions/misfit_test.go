package actions_test

import (
	"maps"
	"testing"

	"muster"
	"muster/actions"
)

func TestParametersForAnotherNodesActionAreJudgedByItsList(t *testing.T) {
	e := executor(t, actions.ExecutorConfig{}, define(t, "app.many", `params:
  word:  {type: string, required: true, pattern: '[a-z]+'}
  count: {type: int, max: 3}
  list:  {type: list, max: 1}
handler: {kind: exec, argv: [/bin/true, "${word}"], stdin: params}
`))
	var many muster.ActionInfo
	for _, info := range e.Infos() {
		if info.Action == "app.many" {
			many = info
		}
	}
	for given1, want := range map[string]map[string]string{
		`{"word":"abc","count":3}`:   {},
		`{}`:                         {"word": "must be given"},
		`{"word":"ABC","count":"x"}`: {"word": "must match [a-z]+", "count": "must be a whole number"},
		`{"word":"${steps.one.result.w}","count":"${a}"}`:            {},
		`{"word":"a","list":[[[[[[["deeper than a list may"]]]]]]]}`: {}, // the node says so
		`{"word":"a","list":[1,2]}`:                                  {"list": "must be at most 1 elements"},
	} {
		if wrong := actions.Misfits(many, given(t, given1)); !maps.Equal(wrong, want) {
			t.Errorf("%s: %v", given1, wrong)
		}
	}
}
