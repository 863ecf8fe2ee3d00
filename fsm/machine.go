package fsm

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"slices"

	"muster"

	jsonv1 "github.com/go-json-experiment/json/v1"
	"github.com/hashicorp/raft"
)

// Machine is the edge at which raft touches the registry.
type Machine struct{ *Registry }

var (
	_ raft.FSM                = Machine{}
	_ raft.BatchingFSM        = Machine{}
	_ raft.ConfigurationStore = Machine{}
)

// Apply runs one log entry and returns a Result. An entry that is not
// understood stops the registry: it and all later ones are refused.
func (m Machine) Apply(entry *raft.Log) any { return m.ApplyBatch([]*raft.Log{entry})[0] }

// ApplyBatch is Apply for entries that come together: readers see none of them
// or all. Entries that change raft's membership only count.
func (m Machine) ApplyBatch(entries []*raft.Log) []any {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]any, 0, len(entries))
	for len(out) < len(entries) {
		rest := entries[len(out):]
		done := m.togetherLocked(rest)
		if done == nil {
			done = []any{m.aloneLocked(rest[0])}
		}
		out = append(out, done...)
		if m.broken == nil {
			m.advanceLocked(rest[len(done)-1].Index)
		}
	}
	return out
}

// togetherLocked runs as many entries as it can on one clone of the tables, which
// is much cheaper than one for each: up to the first that is refused, or not
// understood. Of that one nothing may stay, so it is left for aloneLocked.
func (m Machine) togetherLocked(entries []*raft.Log) []any {
	n := len(entries)
	for {
		t := m.now().clone()
		out := make([]any, 0, n)
		for _, entry := range entries[:n] {
			res, refused, err := m.step(t, entry)
			if err != nil || refused {
				break
			}
			out = append(out, res)
		}
		if len(out) == n {
			m.commitLocked(t)
			return out
		}
		m.done.undo()
		if n = len(out); n == 0 {
			return nil
		}
	}
}

// commitLocked makes tables those that readers see.
func (m Machine) commitLocked(t *tables) {
	m.rows.Store(t)
	m.done.settle()
}

// aloneLocked runs one entry. Of a refused one nothing stays but the answer.
func (m Machine) aloneLocked(entry *raft.Log) Result {
	if m.broken != nil {
		return stopped(m.broken)
	}
	t := m.now().clone()
	res, refused, err := m.step(t, entry)
	if err == nil && refused {
		t = m.now()
		err = m.keep(entry, res)
	}
	if err != nil {
		m.done.undo()
		m.broken = err
		close(m.stop)
		return stopped(err)
	}
	m.commitLocked(t)
	return res
}

// step runs one entry on tables, as apply does.
func (m Machine) step(t *tables, entry *raft.Log) (Result, bool, error) {
	if m.broken != nil || entry.Type == raft.LogConfiguration {
		return Result{}, false, m.broken
	}
	c, err := decodeEntry(entry)
	if err != nil {
		return Result{}, false, err
	}
	return m.apply(t, entry.Index, c)
}

// keep remembers the answer to a refused entry.
func (m Machine) keep(entry *raft.Log, res Result) error {
	c, err := decodeEntry(entry)
	if err != nil {
		return err
	}
	m.remember(c, res)
	return nil
}

func decodeEntry(entry *raft.Log) (c Command, err error) {
	if err := jsonv1.Unmarshal(entry.Data, &c); err != nil {
		return c, fmt.Errorf("log entry %d: %w: %w", entry.Index, err, errNotUnderstood)
	}
	return c, nil
}

func stopped(why error) Result {
	return Result{Refused: &Refusal{Kind: muster.Internal, Code: "registry_stopped", Message: why.Error()}}
}

// StoreConfiguration sees the entries that change raft's membership, so that
// Index counts them, too.
func (m Machine) StoreConfiguration(index uint64, _ raft.Configuration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advanceLocked(index)
}

func (r *Registry) advanceLocked(index uint64) {
	if index <= r.index.Load() {
		return
	}
	r.index.Store(index)
	r.wakeLocked()
}

// Snapshot takes what is there at once, whatever the size: tables that readers
// may hold are never changed. Of the results it copies the pointers.
func (m Machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &picture{m.now(), slices.Clone(m.done.order), m.index.Load()}, nil
}

// Restore replaces the whole state by that of a snapshot.
func (m Machine) Restore(in io.ReadCloser) error {
	defer func() { _ = in.Close() }()
	p, err := read(in)
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done = newAnswers()
	for _, row := range p.done {
		m.done.keep(row)
	}
	m.commitLocked(p.rows)
	m.index.Store(max(p.index, m.index.Load())) // readers that waited for an index never see it fall
	m.wakeLocked()
	return nil
}

// picture is the state at one index, on its way to a snapshot or out of one.
type picture struct {
	rows  *tables
	done  []*done // oldest first
	index uint64
}

// Release has nothing to release: the garbage collector does.
func (*picture) Release() {}

// Persist writes the snapshot.
func (p *picture) Persist(sink raft.SnapshotSink) error {
	if err := p.write(sink); err != nil {
		return errors.Join(fmt.Errorf("write snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}

// The snapshot format: the line "muster-snapshot 1\n", then chunks, each a
// 4-byte big-endian length, the CRC-32 (IEEE) of the payload, and the payload:
// one JSON row {"t":table,"r":row}. The last chunk has the table "end" and the
// number of rows, so that a cut file is noticed.
const (
	snapshotHeader = "muster-snapshot 1\n"
	maxChunk       = 16 << 20
)

type chunk struct {
	Table string          `json:"t"`
	Row   json.RawMessage `json:"r"`
}

type ending struct {
	Index uint64 `json:"index"`
	Rows  int    `json:"rows"`
}

func (p *picture) write(out io.Writer) error {
	w := bufio.NewWriter(out)
	if _, err := w.WriteString(snapshotHeader); err != nil {
		return err
	}
	rows := 0
	put := func(table string, row any) error {
		rows++
		raw, err := json.Marshal(row)
		if err != nil {
			return err
		}
		payload, err := json.Marshal(chunk{Table: table, Row: raw})
		if err != nil {
			return err
		}
		head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))) //nolint:gosec // rows are far below 4 GiB
		head = binary.BigEndian.AppendUint32(head, crc32.ChecksumIEEE(payload))
		_, err = w.Write(append(head, payload...))
		return err
	}
	for table, row := range p.all() {
		if err := put(table, row); err != nil {
			return err
		}
	}
	if err := put("end", ending{Index: p.index, Rows: rows}); err != nil {
		return err
	}
	return w.Flush()
}

// all gives the rows, each with the name of its table.
func (p *picture) all() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		_ = (p.rows.settings == nil || yield(tableSettings, p.rows.settings)) &&
			each(tableNodes, p.rows.nodes.all(), yield) && each(tableKeys, p.rows.keys.all(), yield) &&
			each(tableActions, p.rows.actions.all(), yield) && each(tableDone, p.ordered(), yield) &&
			each(tableTxs, p.rows.txs.all(), yield)
	}
}

// each gives the rows of a table; false: no more are wanted.
func each[T any](table string, rows iter.Seq[*T], yield func(string, any) bool) bool {
	for row := range rows {
		if !yield(table, row) {
			return false
		}
	}
	return true
}

// ordered gives the results of keyed commands as earlier programs read them.
func (p *picture) ordered() iter.Seq[*done] {
	return func(yield func(*done) bool) {
		for _, row := range p.done {
			out := *row
			out.Order = fmt.Sprintf("%020d", row.Index)
			if !yield(&out) {
				return
			}
		}
	}
}

// read builds fresh tables from a snapshot. It accepts only what is whole.
func read(in io.Reader) (*picture, error) {
	r := bufio.NewReader(in)
	header := make([]byte, len(snapshotHeader))
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if string(header) != snapshotHeader {
		return nil, fmt.Errorf("unknown format %q, this program reads %q: %w", header, snapshotHeader, errNotUnderstood)
	}
	p := &picture{rows: newTables()}
	for rows := 0; ; rows++ {
		c, err := readChunk(r)
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", rows+1, err)
		}
		if c.Table == "end" {
			var end ending
			if err := jsonv1.Unmarshal(c.Row, &end); err != nil {
				return nil, fmt.Errorf("end: %w", err)
			}
			if end.Rows != rows {
				return nil, fmt.Errorf("has %d rows, not the %d it was written with", rows, end.Rows)
			}
			p.index = end.Index
			slices.SortStableFunc(p.done, func(a, b *done) int { return cmp.Compare(a.Index, b.Index) }) // earlier programs wrote them by key
			return p, nil
		}
		if err := p.insert(c); err != nil {
			return nil, fmt.Errorf("row %d: %w", rows+1, err)
		}
	}
}

func readChunk(r io.Reader) (c chunk, err error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(r, head); err != nil {
		return c, err
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxChunk {
		return c, fmt.Errorf("length %d is over %d", size, maxChunk)
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(r, payload); err != nil {
		return c, err
	}
	if crc32.ChecksumIEEE(payload) != binary.BigEndian.Uint32(head[4:]) {
		return c, errors.New("checksum does not match")
	}
	return c, jsonv1.Unmarshal(payload, &c)
}

func (p *picture) insert(c chunk) error {
	switch c.Table {
	case tableNodes:
		return insert(c, p.rows.nodes.put)
	case tableKeys:
		return insert(c, p.rows.keys.put)
	case tableDone:
		return insert(c, func(row *done) { p.done = append(p.done, row) })
	case tableSettings:
		return insert(c, func(row *settings) { p.rows.settings = row })
	case tableActions:
		return insert(c, p.rows.actions.put)
	case tableTxs:
		return insert(c, p.rows.txs.put)
	default:
		return fmt.Errorf("table %q: %w", c.Table, errNotUnderstood)
	}
}

func insert[T any](c chunk, put func(*T)) error {
	row := new(T)
	if err := jsonv1.Unmarshal(c.Row, row); err != nil {
		return err
	}
	put(row)
	return nil
}
