package fsm

import (
	"iter"
	"slices"
	"strings"

	"muster"

	"github.com/google/btree"
)

// tables are the registry's rows at one moment. What readers hold is never
// changed: commands work on a clone, which shares with it all that they leave
// alone, and which takes its place when they are done.
type tables struct {
	settings *settings
	nodes    table[node]
	keys     table[key]
	actions  table[action]
	txs      table[txRow]
}

// The indexes of nodes, in the order in which newTables makes them.
const (
	bySlug = iota
	byName
	byStatus
	byCapability
	bySign
	byKind
)

// byNode is the one index of keys, byOrder that of transactions.
const (
	byNode  = 0
	byOrder = 0
)

func newTables() *tables {
	return &tables{
		nodes: newTable(func(n *node) string { return n.ID },
			one(func(n *node) string { return n.Slug }, func(a, b *node) bool { return a.Slug == b.Slug }),
			one(func(n *node) string { return folded(n.Name) }, func(a, b *node) bool { return a.Name == b.Name }),
			one((*node).standing, func(a, b *node) bool {
				return a.Live == b.Live && a.Desired == b.Desired && a.Observed == b.Observed
			}),
			index[node]{words: (*node).abilities, same: func(a, b *node) bool { return slices.Equal(a.Capabilities, b.Capabilities) }},
			one((*node).sign, func(a, b *node) bool {
				return a.DeletedAt == nil && b.DeletedAt == nil && a.lastSign().Equal(b.lastSign())
			}),
			one(func(n *node) string { return string(n.Kind) }, func(a, b *node) bool { return a.Kind == b.Kind })),
		keys: newTable(func(k *key) string { return k.ID }, index[key]{
			words: func(k *key) []string {
				if k.NodeID == "" {
					return nil
				}
				return []string{k.NodeID}
			},
			same: func(a, b *key) bool { return a.NodeID == b.NodeID },
		}),
		actions: newTable(func(a *action) string { return a.Digest }),
		txs: newTable(func(t *txRow) string { return t.ID },
			one(func(t *txRow) string { return t.Order }, func(a, b *txRow) bool { return a.Order == b.Order })),
	}
}

// clone costs as much for a million rows as for none.
func (t *tables) clone() *tables {
	return &tables{settings: t.settings, nodes: t.nodes.clone(), keys: t.keys.clone(), actions: t.actions.clone(), txs: t.txs.clone()}
}

// table is rows by their ID, and by words that are found in them.
type table[T any] struct {
	id   func(*T) string
	rows *btree.BTreeG[entry[T]]
	by   []index[T]
}

// index finds rows by words. Where two rows are the same to it, so are their
// words, which need not be made then.
type index[T any] struct {
	words  func(*T) []string
	same   func(a, b *T) bool
	places *btree.BTreeG[place]
}

type entry[T any] struct {
	id  string
	row *T
}

type place struct{ word, id string }

// degree is half of how many entries a node of a tree has: what is copied for a
// change, against how deep the tree is.
const degree = 16

func newTable[T any](id func(*T) string, indexes ...index[T]) table[T] {
	for i := range indexes {
		indexes[i].places = btree.NewG(degree, place.before)
	}
	return table[T]{id: id, rows: btree.NewG(degree, func(a, b entry[T]) bool { return a.id < b.id }), by: indexes}
}

// one is an index by one word each.
func one[T any](word func(*T) string, same func(a, b *T) bool) index[T] {
	return index[T]{words: func(row *T) []string { return []string{word(row)} }, same: same}
}

func (p place) before(other place) bool {
	if p.word != other.word {
		return p.word < other.word
	}
	return p.id < other.id
}

func (t table[T]) clone() table[T] {
	t.rows, t.by = t.rows.Clone(), slices.Clone(t.by)
	for i := range t.by {
		t.by[i].places = t.by[i].places.Clone()
	}
	return t
}

// put stores a row, in the place of another with its ID. Indexes are touched
// only where its words changed.
func (t table[T]) put(row *T) {
	id := t.id(row)
	old, _ := t.rows.ReplaceOrInsert(entry[T]{id, row})
	t.move(id, old.row, row)
}

// drop removes the row with an ID.
func (t table[T]) drop(id string) {
	old, _ := t.rows.Delete(entry[T]{id: id})
	t.move(id, old.row, nil)
}

func (t table[T]) move(id string, from, to *T) {
	for _, ix := range t.by {
		if from != nil && to != nil && ix.same(from, to) {
			continue
		}
		before, after := ix.of(from), ix.of(to)
		if slices.Equal(before, after) {
			continue
		}
		for _, word := range before {
			ix.places.Delete(place{word, id})
		}
		for _, word := range after {
			ix.places.ReplaceOrInsert(place{word, id})
		}
	}
}

func (ix index[T]) of(row *T) []string {
	if row == nil {
		return nil
	}
	return ix.words(row)
}

// row returns the row with an ID, or nil.
func (t table[T]) row(id string) *T {
	e, _ := t.rows.Get(entry[T]{id: id})
	return e.row
}

// all gives the rows in the order of their IDs.
func (t table[T]) all() iter.Seq[*T] {
	return func(yield func(*T) bool) { t.rows.Ascend(func(e entry[T]) bool { return yield(e.row) }) }
}

// from gives the rows in the order of an index, from a word on, each with its
// word; a row of several words comes with each.
func (t table[T]) from(index int, word string) iter.Seq2[string, *T] {
	return func(yield func(string, *T) bool) {
		t.by[index].places.AscendGreaterOrEqual(place{word: word}, func(p place) bool { return yield(p.word, t.row(p.id)) })
	}
}

// first returns the row that comes first among those whose word in an index
// begins with some text, or nil.
func (t table[T]) first(index int, text string) *T {
	for word, row := range t.from(index, text) {
		if strings.HasPrefix(word, text) {
			return row
		}
		break
	}
	return nil
}

// last gives the row that comes last in the order of an index, with its word; nil:
// there is none.
func (t table[T]) last(index int) (word string, row *T) {
	p, _ := t.by[index].places.Max()
	return p.word, t.row(p.id)
}

// under lists the rows that an index has under a word.
func (t table[T]) under(index int, word string) (rows []*T) {
	for found, row := range t.from(index, word) {
		if found != word {
			break
		}
		rows = append(rows, row)
	}
	return rows
}

// views are nodes as everybody sees them.
func views(rows []*node) []muster.Node {
	nodes := make([]muster.Node, len(rows))
	for i, row := range rows {
		nodes[i] = row.view()
	}
	return nodes
}
