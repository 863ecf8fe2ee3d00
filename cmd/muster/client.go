package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
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
	c := &api.Client{Addrs: f.Addr, Key: f.Key, HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	if f.Key != "" {
		return c, nil
	}
	path := f.SecretFile
	if path == "" {
		path = trust.DefaultSecretPath(os.Getenv)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return c, nil // the node will say that a key is required
		}
	}
	secrets, err := trust.LoadSecrets(path)
	if err != nil {
		return nil, err
	}
	if err := f.private(); err != nil {
		return nil, err
	}
	c.Sign = func(r api.Request, audience string) (string, error) {
		return secrets[0].SignOperator(trust.Call{Method: r.Method, Path: r.Path, Key: r.Key(), Body: r.Body, Audience: audience})
	}
	return c, nil
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
	return f.show(io, s, func(w *tabwriter.Writer) {
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
}

type nodeListCmd struct{}

// Run lists the registry.
func (c *nodeListCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	page, err := client.Nodes(ctx)
	if err != nil {
		return err
	}
	return list(f, io, page, page.Nodes, func(w *tabwriter.Writer) {
		line(w, "NODE", "TYPE", "KIND", "STATUS", "HEALTHY", "URL")
		for _, n := range page.Nodes {
			line(w, n.Slug, n.Type, n.Kind, n.Status, n.Healthy, n.URL)
		}
	})
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
	return f.show(io, n, func(w *tabwriter.Writer) {
		line(w, "ID", n.ID)
		line(w, "Name", n.Name)
		line(w, "Slug", n.Slug)
		line(w, "Type", n.Type)
		line(w, "Kind", n.Kind)
		line(w, "Status", n.Status)
		line(w, "Healthy", n.Healthy)
		line(w, "URL", n.URL)
		line(w, "Version", n.Version)
		line(w, "Capabilities", n.Capabilities)
	})
}

type nodeRegisterCmd struct {
	Name         string   `arg:"" help:"The node's name."`
	URL          string   `arg:"" help:"The application's base URL."`
	Slug         string   `help:"Default: made from the name."`
	Type         string   `help:"child." default:"child"`
	Capabilities []string `help:"What the application can do." default:"search,actions"`
	Meta         []string `help:"A key=value pair of metadata; repeatable." sep:"none"`
}

// Run registers an external node and prints its key, this once.
func (c *nodeRegisterCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	g := muster.Registration{Name: c.Name, URL: c.URL, Slug: c.Slug, Type: muster.NodeType(c.Type), Metadata: muster.Metadata{}}
	for _, word := range c.Capabilities {
		g.Capabilities = append(g.Capabilities, muster.Capability(word))
	}
	for _, pair := range c.Meta {
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			return &muster.Error{Kind: muster.Invalid, Message: "--meta: " + pair + " is not KEY=VALUE"}
		}
		if g.Metadata[k], err = json.Marshal(v); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	r, err := client.Register(ctx, g, uuid.NewString())
	if err != nil {
		return err
	}
	key := once(io, r.APIKey, r.Hint)
	return f.show(io, r, func(w *tabwriter.Writer) {
		line(w, "ID", "NAME", "URL", "API KEY")
		line(w, r.Node.ID, r.Node.Name, r.Node.URL, key)
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
	Remove clusterRemoveCmd `cmd:"" help:"Remove a dead agent for good."`
}

type clusterRemoveCmd struct {
	Slug string `arg:"" help:"The dead node's slug."`
}

// Run removes a dead agent.
func (c *clusterRemoveCmd) Run(ctx context.Context, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	return client.RemovePeer(ctx, c.Slug)
}

type secretCmd struct {
	New secretNewCmd `cmd:"" help:"Print a new cluster secret."`
}

type secretNewCmd struct{}

// Run prints a fresh secret.
func (secretNewCmd) Run(io streams) error {
	_, err := fmt.Fprintln(io.out, trust.NewSecret().Hex())
	return err
}
