package fsm

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"muster"
)

// one is an index of nodes by one text each.
type one func(*node) string

// many is an index of nodes by several texts each.
type many func(*node) []string

var errArgs = errors.New("an index of nodes takes texts")

// FromObject gives a node's text.
func (f one) FromObject(raw any) (bool, []byte, error) {
	n, ok := raw.(*node)
	if !ok {
		return false, nil, fmt.Errorf("%T is no node", raw)
	}
	return true, []byte(f(n) + "\x00"), nil
}

// FromArgs gives what to look for.
func (one) FromArgs(args ...any) ([]byte, error) { return sought(args) }

// FromObject gives a node's texts.
func (f many) FromObject(raw any) (bool, [][]byte, error) {
	n, ok := raw.(*node)
	if !ok {
		return false, nil, fmt.Errorf("%T is no node", raw)
	}
	var texts [][]byte
	for _, text := range f(n) {
		texts = append(texts, []byte(text+"\x00"))
	}
	return len(texts) > 0, texts, nil
}

// FromArgs gives what to look for.
func (many) FromArgs(args ...any) ([]byte, error) { return sought(args) }

func sought(args []any) ([]byte, error) {
	var text []byte
	for _, arg := range args {
		part, ok := arg.(string)
		if !ok {
			return nil, errArgs
		}
		text = append(append(text, part...), 0)
	}
	return text, nil
}

// folded is a name as names are compared: two that differ in case only are one
// (strings.EqualFold).
func folded(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, name)
}

// standing is a node's status and type. Which child is the master, raft says.
func (n *node) standing() string {
	if !n.Live {
		return "deleted"
	}
	return string(muster.StatusOf(n.Desired, n.Observed)) + "\x00" + string(muster.TypeChild)
}

func (n *node) abilities() []string {
	words := make([]string, len(n.Capabilities))
	for i, c := range n.Capabilities {
		words[i] = string(c)
	}
	return words
}

// lastSign is when a node last showed that it lives, as far as the registry
// knows; for one that was never seen, when an operator last thought of it.
func (n *node) lastSign() time.Time {
	switch {
	case n.LastPingAt != nil:
		return *n.LastPingAt
	case n.Kind == muster.KindAgent:
		return n.ObservedAt
	default:
		return n.UpdatedAt
	}
}

const (
	signLive    = "live "
	signDeleted = "deleted "
)

// sign orders nodes by their last sign of life, deleted ones by their deletion.
func (n *node) sign() string {
	if n.DeletedAt != nil {
		return signDeleted + inOrder(*n.DeletedAt)
	}
	return signLive + inOrder(n.lastSign())
}

// inOrder is a time as a text that sorts as times do.
func inOrder(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000") }
