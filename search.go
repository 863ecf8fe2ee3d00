package muster

import (
	"encoding/json"
	"time"
)

// DefaultCollection is where a document without a collection lives.
const DefaultCollection = "default"

// Document is one thing that can be found. Its identity is (node, Collection, ID).
type Document struct {
	ID         string    `json:"id"`
	Title      string    `json:"title,omitempty"`
	Content    string    `json:"content,omitempty"`
	URL        string    `json:"url,omitempty"`
	Collection string    `json:"collection,omitempty"`
	Language   string    `json:"language,omitempty"`
	Metadata   Metadata  `json:"metadata,omitempty"`
	Embedding  []float64 `json:"embedding,omitempty"`
}

// Query is one question to all nodes.
type Query struct {
	Text    string       `json:"query"`
	Limit   int          `json:"limit,omitzero"` // 1..100; 0 means 10
	Options QueryOptions `json:"options,omitzero"`
}

// QueryOptions narrow or shape a question. A nil pointer means the default.
type QueryOptions struct {
	Nodes         *[]string                  `json:"nodes,omitempty"` // slugs or IDs; nil: all
	Local         bool                       `json:"local,omitempty"`
	TimeoutMs     int                        `json:"timeout_ms,omitempty"`   // default 2000
	MinCoverage   float64                    `json:"min_coverage,omitempty"` // 0..1
	Require       []string                   `json:"require,omitempty"`
	Merge         string                     `json:"merge,omitempty"`    // auto
	Operator      string                     `json:"operator,omitempty"` // or | and
	Fields        []string                   `json:"fields,omitempty"`   // title, content
	Fuzzy         int                        `json:"fuzzy,omitempty"`
	Language      string                     `json:"language,omitempty"`
	Filters       map[string]json.RawMessage `json:"filters,omitempty"`
	Facets        []string                   `json:"facets,omitempty"`
	Highlight     bool                       `json:"highlight,omitempty"`
	Collections   []string                   `json:"collections,omitempty"`
	Dedupe        *bool                      `json:"dedupe,omitempty"` // default true
	Cache         *bool                      `json:"cache,omitempty"`  // default true
	Cursor        string                     `json:"cursor,omitempty"`
	ContentLength *int                       `json:"content_length,omitempty"` // characters; 0 none, -1 all, default 500
	Vector        []float64                  `json:"vector,omitempty"`
	Explain       bool                       `json:"explain,omitempty"`
	Stream        bool                       `json:"stream,omitempty"`
}

// Hit is one document found.
type Hit struct {
	ID             string   `json:"id"`
	Score          float64  `json:"score"`
	Title          string   `json:"title"`
	Content        string   `json:"content"`
	Truncated      bool     `json:"truncated,omitzero"` // Content was cut
	URL            string   `json:"url"`
	Collection     string   `json:"collection"`
	Metadata       Metadata `json:"metadata"`
	SourceNode     string   `json:"source_node"`      // slug
	SourceNodeName string   `json:"source_node_name"` // name
	AlsoOn         []string `json:"also_on"`          // slugs of nodes with a duplicate
}

// NodeReport says how one node took part in an answer.
type NodeReport struct {
	Node       string `json:"node"`   // slug
	Status     string `json:"status"` // ok, empty, partial, timed_out, skipped, failed, circuit_open
	TookMs     int64  `json:"took_ms"`
	Matched    int    `json:"matched"`
	Docs       uint64 `json:"docs"`
	Generation uint64 `json:"generation"`
	Merge      string `json:"merge,omitempty"` // of an application's hits: rescore | rrf | round_robin
	Error      string `json:"error,omitempty"`
}

// Answer is what was found, and who could not be asked.
type Answer struct {
	Query         string         `json:"query"`
	TotalResults  int            `json:"total_results"` // matching documents, before dedupe and cut
	Count         int            `json:"count"`
	Results       []Hit          `json:"results"`
	NodesAsked    int            `json:"nodes_asked"`
	NodesSearched int            `json:"nodes_searched"`
	NodeBreakdown map[string]int `json:"node_breakdown"` // hits in Results by slug
	Nodes         []NodeReport   `json:"nodes"`
	Partial       bool           `json:"partial"`
	Coverage      float64        `json:"coverage"` // 0..1
	Merge         string         `json:"merge"`    // the weakest that was used: exact | inexact | rescore | rrf | round_robin
	Cached        bool           `json:"cached"`
	TookMs        int64          `json:"took_ms"`
}

// CachedAnswer is an answer that a node keeps.
type CachedAnswer struct {
	QueryHash string    `json:"query_hash"` // of the request, the caller's rights and the nodes asked
	Query     string    `json:"query"`
	NodeIDs   []string  `json:"node_ids"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	Hits      uint64    `json:"hits"`
	Bytes     uint64    `json:"bytes"`
}

// SearchCache is a node's cache of answers, or a page of it. The counts are
// since the node started.
type SearchCache struct {
	Entries  []CachedAnswer `json:"entries"`
	Cursor   string         `json:"cursor,omitempty"`
	Total    int            `json:"total"`
	Bytes    uint64         `json:"bytes"`
	MaxBytes uint64         `json:"max_bytes"` // 0: nothing is kept
	Hits     uint64         `json:"hits"`      // answers from the cache
	Misses   uint64         `json:"misses"`    // searches that asked the nodes
	Shared   uint64         `json:"shared"`    // searches that waited for an equal one
	Stale    uint64         `json:"stale"`     // answers dropped because they expired or an index went on
}

// ShardQuery is the part of a Query that every node evaluates in the same way.
type ShardQuery struct {
	Text        string   `json:"query"`
	Operator    string   `json:"operator"`         // or | and
	Fields      []string `json:"fields,omitempty"` // where bare words look: title, content; empty: both
	Collections []string `json:"collections,omitempty"`

	// Within is what the caller's key is confined to. It is not sent: it goes
	// with the rights, which are signed.
	Within Metadata `json:"-"`
}

// ShardStats is phase one's answer of one index: its generation, now pinned,
// and the statistics that exact scores need. DF and Tokens are keyed by index
// field (title, content, all), DF then by analysed term.
type ShardStats struct {
	IndexID    string                       `json:"index_id"`
	Generation uint64                       `json:"generation"`
	ScoringID  string                       `json:"scoring_id"`
	Docs       uint64                       `json:"docs"`
	Tokens     map[string]uint64            `json:"tokens"`
	DF         map[string]map[string]uint64 `json:"df"`
	Keys       []string                     `json:"keys,omitempty"` // metadata keys named in the query that exist here
}

// ShardSearch is phase two: the question again, with the summed statistics.
type ShardSearch struct {
	Query         ShardQuery `json:"query"`
	Stats         ShardStats `json:"stats"`      // sums over all nodes; Keys is the union
	Generation    uint64     `json:"generation"` // of this node, from phase one
	IndexID       string     `json:"index_id"`
	From          int        `json:"from"`
	Size          int        `json:"size"`
	ContentLength int        `json:"content_length"`
}

// ShardHits is phase two's answer: hits From..From+Size in result order
// (score descending, then collection, then ID).
type ShardHits struct {
	Matched int        `json:"matched"`
	Hits    []ShardHit `json:"hits"`
}

// ShardHit is a hit with what dedupe needs and the caller does not see.
type ShardHit struct {
	Hit
	ContentKey string `json:"content_key,omitempty"` // SHA-256 of the normalised content, hex; empty without content
}

// IndexStats describes one node's index.
type IndexStats struct {
	Node        string            `json:"node"`
	IndexID     string            `json:"index_id"`
	Generation  uint64            `json:"generation"`
	Docs        uint64            `json:"docs"`
	Tokens      map[string]uint64 `json:"tokens"`
	Bytes       uint64            `json:"bytes"`
	ScoringID   string            `json:"scoring_id"`
	Collections map[string]uint64 `json:"collections"`
}

// LineError is what is wrong with one line of a document body, counted from 1.
type LineError struct {
	Line    int    `json:"line"`
	Message string `json:"message"`
}

// Indexed is the outcome of adding documents.
type Indexed struct {
	Indexed    int         `json:"indexed"` // new
	Updated    int         `json:"updated"` // replaced
	Failed     int         `json:"failed"`
	Errors     []LineError `json:"errors"`
	Generation uint64      `json:"generation"`
}
