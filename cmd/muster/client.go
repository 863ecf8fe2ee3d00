package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"muster"
	"muster/cluster/trust"
	"muster/httpserver/api"

	"github.com/google/uuid"
)

// clientFlags are those of every command that talks to a node.
type clientFlags struct {
	Addr       []string      `help:"Base URL of a node; several are tried in turn." default:"http://127.0.0.1:7600" env:"MUSTER_ADDR"`
	Key        string        `help:"Bearer key. Without one, whoever can read the cluster secret acts as operator." env:"MUSTER_KEY"`
	SecretFile string        `help:"File with the cluster secret." env:"MUSTER_SECRET_FILE" placeholder:"FILE"`
	Output     string        `short:"o" help:"table, json, jsonl (a row a line) or yaml." default:"table" enum:"table,json,jsonl,yaml"`
	NoColor    bool          `help:"Print without colours, as is always done yet."`
	Timeout    time.Duration `help:"How long to wait for an answer." default:"30s"`
	Insecure   bool          `help:"Allow operator calls over plain HTTP to another host."`
}

func (f *clientFlags) client() (*api.Client, error) {
	secrets, err := f.secrets()
	if err != nil {
		return nil, err
	}
	c := &api.Client{Addrs: f.Addr, Key: f.Key}
	if c.HTTP, err = dialing(secrets); err != nil || f.Key != "" || secrets == nil {
		return c, err // without key and secret the node will say that a key is required
	}
	if err := f.private(); err != nil {
		return nil, err
	}
	c.Sign = func(r api.Request, audience string) (string, error) {
		return secrets[0].SignOperator(trust.Call{Method: r.Method, Path: r.Path, Key: r.Key(), Body: r.Body, Audience: audience})
	}
	return c, nil
}

// secretPath is where the secret is looked for.
func (f *clientFlags) secretPath() string {
	return cmp.Or(f.SecretFile, trust.DefaultSecretPath(os.Getenv))
}

// secrets are those that this user can read, if any. With a key they only serve
// to verify nodes, so a file that nobody asked for need not be readable.
func (f *clientFlags) secrets() ([]trust.Secret, error) {
	path := f.secretPath()
	_, err := os.Stat(path)
	if f.SecretFile == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	secrets, err := trust.LoadSecrets(path)
	if err != nil && f.SecretFile == "" && f.Key != "" {
		return nil, nil
	}
	return secrets, err
}

// dialing is how commands reach nodes: those of a cluster whose secret is at
// hand are verified by it.
func dialing(secrets []trust.Secret) (*http.Client, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	if len(secrets) > 0 {
		conf, err := trust.OperatorTLS(secrets)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = conf
	}
	return &http.Client{Transport: transport}, nil
}

// private refuses to act as operator where others could read along.
func (f *clientFlags) private() error {
	for _, addr := range f.Addr {
		u, err := url.Parse(addr)
		if err != nil || u.Host == "" {
			return &muster.Error{Kind: muster.Invalid, Message: "--addr: " + addr + " is not a URL like http://127.0.0.1:7600"}
		}
		ip := net.ParseIP(u.Hostname())
		local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
		if u.Scheme == "http" && !local && !f.Insecure {
			return &muster.Error{
				Kind: muster.Invalid, Message: "operator calls over plain HTTP to " + u.Host + " can be read on the way",
				Hint: "use --key, or --insecure if the network is private",
			}
		}
	}
	return nil
}

type statusCmd struct{}

// Run prints the cluster at a glance.
func (c *statusCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	s, err := client.Cluster(ctx)
	if err != nil {
		return err
	}
	return f.show(io, s, func(w *grid) {
		master := "none"
		if s.Master != nil {
			master = s.Master.Slug
		}
		line(w, "Cluster", s.ClusterID)
		line(w, "Master", master)
		line(w, "Term", s.Term)
		line(w, "Quorum", s.Quorum)
		line(w, "Can lose", s.CanLose)
		line(w)
		line(w, "NODE", "ROLE", "ALIVE")
		for _, p := range s.Peers {
			line(w, p.Slug, p.Role, p.Alive)
		}
	})
}

type nodeCmd struct {
	List     nodeListCmd     `cmd:"" help:"List the nodes."`
	Show     nodeShowCmd     `cmd:"" help:"Show one node."`
	Register nodeRegisterCmd `cmd:"" help:"Register an application by its URL."`
	Ping     nodePingCmd     `cmd:"" help:"Ping nodes now."`
	Check    nodeCheckCmd    `cmd:"" help:"Walk an application through the node protocol and say what to mend."`
	Update   nodeUpdateCmd   `cmd:"" help:"Change a node's record."`
	Remove   nodeRemoveCmd   `cmd:"" help:"Soft-delete a node; its name is free and its key ends."`
	Restore  nodeRestoreCmd  `cmd:"" help:"Undo the removal of a node."`
	Sync     nodeSyncCmd     `cmd:"" help:"Make the external nodes equal to a file; a dry run without --apply."`
	Cleanup  nodeCleanupCmd  `cmd:"" help:"Remove what was silent for long; a dry run without --apply."`
	Stats    nodeStatsCmd    `cmd:"" help:"Count the nodes."`
}

type nodeShowCmd struct {
	Slug string `arg:"" help:"The node's slug."`
}

// Run shows one node.
func (c *nodeShowCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	n, err := client.Node(ctx, c.Slug)
	if err != nil {
		return err
	}
	return f.show(io, n, func(w *grid) { tell(w, n) })
}

type nodeRegisterCmd struct {
	Name         string   `arg:"" help:"The node's name."`
	URL          string   `arg:"" help:"The application's base URL."`
	Slug         string   `help:"Default: made from the name."`
	Type         string   `help:"child." default:"child"`
	Capabilities []string `help:"What the application can do." default:"search,actions"`
	Meta         []string `help:"A key=value pair of metadata; repeatable." sep:"none"`
	Credential   string   `help:"What muster sends as bearer when it calls the application. Default: one is made and shown." env:"MUSTER_CREDENTIAL"`
}

// Run registers an external node and prints its key, this once.
func (c *nodeRegisterCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	g := muster.Registration{Name: c.Name, URL: c.URL, Slug: c.Slug, Type: muster.NodeType(c.Type), Credential: c.Credential, Capabilities: capabilities(c.Capabilities)}
	if g.Metadata, err = pairs(c.Meta); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	r, err := client.Register(ctx, g, uuid.NewString())
	if err != nil {
		return err
	}
	key := once(io, r.APIKey, r.Hint)
	return f.show(io, r, func(w *grid) {
		if r.Credential == nil {
			line(w, "ID", "NAME", "URL", "API KEY")
			line(w, r.Node.ID, r.Node.Name, r.Node.URL, key)
			return
		}
		line(w, "ID", "NAME", "URL", "API KEY", "CREDENTIAL")
		line(w, r.Node.ID, r.Node.Name, r.Node.URL, key, *r.Credential)
	})
}

// once is how a table shows a key that is shown once, and says so; or that it
// was, and what to do then.
func once(io streams, key *string, hint string) string {
	if key == nil {
		_, _ = fmt.Fprintln(io.err, "hint:", hint)
		return "(not shown again)"
	}
	_, _ = fmt.Fprintln(io.err, "The key is not shown again.")
	return *key
}

type clusterCmd struct {
	Remove   clusterRemoveCmd   `cmd:"" help:"Remove an agent for good; a living one stops."`
	Leave    clusterLeaveCmd    `cmd:"" help:"Have the node at --addr leave for good and stop."`
	Transfer clusterTransferCmd `cmd:"" help:"Make another voter the master."`
}

type clusterRemoveCmd struct {
	Slug string `arg:"" help:"The agent's slug."`
}

// Run removes an agent.
func (c *clusterRemoveCmd) Run(ctx context.Context, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	return client.RemovePeer(ctx, c.Slug)
}
