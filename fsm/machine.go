package fsm

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"muster"

	jsonv1 "github.com/go-json-experiment/json/v1"
	memdb "github.com/hashicorp/go-memdb"
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

// togetherLocked runs as many entries as it can in one transaction, which is
// much cheaper than one for each: up to the first that is refused, or not
// understood. Of that one nothing may stay, so it is left for aloneLocked.
func (m Machine) togetherLocked(entries []*raft.Log) []any {
	n := len(entries)
	for {
		txn, kept := m.db.Load().Txn(true), m.kept
		out := make([]any, 0, n)
		for _, entry := range entries[:n] {
			res, refused, err := m.step(txn, entry)
			if err != nil || refused {
				break
			}
			out = append(out, res)
		}
		if len(out) == n {
			txn.Commit()
			return out
		}
		txn.Abort()
		m.kept = kept
		if n = len(out); n == 0 {
			return nil
		}
	}
}

// aloneLocked runs one entry. Of a refused one nothing stays but the answer.
func (m Machine) aloneLocked(entry *raft.Log) Result {
	if m.broken != nil {
		return stopped(m.broken)
	}
	txn := m.db.Load().Txn(true)
	res, refused, err := m.step(txn, entry)
	if err == nil && refused {
		txn.Abort()
		txn = m.db.Load().Txn(true)
		err = m.keep(txn, entry, res)
	}
	if err != nil {
		txn.Abort()
		m.broken = err
		close(m.stop)
		return stopped(err)
	}
	txn.Commit()
	return res
}

// step runs one entry in a transaction, as apply does.
func (m Machine) step(txn *memdb.Txn, entry *raft.Log) (Result, bool, error) {
	if m.broken != nil || entry.Type == raft.LogConfiguration {
		return Result{}, false, m.broken
	}
	c, err := decodeEntry(entry)
	if err != nil {
		return Result{}, false, err
	}
	return m.apply(txn, entry.Index, c)
}

// keep remembers the answer to a refused entry.
func (m Machine) keep(txn *memdb.Txn, entry *raft.Log, res Result) error {
	c, err := decodeEntry(entry)
	if err != nil {
		return err
	}
	return m.remember(txn, c, res)
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

// Snapshot is O(1): the tables are immutable trees.
func (m Machine) Snapshot() (raft.FSMSnapshot, error) {
	db, index := m.snapshot()
	return &picture{db: db, index: index}, nil
}

// Restore replaces the whole state by that of a snapshot.
func (m Machine) Restore(in io.ReadCloser) error {
	defer func() { _ = in.Close() }()
	db, index, err := read(in)
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.db.Store(db)
	m.kept = len(all[done](db.Txn(false), tableDone, "id"))
	m.index.Store(max(index, m.index.Load())) // readers that waited for an index never see it fall
	m.wakeLocked()
	return nil
}

// picture is the state at one index, on its way to a snapshot.
type picture struct {
	db    *memdb.MemDB
	index uint64
}

// Release has nothing to release: the garbage collector does.
func (*picture) Release() {}

// Persist writes the snapshot.
func (p *picture) Persist(sink raft.SnapshotSink) error {
	if err := write(sink, p.db, p.index); err != nil {
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

func write(out io.Writer, db *memdb.MemDB, index uint64) error {
	w := bufio.NewWriter(out)
	if _, err := w.WriteString(snapshotHeader); err != nil {
		return err
	}
	rows := 0
	put := func(table string, row any) error {
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
	for _, table := range []string{tableSettings, tableNodes, tableKeys, tableActions, tableDone, tableTxs} {
		it, err := db.Txn(false).Get(table, "id")
		if err != nil {
			return err
		}
		for row := it.Next(); row != nil; row = it.Next() {
			rows++
			if err := put(table, row); err != nil {
				return err
			}
		}
	}
	if err := put("end", ending{Index: index, Rows: rows}); err != nil {
		return err
	}
	return w.Flush()
}

// read builds fresh tables from a snapshot. It accepts only what is whole.
func read(in io.Reader) (*memdb.MemDB, uint64, error) {
	r := bufio.NewReader(in)
	header := make([]byte, len(snapshotHeader))
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, 0, fmt.Errorf("header: %w", err)
	}
	if string(header) != snapshotHeader {
		return nil, 0, fmt.Errorf("unknown format %q, this program reads %q: %w", header, snapshotHeader, errNotUnderstood)
	}
	db, err := memdb.NewMemDB(schema())
	if err != nil {
		return nil, 0, err
	}
	txn := db.Txn(true)
	defer txn.Abort()
	for rows := 0; ; rows++ {
		c, err := readChunk(r)
		if err != nil {
			return nil, 0, fmt.Errorf("row %d: %w", rows+1, err)
		}
		if c.Table == "end" {
			var end ending
			if err := jsonv1.Unmarshal(c.Row, &end); err != nil {
				return nil, 0, fmt.Errorf("end: %w", err)
			}
			if end.Rows != rows {
				return nil, 0, fmt.Errorf("has %d rows, not the %d it was written with", rows, end.Rows)
			}
			txn.Commit()
			return db, end.Index, nil
		}
		if err := insert(txn, c); err != nil {
			return nil, 0, fmt.Errorf("row %d: %w", rows+1, err)
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

func insert(txn *memdb.Txn, c chunk) error {
	var row any
	switch c.Table {
	case tableNodes:
		row = &node{}
	case tableKeys:
		row = &key{}
	case tableDone:
		row = &done{}
	case tableSettings:
		row = &settings{}
	case tableActions:
		row = &action{}
	case tableTxs:
		row = &txRow{}
	default:
		return fmt.Errorf("table %q: %w", c.Table, errNotUnderstood)
	}
	if err := jsonv1.Unmarshal(c.Row, row); err != nil {
		return err
	}
	return txn.Insert(c.Table, row)
}
