package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"muster"
	"muster/cluster/trust"
	"muster/httpserver/api"
	examples "muster/testdata/actions"
	"muster/testdata/corpora"
	"muster/testdata/ports"

	"github.com/google/uuid"
)

type demoCmd struct {
	Keep bool   `help:"Leave the cluster running and print its addresses."`
	Data string `help:"Use the first three JSONL files of this directory instead of the demo's own." placeholder:"DIR"`
}

const (
	demoReady = 30 * time.Second
	demoLook  = 20 * time.Millisecond
	demoStop  = 5 * time.Second
)

// demo is three agents of one machine in a temporary directory.
type demo struct {
	dir    string
	self   string // the program to run as agents; empty is this one
	secret trust.Secret
	procs  map[string]*exec.Cmd
	args   map[string][]string
	http   *http.Client
	more   func(name string) []string // further flags of each agent; nil: none
	urls   map[string]string
	names  []string
	io     streams
}

func newDemo(dir string, io streams, names ...string) *demo {
	return &demo{
		dir: dir, secret: trust.NewSecret(), names: names, io: io,
		procs: map[string]*exec.Cmd{}, args: map[string][]string{}, urls: map[string]string{},
	}
}

// corpus is one application's documents and what to call it.
type corpus struct {
	name string
	docs []byte
}

// corpora are the demo's own, or the caller's.
func (c *demoCmd) corpora() ([]corpus, error) {
	if c.Data == "" {
		return []corpus{{"shop", corpora.Shop}, {"wiki", corpora.Wiki}, {"helpdesk", corpora.Helpdesk}}, nil
	}
	files, err := filepath.Glob(filepath.Join(c.Data, "*.jsonl"))
	if err != nil || len(files) < 3 {
		return nil, &muster.Error{Kind: muster.Invalid, Message: "--data: " + c.Data + " has fewer than three .jsonl files"}
	}
	var own []corpus
	for _, file := range files[:3] {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		own = append(own, corpus{strings.TrimSuffix(filepath.Base(file), ".jsonl"), raw})
	}
	return own, nil
}

// Run shows the main job, step by step. It succeeds only if every step did.
func (c *demoCmd) Run(ctx context.Context, io streams) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP) // agents outlive a closed terminal, the demo's must not
	defer stop()
	docs, err := c.corpora()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "muster-demo-")
	if err != nil {
		return fmt.Errorf("make demo directory: %w", err)
	}
	d := newDemo(dir, io, docs[0].name, docs[1].name, docs[2].name)
	defer func() {
		if c.Keep && err == nil {
			d.leave()
			return
		}
		err = outcome(ctx, err, d.clean())
	}()
	return d.play(ctx, docs, c.Data == "")
}

// outcome is how the demo ended. What goes wrong when it is interrupted follows
// from that; what was left behind does not.
func outcome(ctx context.Context, played, cleaned error) error {
	switch {
	case ctx.Err() == nil:
		return errors.Join(played, cleaned)
	case cleaned != nil:
		return muster.Errorf(muster.Internal, "interrupted, and not all was cleaned up: %w", cleaned)
	default:
		return muster.Errorf(muster.Internal, "interrupted; everything was cleaned up")
	}
}

// play runs the steps.
func (d *demo) play(ctx context.Context, docs []corpus, own bool) error {
	if err := d.raise(ctx); err != nil {
		return err
	}
	master, err := d.showVoters(ctx)
	if err != nil {
		return err
	}
	if err := d.index(ctx, docs); err != nil {
		return err
	}
	asker := d.names[0]
	if asker == master {
		asker = d.names[1]
	}
	question := "waterproof rain jacket"
	if !own {
		question = firstWords(docs)
	}
	if err := d.search(ctx, asker, question, len(d.names)); err != nil {
		return err
	}
	if err := d.run(ctx, asker, len(d.names)); err != nil {
		return err
	}
	var change effect = onDisk{}
	if runtime.GOOS == "windows" { // what nodes can without programs
		change = inIndex{}
	}
	if err := d.transact(ctx, asker, change); err != nil {
		return err
	}
	if err := d.register(ctx, asker, "crm"); err != nil {
		return err
	}
	return d.failover(ctx, master, asker, question)
}

// failover kills the master and goes on with the others.
func (d *demo) failover(ctx context.Context, master, asker, question string) error {
	d.say("\nKilling the master (%s) with SIGKILL.", master)
	if err := d.kill(master); err != nil {
		return err
	}
	started := time.Now()
	if err := d.search(ctx, asker, question, len(d.names)-1); err != nil {
		return err
	}
	if err := d.register(ctx, asker, "billing"); err != nil {
		return err
	}
	took := time.Since(started)
	s, err := d.client(asker).Cluster(ctx)
	if err != nil {
		return err
	}
	if s.Master == nil || s.Master.Slug == master {
		return muster.Errorf(muster.Internal, "no new master is known")
	}
	d.say("New master: %s. The first write after the kill, sent to %s, was acknowledged within %d ms.", s.Master.Slug, asker, took.Milliseconds())
	for _, slug := range []string{"crm", "billing"} {
		if _, err := d.client(asker).Node(ctx, slug); err != nil {
			return fmt.Errorf("look for %s after the failover: %w", slug, err)
		}
	}
	d.say("Both registrations are there. Nothing was lost.")
	return d.run(ctx, asker, len(d.names)-1)
}

// index puts each application's documents into its own node.
func (d *demo) index(ctx context.Context, docs []corpus) error {
	d.say("")
	for _, c := range docs {
		got, err := d.client(c.name).AddDocuments(ctx, "", c.docs)
		if err != nil {
			return fmt.Errorf("index %s: %w", c.name, err)
		}
		if got.Failed > 0 {
			return muster.Errorf(muster.Internal, "%d documents of %s were not indexed: %s", got.Failed, c.name, got.Errors[0].Message)
		}
		d.say("Indexed %d documents on %s.", got.Indexed, c.name)
	}
	return nil
}

// search asks one node, and fails unless as many nodes answered as should.
func (d *demo) search(ctx context.Context, at, question string, nodes int) error {
	a, err := d.client(at).Search(ctx, muster.Query{
		Text: question, Limit: 6, Options: muster.QueryOptions{Cache: new(bool)}, // it shows who answers now
	})
	if err != nil {
		return fmt.Errorf("search at %s: %w", at, err)
	}
	d.say("\nSearching %q, asked at %s: %d hits from %d of %d nodes in %d ms.", question, at, a.TotalResults, a.NodesSearched, a.NodesAsked, a.TookMs)
	for _, h := range a.Results {
		also := ""
		if len(h.AlsoOn) > 0 {
			also = " (also on " + strings.Join(h.AlsoOn, ", ") + ")"
		}
		d.say("  %6.3f  %-34s %s%s", h.Score, plain(h.Title), h.SourceNode, also)
	}
	if a.NodesSearched != nodes || len(a.Results) == 0 {
		return muster.Errorf(muster.Internal, "%d nodes answered, not %d", a.NodesSearched, nodes)
	}
	return nil
}

// run has every node do something: what the demo's own definition says, or,
// where there is no such program, a builtin. It fails unless as many nodes did
// it as are alive; a dead one must be named.
func (d *demo) run(ctx context.Context, at string, alive int) error {
	order := muster.Run{
		Action: "app.greet", Params: muster.Params{"name": json.RawMessage(`"Ada"`)},
		On: muster.Selector{Nodes: &d.names}, How: muster.Strategy{OnFail: "continue"},
	}
	if runtime.GOOS == "windows" {
		order.Action, order.Params = "node.ping", nil
	}
	a, err := d.client(at).Run(ctx, order)
	if err != nil {
		return fmt.Errorf("run %s at %s: %w", order.Action, at, err)
	}
	d.say("\nRunning the action %s on all nodes, asked at %s: %d of %d did it.", a.Action, at, a.SuccessCount, len(a.Results))
	for _, slug := range slices.Sorted(maps.Keys(a.Results)) {
		r := a.Results[slug]
		d.say("  %-8s %-11s %4d ms  %s", slug, r.State, r.DurationMs, plain(said(r)))
	}
	if a.SuccessCount != alive || a.Success != (alive == len(a.Results)) {
		return muster.Errorf(muster.Internal, "%d nodes ran %s, not %d", a.SuccessCount, a.Action, alive)
	}
	return nil
}

// firstWords makes a question that the caller's own documents can answer.
func firstWords(docs []corpus) string {
	var words []string
	for _, c := range docs {
		var doc muster.Document
		first, _, _ := bytes.Cut(c.docs, []byte("\n"))
		if json.Unmarshal(first, &doc) == nil {
			if fields := strings.Fields(doc.Title + " " + doc.Content); len(fields) > 0 {
				words = append(words, fields[0])
			}
		}
	}
	return strings.Join(words, " ")
}

// leave lets the agents run on, and says how to reach them.
func (d *demo) leave() {
	d.say("\nThe cluster goes on running. Reach it with")
	for _, name := range d.names {
		if cmd, runs := d.procs[name]; runs {
			d.say("  MUSTER_ADDR=%s MUSTER_SECRET_FILE=%s muster status    (%s, process %d)", d.urls[name], filepath.Join(d.dir, "secret"), name, cmd.Process.Pid)
		}
	}
	d.say("End it with kill, and remove %s.", d.dir)
}

func (d *demo) say(format string, args ...any) { _, _ = fmt.Fprintf(d.io.out, format+"\n", args...) }

// raise starts the agents with the same flags, so that they found one cluster
// together.
func (d *demo) raise(ctx context.Context) error {
	secret := filepath.Join(d.dir, "secret")
	if err := os.WriteFile(secret, []byte(d.secret.Hex()+"\n"), 0o600); err != nil {
		return fmt.Errorf("write secret: %w", err)
	}
	var err error
	if d.http, err = dialing([]trust.Secret{d.secret}); err != nil {
		return err
	}
	defined, err := d.define()
	if err != nil {
		return err
	}
	addrs, err := ports.Free(ctx, 3*len(d.names))
	if err != nil {
		return err
	}
	var join []string
	for i := range d.names {
		join = append(join, addrs[3*i+1])
	}
	for i, name := range d.names {
		own := addrs[3*i:]
		d.args[name] = []string{
			"agent", "--name", name, "--data-dir", filepath.Join(d.dir, name), "--secret-file", secret,
			"--http", own[0], "--gossip", own[1], "--raft", own[2],
			"--expect", strconv.Itoa(len(d.names)), "--join", strings.Join(join, ","), "--actions", defined,
		}
		d.urls[name] = "http://" + own[0]
		if d.more != nil {
			d.args[name] = append(d.args[name], d.more(name)...)
		}
		if slices.Contains(d.args[name], "auto") || slices.Contains(d.args[name], "--tls-cert") {
			d.urls[name] = "https://" + own[0]
		}
		if err := d.start(name); err != nil {
			return err
		}
		d.say("Started %s at %s", name, d.urls[name])
	}
	return nil
}

// define writes the action definitions into a directory that only this user
// can write to.
func (d *demo) define() (string, error) {
	dir := filepath.Join(d.dir, "actions")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make %s: %w", dir, err)
	}
	files, err := examples.Files.ReadDir(".")
	if err != nil {
		return "", fmt.Errorf("read own definitions: %w", err)
	}
	for _, f := range files {
		raw, err := examples.Files.ReadFile(f.Name())
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, f.Name()), meant(raw), 0o600)
		}
		if err != nil {
			return "", fmt.Errorf("write definition: %w", err)
		}
	}
	return dir, nil
}

// start runs one agent with the flags it has.
func (d *demo) start(name string) error {
	self, err := d.self, error(nil)
	if self == "" {
		self, err = os.Executable()
	}
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(d.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(self, d.args[name]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(demoEnv(os.Environ()), "MUSTER_CHILD=1")
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	d.procs[name] = cmd
	return nil
}

// demoEnv is the environment without the caller's own settings of agents, but
// for how much they log.
func demoEnv(environ []string) []string {
	return slices.DeleteFunc(environ, func(pair string) bool {
		return strings.HasPrefix(pair, "MUSTER_") && !strings.HasPrefix(pair, "MUSTER_LOG_LEVEL=")
	})
}

// kill ends one agent with SIGKILL and waits until it is gone.
func (d *demo) kill(name string) error {
	if err := d.procs[name].Process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	_ = d.procs[name].Wait()
	delete(d.procs, name)
	return nil
}

// showVoters waits until all three vote and prints them.
func (d *demo) showVoters(ctx context.Context) (master string, err error) {
	started := time.Now()
	limit, cancel := context.WithTimeout(ctx, demoReady)
	defer cancel()
	for {
		s, whole := d.whole(limit)
		if whole {
			d.say("\nOne cluster of %d voters after %d ms; it can lose %d.", len(s.Peers), time.Since(started).Milliseconds(), s.CanLose)
			for _, p := range s.Peers {
				mark := ""
				if p.ID == s.Master.ID {
					mark = "  <- master"
				}
				d.say("  %-8s %s%s", p.Slug, p.Role, mark)
			}
			return s.Master.Slug, nil
		}
		if !look(limit) && ctx.Err() != nil {
			return "", ctx.Err()
		}
		if limit.Err() != nil {
			return "", muster.Errorf(muster.Timeout, "the agents did not become one cluster within %v", demoReady)
		}
	}
}

// whole reports whether every agent sees all of them registered and voting
// under one master.
func (d *demo) whole(ctx context.Context) (first muster.ClusterStatus, whole bool) {
	for i, name := range d.names {
		s, err := d.client(name).Cluster(ctx)
		if err != nil || s.Master == nil || s.Master.Slug == "" || len(s.Peers) != len(d.names) || s.CanLose != (len(d.names)-1)/2 {
			return s, false
		}
		if slices.ContainsFunc(s.Peers, func(p muster.PeerStatus) bool { return p.Slug == "" || p.Role != muster.RoleVoter }) {
			return s, false
		}
		if i == 0 {
			first = s
		}
		if s.Master.ID != first.Master.ID {
			return s, false
		}
	}
	return first, true
}

func (d *demo) register(ctx context.Context, at, name string) error {
	g := muster.Registration{Name: name, URL: "http://127.0.0.1:9/" + name, Capabilities: []muster.Capability{"web"}} // nothing listens there
	r, err := d.client(at).Register(ctx, g, uuid.NewString())
	if err != nil {
		return fmt.Errorf("register %s at %s: %w", name, at, err)
	}
	d.say("\nRegistered the application %s at %s.", r.Node.Slug, at)
	return nil
}

func (d *demo) client(name string) *api.Client {
	return &api.Client{
		Addrs: []string{d.urls[name]}, HTTP: d.http,
		Sign: func(r api.Request, audience string) (string, error) {
			return d.secret.SignOperator(trust.Call{Method: r.Method, Path: r.Path, Key: r.Key(), Body: r.Body, Audience: audience})
		},
	}
}

// clean ends every agent and removes the directory, on every way out.
func (d *demo) clean() error {
	for _, cmd := range d.procs {
		_ = cmd.Process.Signal(os.Interrupt)
	}
	for _, cmd := range d.procs {
		late := time.AfterFunc(demoStop, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		late.Stop()
	}
	return os.RemoveAll(d.dir)
}

// look waits a moment for the next look, and reports whether ctx still goes on.
func look(ctx context.Context) bool {
	t := time.NewTimer(demoLook)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
