package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"muster"
)

// Actions lists actions, and the slugs of the nodes that were not heard.
type Actions struct {
	Actions []muster.ActionInfo `json:"actions"`
	Missing []string            `json:"missing,omitempty"`
	Cursor  string              `json:"cursor,omitempty"`
	Journal string              `json:"journal,omitempty"` // ID of the journal of a node that lists its own
}

// Ran is what became of an action on the node that was asked.
type Ran struct {
	Success    bool                `json:"success"`
	Action     string              `json:"action"`
	Node       string              `json:"node"` // slug
	State      muster.State        `json:"state"`
	Result     json.RawMessage     `json:"result,omitzero"`
	Error      *muster.ActionError `json:"error,omitempty"`
	Leaked     int                 `json:"leaked_children,omitzero"`
	DurationMs int64               `json:"duration_ms"`
}

// Run runs an action on the nodes it names. If the wait ends before that, the
// job's status is running: it goes on.
func (c *Client) Run(ctx context.Context, r muster.Run) (j muster.Job, err error) {
	return j, c.Do(ctx, http.MethodPost, "/v1/run", r, &j)
}

// Actions returns the cluster's catalog, page by page.
func (c *Client) Actions(ctx context.Context) (all Actions, err error) {
	for {
		var page Actions
		if err := c.Do(ctx, http.MethodGet, "/v1/actions?limit=1000&cursor="+url.QueryEscape(all.Cursor), nil, &page); err != nil {
			return all, err
		}
		all.Actions, all.Cursor = append(all.Actions, page.Actions...), page.Cursor
		for _, slug := range page.Missing {
			if !slices.Contains(all.Missing, slug) {
				all.Missing = append(all.Missing, slug)
			}
		}
		if page.Cursor == "" {
			return all, nil
		}
	}
}

// Action returns the versions of one action. It is NotFound when there is none.
func (c *Client) Action(ctx context.Context, name string) (a Actions, err error) {
	return a, c.Do(ctx, http.MethodGet, "/v1/actions/"+pathID(name), nil, &a)
}

// maxNames is how long a list of names in a path may be; who has a longer one asks
// for all there are. A signed call holds its path, and must not become too long.
const maxNames = 1 << 10

// OwnActions returns those actions of the node that is asked that have one of the
// names, and those by which they are undone; without names all it has. It may
// return more. Nodes ask it.
func (c *Client) OwnActions(ctx context.Context, names []string) (a Actions, err error) {
	path := PathActions
	if list := url.QueryEscape(strings.Join(names, ",")); list != "" && len(list) <= maxNames {
		path += "?names=" + list
	}
	return a, c.Do(ctx, http.MethodGet, path, nil, &a)
}

// Execute has the node that is asked run an action now. Nodes ask it.
func (c *Client) Execute(ctx context.Context, e muster.Execution) (r muster.Result, err error) {
	return r, c.Do(ctx, http.MethodPost, PathRun, e, &r)
}
