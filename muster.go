// Package muster holds the words the whole program speaks: nodes, peers,
// questions and their answers, actions and their outcomes, errors and their
// kinds. It never starts a goroutine and never touches disk or wire.
package muster

// Version is the program's own version, as a node reports it.
const Version = "0.1.0"
