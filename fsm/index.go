package fsm

import (
	"encoding/binary"
	"strings"
	"time"
	"unicode"

	"muster"
)

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
	return standing(muster.StatusOf(n.Desired, n.Observed))
}

func standing(status muster.Status) string { return string(status) + "\x00" + string(muster.TypeChild) }

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

// inOrder is a time as bytes that sort as times do.
func inOrder(t time.Time) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(t.Unix())^1<<63)         //nolint:gosec // the sign bit is turned over: what is before 1970 comes first
	return string(binary.BigEndian.AppendUint32(b, uint32(t.Nanosecond()))) //nolint:gosec // below 1e9
}
