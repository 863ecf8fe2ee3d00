package api

import (
	"context"
	stdjson "encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"muster"
)

// Deleted is the answer to the deletion of a node.
type Deleted struct {
	Success bool        `json:"success"`
	Node    muster.Node `json:"node"`
}

// Stats counts the nodes that are not deleted. AvgResponseTime is that of the
// active ones, in milliseconds; nil while none is known.
type Stats struct {
	Total           int                       `json:"total"`
	Active          int                       `json:"active"`
	Inactive        int                       `json:"inactive"`
	Maintenance     int                       `json:"maintenance"`
	Error           int                       `json:"error"`
	Healthy         int                       `json:"healthy"`
	ByType          map[muster.NodeType]int   `json:"by_type"`
	ByCapability    map[muster.Capability]int `json:"by_capability"`
	AvgResponseTime *float64                  `json:"avg_response_time"`
}

// SyncRequest is the state that external nodes are to have: rows with the fields
// of muster.NodeChange.
type SyncRequest struct {
	Nodes []stdjson.RawMessage `json:"nodes"`
	Apply bool                 `json:"apply"`
	Prune bool                 `json:"prune"`
}

// NotSynced says why a sync was not done, and all that it would have done.
type NotSynced struct {
	Error
	muster.SyncPlan
}

// CleanupRequest asks for a clean-up.
type CleanupRequest struct {
	Days     int             `json:"days"`
	Statuses []muster.Status `json:"statuses"`
	Apply    bool            `json:"apply"`
}

// NodePatch is what of a node is to become different. The credential is no part
// of its record: nobody is shown it again.
type NodePatch struct {
	muster.NodeChange
	Credential *string `json:"credential,omitzero"`
}

// UpdateNode changes a node's record; index is the one the caller has seen, 0
// for any.
func (c *Client) UpdateNode(ctx context.Context, slug string, index uint64, change NodePatch) (n muster.Node, err error) {
	return n, c.Do(ctx, http.MethodPatch, nodePath(slug), change, &n, match(index)...)
}

// DeleteNode soft-deletes a node; index is as for UpdateNode.
func (c *Client) DeleteNode(ctx context.Context, slug string, index uint64) (muster.Node, error) {
	var done Deleted
	err := c.Do(ctx, http.MethodDelete, nodePath(slug), nil, &done, match(index)...)
	return done.Node, err
}

// RestoreNode undoes the deletion of a node, by slug or ID.
func (c *Client) RestoreNode(ctx context.Context, slug string) (n muster.Node, err error) {
	return n, c.Do(ctx, http.MethodPost, nodePath(slug)+"/restore", nil, &n)
}

// SyncNodes makes the external nodes equal to the rows, or plans to.
func (c *Client) SyncNodes(ctx context.Context, ask SyncRequest, key string) (p muster.SyncPlan, err error) {
	return p, c.Do(ctx, http.MethodPost, "/v1/nodes/sync", ask, &p, HeaderIdempotency, key)
}

// CleanupNodes removes nodes that nobody needs, or says which.
func (c *Client) CleanupNodes(ctx context.Context, ask CleanupRequest, key string) (p muster.CleanupPlan, err error) {
	return p, c.Do(ctx, http.MethodPost, "/v1/nodes/cleanup", ask, &p, HeaderIdempotency, key)
}

// Stats counts the nodes.
func (c *Client) Stats(ctx context.Context) (s Stats, err error) {
	return s, c.Do(ctx, http.MethodGet, "/v1/stats", nil, &s)
}

func nodePath(slug string) string { return "/v1/nodes/" + url.PathEscape(slug) }

func match(index uint64) []string {
	if index == 0 {
		return nil
	}
	return []string{HeaderMatch, strconv.FormatUint(index, 10)}
}

// Transfer asks for another master; To is a voter's slug, or empty for any.
type Transfer struct {
	To string `json:"to,omitempty"`
}

// Transfer makes another voter the master.
func (c *Client) Transfer(ctx context.Context, to string) error {
	return c.Do(ctx, http.MethodPost, "/v1/cluster/transfer", Transfer{To: to}, nil)
}

// Leave has the node asked leave the cluster for good and stop.
func (c *Client) Leave(ctx context.Context) error {
	return c.Do(ctx, http.MethodPost, "/v1/cluster/leave", nil, nil)
}
