package actions_test

import (
	"testing"

	"go.uber.org/goleak"

	"muster"
	"muster/actions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func operator() muster.Rights {
	return muster.Rights{Principal: "operator", Scopes: []string{muster.ScopeAdmin}}
}

// define reads a definition whose rest is as given.
func define(t *testing.T, name, rest string) actions.Definition {
	t.Helper()
	d, err := actions.Parse(name+".yaml", []byte("action: "+name+"\nversion: 1.0.0\ntitle: A test\nrisk: low\n"+rest))
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
