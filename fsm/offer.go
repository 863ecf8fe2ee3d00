package fsm

import "muster"

// NodeOffer is the body of OpNodeOffer: the registration of somebody without a
// key. The node is inactive, and so is its key, until an operator activates it.
type NodeOffer struct{ NodeRegister }

// nodeOffer enters a node as inactive. Its key has no more than any node's,
// whatever the body says.
func (a applier) nodeOffer(b NodeOffer) (string, error) {
	b.Key.Scopes, b.Key.MaxRisk = muster.NodeScopes(), muster.RiskLow
	return a.nodeEnter(b.NodeRegister, muster.StatusInactive)
}
