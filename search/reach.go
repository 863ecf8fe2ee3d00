package search

import (
	"slices"

	"muster"
)

// reached are the nodes among the caller's targets. To name another one is
// Forbidden.
func reached(by muster.Rights, chosen []muster.Node, named bool) ([]muster.Node, error) {
	beyond := func(n muster.Node) bool { return !by.Reaches(n.Metadata) }
	if i := slices.IndexFunc(chosen, beyond); i >= 0 && named {
		return nil, muster.OutOfReach(chosen[i].Slug)
	}
	return slices.DeleteFunc(slices.Clone(chosen), beyond), nil
}
