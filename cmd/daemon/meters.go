package daemon

import (
	"context"
	"slices"
	"time"

	"muster"
	"muster/httpserver"
	"muster/httpserver/api"
	"muster/httpserver/metrics"
)

// startMetrics has the libraries report from the first call on.
func (d *Daemon) startMetrics() error {
	d.meters = metrics.New()
	d.meters.Add(d.measureCluster)
	d.meters.Add(d.measureRequests)
	if err := d.meters.Start(); err != nil {
		return err
	}
	d.onStop("metrics", func(context.Context) error { return d.meters.Stop() })
	return nil
}

// measureCluster tells where this node stands.
func (d *Daemon) measureCluster(put metrics.Put) {
	s := d.member.Status()
	leads := 0.0
	if s.Master != nil && s.Master.ID == d.id.ID {
		leads = 1
	}
	put("muster_build_info", "1, with the program's version.", 1, "version", muster.Version)
	put("muster_cluster_master", "Whether this node is the master.", leads)
	put("muster_cluster_term", "The raft term.", float64(s.Term))
	put("muster_cluster_commit_index", "The last index that is committed.", float64(s.CommitIndex))
	put("muster_cluster_can_lose", "How many living voters may still fail.", float64(s.CanLose))
	put("muster_cluster_stale_seconds", "How long ago this node last heard from the master.", float64(s.StaleMs)/1e3)
	put("muster_registry_index", "The last index that is in this node's copy of the registry.", float64(s.AppliedIndex))
	put("muster_registry_keys", "Keys in the registry.", float64(len(d.reg.Keys())))
	nodes := map[muster.Status]float64{
		muster.StatusActive: 0, muster.StatusInactive: 0, muster.StatusMaintenance: 0, muster.StatusError: 0,
	}
	for _, n := range d.reg.Nodes() {
		if n.DeletedAt == nil {
			nodes[n.Status]++
		}
	}
	for status, n := range nodes {
		put("muster_registry_nodes", "Nodes in the registry, by status.", n, "status", string(status))
	}
	peers := map[muster.PeerState]float64{
		muster.PeerAlive: 0, muster.PeerFailed: 0, muster.PeerLeft: 0, muster.PeerRestarting: 0,
	}
	for _, p := range d.pool.Peers() {
		peers[p.State]++
	}
	for state, n := range peers {
		put("muster_gossip_peers", "Agents that gossip has seen, by state.", n, "state", string(state))
	}
	put("muster_index_generation", "The generation of this node's index.", float64(d.generation.Load()))
	put("muster_index_documents", "Documents in this node's index.", float64(d.documents.Load()))
}

// openTold bounds how many nodes are told by name.
const openTold = 100

// measureCircuits tells how the circuits of those that are still in the registry
// stand. A node that never failed has none: it is closed.
func (d *Daemon) measureCircuits(circuits httpserver.Circuits) func(metrics.Put) {
	return func(put metrics.Put) {
		known := circuits.Circuits()
		states := map[string]float64{api.CircuitClosed: 0, api.CircuitOpen: 0, api.CircuitHalfOpen: 0}
		var shut []string
		for _, n := range d.reg.Nodes() {
			if n.DeletedAt != nil || n.ID == d.id.ID {
				continue
			}
			c, failed := known[n.ID]
			if !failed {
				c.State = api.CircuitClosed
			}
			states[c.State]++
			if c.State != api.CircuitClosed {
				shut = append(shut, n.Slug)
			}
		}
		for state, n := range states {
			put("muster_circuits", "Circuit breakers of this node for others, by state.", n, "state", state)
		}
		slices.Sort(shut)
		for _, slug := range shut[:min(len(shut), openTold)] {
			put("muster_circuit_not_closed", "1 for a node whose circuit is open or half open; the first hundred by slug.", 1, "node", slug)
		}
	}
}

// measureRequests tells how the request log does.
func (d *Daemon) measureRequests(put metrics.Put) {
	s := d.requests.Stats()
	put("muster_request_log_rows_total", "Rows written to the request log; one that was pending counts twice.", float64(s.Written))
	put("muster_request_log_dropped_total", "Rows that were not kept: too many at once, or no room on the disk.", float64(s.Dropped))
	put("muster_request_log_strangers_total", "Rows of unknown callers that were not kept, beyond the few they may leave.", float64(s.Refused))
	put("muster_request_log_queue", "Calls that wait to be written.", float64(s.Queued))
	put("muster_request_log_bytes", "Size of the request log's file.", float64(s.Bytes))
}

// measureCache tells how the cache of answers does.
func measureCache(kept httpserver.AnswerCache) func(metrics.Put) {
	return func(put metrics.Put) {
		s := kept.Cached("", 0)
		put("muster_search_cache_answers", "Answers of searches that are kept.", float64(s.Total))
		put("muster_search_cache_bytes", "Memory that they hold.", float64(s.Bytes))
		put("muster_search_cache_max_bytes", "Memory that they may hold; 0 keeps none.", float64(s.MaxBytes))
		put("muster_search_cache_hits_total", "Searches answered from the cache.", float64(s.Hits))
		put("muster_search_cache_misses_total", "Searches that asked the nodes.", float64(s.Misses))
		put("muster_search_cache_shared_total", "Searches that waited for an equal one under way.", float64(s.Shared))
		put("muster_search_cache_stale_total", "Answers dropped because they expired or an index went on.", float64(s.Stale))
	}
}

// watched counts the searches that this node leads.
type watched struct {
	httpserver.Searcher
	meters *metrics.Metrics
}

// Search has the question asked, and counts the answer.
func (w watched) Search(ctx context.Context, q muster.Query) (muster.Answer, error) {
	started := time.Now()
	a, err := w.Searcher.Search(ctx, q)
	w.meters.Search(a, err, time.Since(started))
	return a, err
}
