// Package actions runs what is declared in local files, and nothing else, on
// one, several or all nodes, and says for each node what became of it. It never
// starts a shell and never runs what came over the network: a caller names an
// action and its parameters.
package actions
