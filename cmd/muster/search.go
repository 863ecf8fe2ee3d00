package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"muster"
)

type searchCmd struct {
	Query      string   `arg:"" help:"Words, +must, -mustnot, field:word. Put -- before a query that begins with a dash."`
	Nodes      []string `help:"Ask only these nodes."`
	Limit      int      `help:"How many hits to show, 1 to 100." default:"10"`
	Filter     []string `help:"Only documents with this metadata, K=V." sep:"none" placeholder:"K=V"`
	Facet      []string `help:"Count the values of this metadata."`
	Collection []string `help:"Only documents of these collections."`
	Explain    bool     `help:"Say why each hit has its place."`
	Local      bool     `help:"Ask only the node that is asked."`
	Cache      bool     `help:"Take an answer that the node has kept, if no index has changed since." default:"true" negatable:""`
}

// Run searches. Hits go to standard output, who did not answer to standard error.
func (c *searchCmd) Run(ctx context.Context, io streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	q := muster.Query{Text: c.Query, Limit: c.Limit, Options: muster.QueryOptions{
		Local: c.Local, Facets: c.Facet, Collections: c.Collection, Explain: c.Explain, Cache: &c.Cache,
	}}
	if len(c.Nodes) > 0 {
		q.Options.Nodes = &c.Nodes
	}
	for _, pair := range c.Filter {
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			return &muster.Error{Kind: muster.Invalid, Message: "--filter: " + pair + " is not K=V"}
		}
		if q.Options.Filters == nil {
			q.Options.Filters = map[string]json.RawMessage{}
		}
		if q.Options.Filters[k], err = json.Marshal(v); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	a, err := client.Search(ctx, q)
	if err != nil {
		return err
	}
	if err := list(f, io, a, a.Results, func(w *grid) {
		line(w, "SCORE", "TITLE", "NODE", "COLLECTION", "ID")
		for _, h := range a.Results {
			title := h.Title
			if title == "" {
				title = h.Content
			}
			line(w, fmt.Sprintf("%.3f", h.Score), plain(title), strings.Join(append([]string{h.SourceNode}, h.AlsoOn...), "+"), plain(h.Collection), plain(h.ID))
		}
	}); err != nil {
		return err
	}
	if f.Output == "table" {
		cached := ""
		if a.Cached {
			cached = ", cached"
		}
		_, _ = fmt.Fprintf(io.err, "%d of %d, from %d of %d nodes in %d ms%s\n", a.Count, a.TotalResults, a.NodesSearched, a.NodesAsked, a.TookMs, cached)
	}
	if !a.Partial {
		return nil
	}
	var missing []string
	for _, n := range a.Nodes {
		if n.Error != "" && n.Status != "skipped" {
			missing = append(missing, n.Node+" ("+n.Error+")")
		}
	}
	return &muster.Error{Kind: muster.Partial, Message: "partial: not from " + strings.Join(missing, ", ")}
}

const titleWidth = 48

// flat makes text of others safe for a terminal: one line, no control
// characters.
func flat(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
	return strings.Join(strings.Fields(text), " ")
}

// plain is flat text, cut to fit a column.
func plain(text string) string {
	return short(flat(text), titleWidth)
}

// short cuts a text to so many characters.
func short(text string, most int) string {
	runes := []rune(text)
	if len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}
