// Package corpora carries the demo's documents in the program, so that the demo
// runs from wherever the program is.
package corpora

import _ "embed"

// The three applications' documents, as JSONL.
var (
	//go:embed shop.jsonl
	Shop []byte
	//go:embed wiki.jsonl
	Wiki []byte
	//go:embed helpdesk.jsonl
	Helpdesk []byte
)
