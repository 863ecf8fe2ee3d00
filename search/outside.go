package search

import (
	"context"

	"muster"
)

// Outsider asks an application's own search. The error's code circuit_open says
// that it was not asked, because it failed too often.
type Outsider interface {
	Ask(ctx context.Context, node muster.Node, q muster.OwnQuery) (muster.OwnHits, error)
}
