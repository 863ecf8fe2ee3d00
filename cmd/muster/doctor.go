package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"muster"
	"muster/cluster/trust"
	"muster/httpserver/api"
)

type doctorCmd struct {
	All bool `help:"Print what is well, too."`
}

// doctorLimit is how long one node may take to look around.
const doctorLimit = 4 * time.Second

// hereNode stands for the machine that the command runs on.
const hereNode = "(here)"

// diagnosis is all that was found, on all nodes.
type diagnosis struct {
	Findings []api.Finding `json:"findings"`
	OK       int           `json:"ok"`
	Warn     int           `json:"warn"`
	Fail     int           `json:"fail"`
	Missing  []string      `json:"missing"` // nodes whose own findings are not there
}

// Run looks here, then has every living agent look, and fails if something is
// wrong.
func (c *doctorCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	d := diagnosis{Findings: c.here(ctx, f), Missing: []string{}}
	asked := c.ask(ctx, f, &d)
	for _, one := range d.Findings {
		switch one.Status {
		case api.FindingOK:
			d.OK++
		case api.FindingWarn:
			d.Warn++
		default:
			d.Fail++
		}
	}
	err := list(f, io, d, d.Findings, func(w *grid) { d.table(w, c.All) })
	return errors.Join(err, d.verdict(asked))
}

// verdict is how the command ends: what is wrong counts more than what is
// missing, except that no node could be asked at all.
func (d *diagnosis) verdict(asked error) error {
	switch {
	case asked != nil:
		return asked
	case d.Fail > 0:
		return &muster.Error{Kind: muster.Internal, Message: fmt.Sprintf("%d things are wrong", d.Fail)}
	case len(d.Missing) > 0:
		return &muster.Error{Kind: muster.Partial, Message: "partial: no findings of " + strings.Join(d.Missing, ", ")}
	default:
		return nil
	}
}

// here looks at what this command itself needs.
func (c *doctorCmd) here(ctx context.Context, f *clientFlags) (all []api.Finding) {
	if path := f.secretPath(); f.Key == "" {
		_, err := trust.LoadSecrets(path)
		_, gone := os.Stat(path)
		switch {
		case err == nil:
			all = append(all, finding("secret", api.FindingOK, path+" is yours alone", ""))
		case errors.Is(gone, fs.ErrNotExist):
			all = append(all, finding("secret", api.FindingFail, "no secret at "+path, "give --secret-file, or a key with --key"))
		default:
			all = append(all, finding("secret", api.FindingFail, err.Error(), hintOf(err)))
		}
	}
	secrets, err := f.secrets()
	if err != nil {
		return all
	}
	dialer, err := dialing(secrets)
	if err != nil {
		return all
	}
	for _, addr := range f.Addr {
		all = append(all, address(ctx, addr, dialer)...)
	}
	return all
}

// address looks at one node from here: whether it answers, and its clock.
func address(ctx context.Context, addr string, dialer *http.Client) []api.Finding {
	ctx, cancel := context.WithTimeout(ctx, doctorLimit)
	defer cancel()
	sent := time.Now()
	h, err := (&api.Client{Addrs: []string{addr}, HTTP: dialer}).Health(ctx)
	took := time.Since(sent)
	switch {
	case err != nil:
		return []api.Finding{finding("http", api.FindingFail, err.Error(), cmp.Or(hintOf(err), "is an agent running there?"))}
	case !h.Ready:
		return []api.Finding{finding("http", api.FindingWarn, addr+" answers, but is not ready", "it goes on trying by itself: look at its log")}
	}
	found := finding("clock", api.FindingOK, addr+" has the same time", "")
	if ahead := h.Ahead(sent, took); ahead.Abs()-took/2 > 2*time.Second {
		found = finding("clock", api.FindingWarn, fmt.Sprintf("the clock of %s is %v ahead of this one", addr, ahead),
			"set the clocks by NTP; from 30 s on the calls of an operator are refused")
	}
	return []api.Finding{finding("http", api.FindingOK, addr+" answers", ""), found}
}

func finding(check, status, says, remedy string) api.Finding {
	return api.Finding{Node: hereNode, Check: check, Status: status, Finding: says, Remedy: remedy}
}

func hintOf(err error) string {
	if e, ok := errors.AsType[*muster.Error](err); ok {
		return e.Hint
	}
	return ""
}

// ask has every living agent look, each through the node that answers here. Its
// error says that not even the list of nodes could be had.
func (c *doctorCmd) ask(ctx context.Context, f *clientFlags, d *diagnosis) error {
	client, err := f.client()
	if err != nil {
		return unlessFound(d, err)
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	page, err := client.Nodes(ctx)
	if err != nil {
		return err
	}
	found := make([]api.Findings, len(page.Nodes))
	failed := make([]error, len(page.Nodes))
	var wg sync.WaitGroup
	for i, n := range page.Nodes {
		if n.Kind != muster.KindAgent || n.Status == muster.StatusInactive || n.Status == muster.StatusError {
			continue // what is dead is found by the others
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, doctorLimit)
			defer cancel()
			found[i], failed[i] = client.Doctor(ctx, n.Slug)
		})
	}
	wg.Wait()
	for i, n := range page.Nodes {
		d.Findings = append(d.Findings, found[i].Findings...)
		if err := failed[i]; err != nil {
			d.Missing = append(d.Missing, n.Slug)
			d.Findings = append(d.Findings, api.Finding{
				Node: hereNode, Check: "report", Peer: n.Slug, Status: api.FindingWarn, Finding: "did not say what it finds: " + err.Error(),
				Remedy: "look at what the others find about it; if they reach it, ask it directly: muster doctor --addr " + n.URL,
			})
		}
	}
	return refused(failed)
}

// unlessFound drops an error that is among the findings already.
func unlessFound(d *diagnosis, err error) error {
	if slices.ContainsFunc(d.Findings, func(f api.Finding) bool { return f.Status == api.FindingFail }) {
		return nil
	}
	return err
}

// refused is the error of a caller who may not ask.
func refused(failed []error) error {
	for _, err := range failed {
		if kind := muster.KindOf(err); err != nil && (kind == muster.Forbidden || kind == muster.Unauthorized) {
			return err
		}
	}
	return nil
}

// table prints what is wrong first, each with its remedy below. What is well is
// counted by node, unless all is wanted.
func (d *diagnosis) table(w *grid, all bool) {
	line(w, "STATUS", "NODE", "CHECK", "PEER", "FINDING")
	var nodes []string
	well := map[string]int{}
	for _, status := range []string{api.FindingFail, api.FindingWarn, api.FindingOK} {
		for _, f := range d.Findings {
			switch {
			case f.Status != status:
			case all || status != api.FindingOK:
				printFinding(w, f)
			default:
				if well[f.Node]++; well[f.Node] == 1 {
					nodes = append(nodes, f.Node)
				}
			}
		}
	}
	for _, node := range nodes {
		line(w, api.FindingOK, plain(node), "all other", "", fmt.Sprintf("%d things are well", well[node]))
	}
}

func printFinding(w *grid, f api.Finding) {
	line(w, f.Status, plain(f.Node), plain(f.Check), plain(f.Peer), flat(f.Finding))
	if f.Remedy != "" {
		line(w, "", "", "", "", "  do: "+flat(f.Remedy))
	}
}
