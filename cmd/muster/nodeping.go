package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"muster"
	"muster/httpserver/api"
)

type nodePingCmd struct {
	Slugs []string `arg:"" optional:"" help:"The nodes' slugs." name:"slug"`
	All   bool     `help:"Ping all nodes."`
}

// Run pings nodes now. It fails if one of them did.
func (c *nodePingCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	if c.All == (len(c.Slugs) > 0) {
		return &muster.Error{Kind: muster.Invalid, Message: "say which nodes: slugs, or --all"}
	}
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	pings, err := c.ping(ctx, client)
	if err != nil {
		return err
	}
	slugs := slices.Sorted(maps.Keys(pings.Results))
	err = f.show(io, pings, func(w *grid) {
		line(w, "NODE", "PING", "STATUS", "MS", "ERROR")
		for _, slug := range slugs {
			r := pings.Results[slug]
			said := "failed"
			if r.Success {
				said = "ok"
			}
			line(w, slug, said, r.Status, r.ResponseTimeMs, r.Error)
		}
	})
	if err == nil && pings.Failed > 0 {
		err = muster.Errorf(muster.Internal, "%d of %d nodes did not answer well", pings.Failed, pings.Total).WithCode("ping_failed")
	}
	return err
}

// ping asks for all nodes at once, or for each that is named.
func (c *nodePingCmd) ping(ctx context.Context, client *api.Client) (all muster.Pings, err error) {
	if c.All {
		return client.Ping(ctx, "")
	}
	all.Results = map[string]muster.Pinged{}
	for _, slug := range c.Slugs {
		one, err := client.Ping(ctx, slug)
		if err != nil {
			return all, err
		}
		maps.Copy(all.Results, one.Results)
		all.Total, all.Healthy, all.Failed = all.Total+one.Total, all.Healthy+one.Healthy, all.Failed+one.Failed
	}
	return all, nil
}

type nodeCheckCmd struct {
	URL        string `arg:"" help:"The application's base URL."`
	Credential string `help:"What muster sends as bearer when it calls the application." env:"MUSTER_CREDENTIAL"`
	Query      string `help:"A word that the application's search finds something for." default:"the"`
}

// Run walks an application through the node protocol, from here. It needs no
// cluster.
func (c *nodeCheckCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	if !strings.HasPrefix(c.URL, "http://") && !strings.HasPrefix(c.URL, "https://") {
		return &muster.Error{Kind: muster.Invalid, Message: c.URL + " is not a URL like http://127.0.0.1:8080/shop"}
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: api.Guard{Loopback: true}.Dialer().DialContext}
	app := api.Application{URL: c.URL, Credential: c.Credential, HTTP: &http.Client{Transport: transport}}
	done := app.Check(ctx, c.Query)
	mend := 0
	for _, r := range done {
		mend += len(r.Mend)
	}
	err := list(f, io, done, done, func(w *grid) {
		for _, r := range done {
			line(w, r.Request)
			for _, text := range r.Right {
				line(w, "  ok    "+text)
			}
			for _, text := range r.Mend {
				line(w, "  mend  "+text)
			}
		}
	})
	if err == nil && mend > 0 {
		things := "1 thing"
		if mend > 1 {
			things = fmt.Sprint(mend, " things")
		}
		err = muster.Errorf(muster.Internal, "%s to mend", things).WithCode("check_failed")
	}
	return err
}
