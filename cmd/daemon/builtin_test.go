package daemon_test

import (
	"context"
	"encoding/json"
	"strconv"
	"testing"

	"muster"
	"muster/actions"
	"muster/cmd/daemon"
)

func TestTheBuiltinActionsOnTheIndexChangeWhatIsFound(t *testing.T) {
	_, client := secure(t, t.TempDir(), "a", func(*daemon.Config) {})
	does := func(action, params string, want muster.State) json.RawMessage {
		t.Helper()
		var p muster.Params
		if err := json.Unmarshal([]byte(params), &p); err != nil {
			t.Fatal(err)
		}
		a, err := client.Run(t.Context(), muster.Run{Action: action, Params: p, On: muster.Selector{All: true}})
		if err != nil || a.Results["a"].State != want {
			t.Fatalf("%s: %+v, %v", action, a.Results["a"], err)
		}
		return a.Results["a"].Result
	}
	finds := func(words string, want int) {
		t.Helper()
		a, err := client.Search(t.Context(), muster.Query{Text: words, Limit: 10})
		if err != nil || len(a.Results) != want {
			t.Errorf("%q: %d found, want %d; %v", words, len(a.Results), want, err)
		}
	}
	does("index.add", `{"documents":[{"id":"1","title":"Walnut","content":"a table of walnut"},{"id":"2","content":"a chair of oak"}]}`, muster.StateOK)
	finds("walnut", 1)
	finds("oak", 1)
	does("index.update", `{"documents":[{"id":"1","title":"Cherry","content":"a table of cherry"}]}`, muster.StateOK)
	finds("walnut", 0)
	finds("cherry", 1)
	does("index.delete", `{"ids":["2","9"]}`, muster.StateOK)
	finds("oak", 0)
	does("index.delete", `{"ids":["2"]}`, muster.StateNoop)
	does("index.add", `{"documents":[{"id":"3","content":"good"},{"content":"without an id"}]}`, muster.StateFailed)
	finds("good", 1)
	var s muster.IndexStats
	if err := json.Unmarshal(does("index.refresh", `{}`, muster.StateNoop), &s); err != nil || s.Docs != 2 || s.Generation == 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestAProgramThatAnAgentIsPartOfHasItsOwnActions(t *testing.T) {
	d, err := actions.Own("add", []byte("action: app.add\nversion: 1.0.0\ntitle: Add\nrisk: low\nparams: {n: {type: int, required: true}}\nhandler: {kind: go}\n"),
		func(_ context.Context, c actions.Call) (any, error) {
			n, err := strconv.Atoi(string(c.Params["n"]))
			return map[string]int{"sum": n + 1}, err
		})
	if err != nil {
		t.Fatal(err)
	}
	_, client := secure(t, t.TempDir(), "a", func(c *daemon.Config) { c.Own = []actions.Definition{d} })
	a, err := client.Run(t.Context(), muster.Run{Action: "app.add", Params: muster.Params{"n": json.RawMessage("4")}, On: muster.Selector{All: true}})
	if err != nil || !a.Success || string(a.Results["a"].Result) != `{"sum":5}` {
		t.Fatalf("%+v, %v", a.Results["a"], err)
	}
	all, err := client.Action(t.Context(), "app.add")
	if err != nil || len(all.Actions) != 1 || all.Actions[0].Nodes[0] != "a" {
		t.Errorf("%+v, %v", all, err)
	}
}
