package actions_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"muster"
	"muster/actions"
)

// nodeEnv makes the test binary a node that runs one program, which writes its
// process ID to the file named.
const nodeEnv = "ACTIONS_TEST_NODE"

func TestMain(m *testing.M) {
	if path := os.Getenv(nodeEnv); path != "" {
		beNode(path)
		return
	}
	goleak.VerifyTestMain(m)
}

func beNode(path string) {
	d, err := parse("a.yaml", "action: a\nversion: 1.0.0\ntitle: T\nrisk: low\n"+
		"handler: {kind: exec, argv: [/bin/sh, -c, 'echo $$ >"+path+"; exec sleep 600']}\n")
	if err != nil {
		panic(err)
	}
	e, err := actions.NewExecutor(actions.ExecutorConfig{Definitions: []actions.Definition{d}})
	if err != nil {
		panic(err)
	}
	e.Execute(context.Background(), operator(), muster.Execution{Action: "a"})
}

func operator() muster.Rights {
	return muster.Rights{Principal: "operator", Scopes: []string{muster.ScopeAdmin}}
}

// meant says in a definition that root is meant where the tests run as root,
// unless it says another user.
func meant(text string) string {
	if os.Geteuid() != 0 || strings.Contains(text, "run_as") {
		return text
	}
	return strings.NewReplacer("kind: exec,", "kind: exec, run_as: root,", `"kind": "exec",`, `"kind": "exec", "run_as": "root",`,
		"kind: exec\n", "kind: exec\n  run_as: root\n").Replace(text)
}

// parse reads a definition.
func parse(name, text string) (actions.Definition, error) {
	return actions.Parse(name, []byte(meant(text)))
}

// define reads a definition whose rest is as given.
func define(t *testing.T, name, rest string) actions.Definition {
	t.Helper()
	d, err := parse(name+".yaml", "action: "+name+"\nversion: 1.0.0\ntitle: A test\nrisk: low\n"+rest)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// executor has these definitions and is stopped at the end.
func executor(t *testing.T, cfg actions.ExecutorConfig, defs ...actions.Definition) *actions.Executor {
	t.Helper()
	cfg.ID, cfg.Definitions = "n-self", defs
	e, err := actions.NewExecutor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return e
}
