package muster

import "time"

// Vital is what a node says of itself when it is pinged. What it does not say
// is empty: then what the registry has stays.
type Vital struct {
	Version      string
	Capabilities []Capability
}

// Pinged is what came of a ping that somebody asked for.
type Pinged struct {
	Success        bool    `json:"success"`
	Status         Status  `json:"status"` // of the node, this ping counted
	ResponseTimeMs float64 `json:"response_time_ms"`
	Error          string  `json:"error,omitempty"`
}

// Pings are the results of pings by slug.
type Pings struct {
	Total   int               `json:"total"`
	Healthy int               `json:"healthy"`
	Failed  int               `json:"failed"`
	Results map[string]Pinged `json:"results"`
}

// CodeCircuitOpen is the code of an error that says: this node was not asked,
// because it failed too often a moment ago.
const CodeCircuitOpen = "circuit_open"

// Circuit is a node's circuit breaker, as one node has it.
type Circuit struct {
	State    string     `json:"state"`               // closed | open | half_open
	Failures int        `json:"failures"`            // in a row
	OpenedAt *time.Time `json:"opened_at,omitempty"` // last
	RetryAt  *time.Time `json:"retry_at,omitempty"`  // when an open one lets a probe pass
}

// OwnQuery is a question to an application's own search.
type OwnQuery struct {
	Query   string     `json:"query"`
	Limit   int        `json:"limit"`
	Options OwnOptions `json:"options,omitzero"`
}

// OwnOptions narrow a question to an application. One that does not know them
// may leave them be.
type OwnOptions struct {
	Operator      string   `json:"operator,omitempty"` // or | and
	Fields        []string `json:"fields,omitempty"`
	Collections   []string `json:"collections,omitempty"`
	ContentLength int      `json:"content_length,omitzero"`
}

// OwnHits are an application's answer, in its own order.
type OwnHits struct {
	Hits      []Hit
	Matched   int     // at least len(Hits)
	Documents *uint64 // how many it holds, if it says so
}
