package daemon_test

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"muster"
	"muster/cluster/trust"
	"muster/cmd/daemon"
	"muster/httpserver/api"
)

// with is a client that calls with a key.
func (o *one) with(k api.NewKey) *api.Client {
	return &api.Client{Addrs: []string{o.base}, HTTP: o.op.HTTP, Key: *k.Plain}
}

// make makes a key.
func (o *one) make(t *testing.T, spec muster.KeySpec) api.NewKey {
	t.Helper()
	k, err := o.op.CreateKey(t.Context(), spec)
	if err != nil || k.Plain == nil {
		t.Fatal(k, err)
	}
	return k
}

// prodAndTest is two nodes of one cluster, in prod and in test.
func prodAndTest(t *testing.T) (a, b *one) {
	t.Helper()
	dir := t.TempDir()
	a = raiseWith(t, dir, "a", func(c *daemon.Config) { c.Meta = []string{"env=prod"} })
	b = raiseWith(t, dir, "b", func(c *daemon.Config) { c.Meta, c.Join = []string{"env=test"}, []string{a.gossip} })
	for _, err := a.op.Node(t.Context(), "b"); err != nil; _, err = a.op.Node(t.Context(), "b") {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(err)
		}
	}
	return a, b
}

func TestAKeyReachesItsTargetsOnlyAndFindsWhatItsFilterLetsThrough(t *testing.T) {
	a, b := prodAndTest(t)
	for _, o := range []*one{a, b} {
		docs := `{"id":"1","content":"sloe","metadata":{"tenant":"x"}}` + "\n" + `{"id":"2","content":"sloe gin","metadata":{"tenant":["y","z"]}}` + "\n" +
			`{"id":"3","content":"sloe jam","collection":"c"}`
		if _, err := o.op.AddDocuments(t.Context(), "", []byte(docs)); err != nil {
			t.Fatal(err)
		}
	}
	everywhere := muster.Query{Text: "sloe", Options: muster.QueryOptions{Dedupe: new(false)}}
	found := func(spec muster.KeySpec) (ids []string) {
		t.Helper()
		spec.Name, spec.Scopes = "k", []string{"search"}
		answer, err := a.with(a.make(t, spec)).Search(t.Context(), everywhere)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range answer.Results {
			ids = append(ids, h.SourceNode+h.ID)
		}
		slices.Sort(ids)
		return ids
	}
	is := func(field, value string) muster.Metadata { return muster.Metadata{field: json.RawMessage(value)} }
	for _, c := range []struct {
		spec muster.KeySpec
		want string
	}{
		{muster.KeySpec{}, "a1 a2 a3 b1 b2 b3"},
		{muster.KeySpec{Targets: "env=test"}, "b1 b2 b3"},
		{muster.KeySpec{Targets: "env=none"}, ""},
		{muster.KeySpec{Filter: is("tenant", `"x"`)}, "a1 b1"},
		{muster.KeySpec{Filter: is("tenant", `["x","z"]`)}, "a1 a2 b1 b2"},
		{muster.KeySpec{Filter: is("tenant", `"w"`)}, ""},
		{muster.KeySpec{Filter: is("collection", `"c"`)}, "a3 b3"},
		{muster.KeySpec{Filter: is("tenant", `"y"`), Targets: "env=prod"}, "a2"},
	} {
		if got := strings.Join(found(c.spec), " "); got != c.want {
			t.Errorf("%s %s: %s", c.spec.Targets, c.spec.Filter, got)
		}
	}
	only := a.with(a.make(t, muster.KeySpec{Name: "k", Scopes: []string{"search", "run:*"}, Targets: "env=test"}))
	named := everywhere
	named.Options.Nodes = &[]string{"a"}
	if _, err := only.Search(t.Context(), named); muster.CodeOf(err) != "out_of_reach" {
		t.Errorf("a node out of reach: %v", err)
	}
	run, err := only.Run(t.Context(), muster.Run{Action: "node.ping", On: muster.Selector{All: true}})
	if err != nil || len(run.Results) != 1 || !run.Results["b"].Success {
		t.Errorf("a run on all: %+v %v", run, err)
	}
	if _, err := only.Run(t.Context(), muster.Run{Action: "node.ping", On: muster.Selector{Nodes: &[]string{"b", "a"}}}); muster.CodeOf(err) != "out_of_reach" {
		t.Errorf("a run on a node out of reach: %v", err)
	}
}

func TestAJobBeyondAKeysTargetsIsNeitherToldNorEnded(t *testing.T) {
	a, _ := prodAndTest(t)
	on := func(slugs ...string) muster.Run {
		return muster.Run{Action: "node.sleep", Params: muster.Params{"for": json.RawMessage(`"10m"`)}, On: muster.Selector{Nodes: &slugs}}
	}
	confined := a.with(a.make(t, muster.KeySpec{Name: "k", Scopes: []string{"run:*"}, Targets: "env=test"}))
	far, err := a.op.Begin(t.Context(), on("a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := confined.Begin(t.Context(), on("b"))
	if err != nil {
		t.Fatal(err)
	}
	for what, do := range map[string]func() error{
		"show":   func() error { _, err := confined.Job(t.Context(), far.Job); return err },
		"cancel": func() error { _, err := confined.CancelJob(t.Context(), far.Job); return err },
		"output": func() error { _, err := confined.JobOutput(t.Context(), far.Job, "a"); return err },
		"watch": func() error {
			_, err := confined.Watch(t.Context(), far.Job, 5*time.Second, func(muster.JobEvent) error { return nil })
			return err
		},
	} {
		if err := do(); muster.CodeOf(err) != "out_of_reach" {
			t.Errorf("%s: %v", what, err)
		}
	}
	all, err := confined.Jobs(t.Context(), api.JobFilter{Everyone: true})
	if err != nil || len(all.Jobs) != 1 || all.Jobs[0].Job != own.Job {
		t.Errorf("%+v %v", all, err)
	}
	for client, job := range map[*api.Client]string{confined: own.Job, a.op: far.Job} {
		if _, err := client.CancelJob(t.Context(), job); err != nil {
			t.Error(err)
		}
	}
}

func TestTheNodeThatDoesTheWorkHoldsACallerToItsTargetsAndFilter(t *testing.T) {
	a, b := prodAndTest(t)
	doc := `{"id":"1","content":"sloe","metadata":{"tenant":"x"}}`
	if _, err := a.op.AddDocuments(t.Context(), "a", []byte(doc)); err != nil {
		t.Fatal(err)
	}
	sent := func(path, body string, rights muster.Rights) (int, string) {
		t.Helper()
		c := call{"POST", path, body}
		signed := a.call(c)
		signed.Rights = rights
		token, err := b.id.Sign(signed)
		if err != nil {
			t.Fatal(err)
		}
		return a.ask(t, c, token)
	}
	far := muster.Rights{Principal: "key:1", Scopes: []string{"search", "run:*"}, Targets: "env=test"}
	for path, body := range map[string]string{
		api.PathPin: `{"query":"sloe","operator":"or"}`, api.PathShard: `{}`, api.PathRun: `{"action":"node.ping","job":"j_1"}`, api.PathCancel: `{"action":"node.ping","job":"j_1"}`,
	} {
		if code, body := sent(path, body, far); code != 403 || !strings.Contains(body, "out_of_reach") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	for tenant, want := range map[string]string{`"x"`: `"matched":1`, `"y"`: `"matched":0`} {
		by := muster.Rights{Principal: "key:1", Scopes: []string{"search"}, Filter: muster.Metadata{"tenant": json.RawMessage(tenant)}}
		code, raw := sent(api.PathPin, `{"query":"sloe","operator":"or"}`, by)
		var stats muster.ShardStats
		if err := json.Unmarshal([]byte(raw), &stats); code != http.StatusOK || err != nil {
			t.Fatal(code, raw, err)
		}
		search, err := json.Marshal(muster.ShardSearch{
			Query: muster.ShardQuery{Text: "sloe", Operator: "or"}, Stats: stats, Generation: stats.Generation, IndexID: stats.IndexID, Size: 10,
		})
		if err != nil {
			t.Fatal(err)
		}
		if code, raw := sent(api.PathShard, string(search), by); code != http.StatusOK || !strings.Contains(raw, want) {
			t.Errorf("tenant %s: %d %s", tenant, code, raw)
		}
	}
}

func TestARotatedKeyWorksWithBothSecretsForTheOverlapAndARevokedOneWithNone(t *testing.T) {
	a, b := prodAndTest(t)
	first := a.make(t, muster.KeySpec{Name: "k", Scopes: []string{"read"}})
	good := func(k api.NewKey) string {
		var said []string
		for _, o := range []*one{a, b} {
			if _, err := o.with(k).Nodes(t.Context()); err == nil {
				said = append(said, "yes")
			} else {
				said = append(said, string(muster.KindOf(err)))
			}
		}
		return strings.Join(said, " ")
	}
	second, err := a.op.RotateKey(t.Context(), first.ID, muster.Rotation{Overlap: "1h"})
	if err != nil || second.ID != first.ID || second.Plain == nil || *second.Plain == *first.Plain {
		t.Fatal(second, err)
	}
	if good(first) != "yes yes" || good(second) != "yes yes" {
		t.Errorf("with overlap: %s, %s", good(first), good(second))
	}
	third, err := b.op.RotateKey(t.Context(), first.ID, muster.Rotation{})
	if err != nil {
		t.Fatal(err)
	}
	index := a.caughtUp(t, b)
	if good(first) != "yes yes" || good(second) != "unauthorized unauthorized" || good(third) != "yes yes" {
		t.Errorf("without overlap, at %d: %s, %s, %s", index, good(first), good(second), good(third))
	}
	if err := a.op.RevokeKey(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	b.caughtUp(t, a)
	for _, k := range []api.NewKey{first, second, third} {
		if got := good(k); got != "unauthorized unauthorized" {
			t.Errorf("revoked: %s", got)
		}
	}
}

// caughtUp waits until a node's copy has what another one has seen.
func (o *one) caughtUp(t *testing.T, other *one) uint64 {
	t.Helper()
	s, err := other.op.Cluster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for {
		mine, err := o.op.Cluster(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if mine.AppliedIndex >= s.AppliedIndex {
			return s.AppliedIndex
		}
	}
}

func TestTheKeyOfANodeIsRotatedByWhoMayRegisterButNotToGainRights(t *testing.T) {
	a := raise(t, t.TempDir(), "a")
	registrar := a.with(a.key(t, "registry", ""))
	shop, err := registrar.Register(t.Context(), muster.Registration{Name: "shop", URL: "http://127.0.0.1:9/x"}, "")
	if err != nil {
		t.Fatal(err)
	}
	k, err := registrar.RotateNodeKey(t.Context(), "shop", muster.Rotation{})
	if err != nil || k.NodeID != shop.Node.ID || k.Plain == nil {
		t.Fatal(k, err)
	}
	if _, err := a.with(k).Status(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := a.with(api.NewKey{Plain: shop.APIKey}).Status(t.Context()); muster.KindOf(err) != muster.Unauthorized {
		t.Errorf("the old secret: %v", err)
	}
	if err := a.op.RevokeKey(t.Context(), k.ID); err != nil {
		t.Fatal(err)
	}
	if again, err := registrar.RotateNodeKey(t.Context(), "shop", muster.Rotation{}); err != nil || again.ID == k.ID || again.NodeID != shop.Node.ID {
		t.Errorf("after it was revoked: %+v %v", again, err)
	}
	_, err = a.op.Register(t.Context(), muster.Registration{Name: "boss", URL: "http://127.0.0.1:9/y", Scopes: []string{"admin"}}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := registrar.RotateNodeKey(t.Context(), "boss", muster.Rotation{}); muster.CodeOf(err) != "exceeds_caller" {
		t.Errorf("a key that is more than the caller's: %v", err)
	}
}

func TestAListOfKeysTellsWhenThisNodeLastLetEachIn(t *testing.T) {
	a := raise(t, t.TempDir(), "a")
	used, idle := a.key(t, "read", ""), a.key(t, "read", "")
	before := time.Now()
	if _, err := a.with(used).Nodes(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := a.op.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all.Keys {
		if k.ID == idle.ID && k.LastUsedAt != nil || k.ID == used.ID && (k.LastUsedAt == nil || k.LastUsedAt.Before(before)) {
			t.Errorf("%+v", k)
		}
	}
}

// raiseWith is raise with other settings.
func raiseWith(t *testing.T, dir, name string, change func(*daemon.Config)) *one {
	t.Helper()
	secretFile := filepath.Join(dir, "secret")
	secrets, err := trust.EnsureSecretFile(secretFile)
	if err != nil {
		t.Fatal(err)
	}
	cfg := settings(t)
	cfg.Name, cfg.DataDir, cfg.SecretFile = name, filepath.Join(dir, name), secretFile
	change(&cfg)
	d, err := start(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	o := &one{base: d.Addr(), gossip: d.Gossip(), secret: secrets[0]}
	if o.id, err = trust.LoadOrCreateIdentity(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	o.op = operator(o.base, o.secret)
	ready(t, d)
	return o
}
