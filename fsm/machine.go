package fsm

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"slices"
	"time"

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

// Apply runs one log entry. It returns a Result, or, of an entry of several
// commands, a []Result. An entry that is not understood stops the registry: of it
// and of all later ones it returns the refusal, one Result.
func (m Machine) Apply(entry *raft.Log) any { return m.ApplyBatch([]*raft.Log{entry})[0] }

// ApplyBatch is Apply for entries that come together: readers see none of them
// or all. Entries that change raft's membership only count.
func (m Machine) ApplyBatch(entries []*raft.Log) []any {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []order
	ends := make([]int, 0, len(entries)) // of each entry's commands in all
	for _, entry := range entries {
		if m.broken != nil {
			break
		}
		own, err := ordersOf(entry)
		if err != nil {
			m.breakLocked(err)
			break
		}
		all = append(all, own...)
		ends = append(ends, len(all))
	}
	results, err := m.runLocked(all)
	if err != nil && m.broken == nil {
		m.breakLocked(err)
	}
	out := make([]any, len(entries))
	begin := 0
	for i, entry := range entries {
		if i >= len(ends) || ends[i] > len(results) {
			out[i] = m.stopped()
			continue
		}
		own := results[begin:ends[i]]
		begin = ends[i]
		switch {
		case several(entry):
			out[i] = own
		case len(own) == 1:
			out[i] = own[0]
		default:
			out[i] = Result{}
		}
		m.advanceLocked(entry.Index)
	}
	return out
}

func (m Machine) breakLocked(why error) {
	m.broken = why
	close(m.stop)
}

// runLocked runs commands on one clone of the tables, which is much cheaper than
// one for each. Of a refused one nothing may stay but the answer: those before it
// are run once more, without it. After an error, what was run before has results.
func (m Machine) runLocked(all []order) (results []Result, err error) {
	rows := m.now()
	for len(results) < len(all) && err == nil {
		rest := all[len(results):]
		t := rows.clone()
		done, refused, failed := m.upTo(t, rest)
		if refused != nil || failed != nil {
			m.done.undo()
			t = rows.clone()
			done, _, _ = m.upTo(t, rest[:len(done)])
		}
		rows, err = t, failed
		results = append(results, done...)
		if refused != nil {
			m.remember(rest[len(done)].c, *refused)
			results = append(results, *refused)
		}
		m.done.settle()
	}
	m.rows.Store(rows)
	return results, err
}

// upTo runs commands up to the first that is refused, or fails.
func (m Machine) upTo(t *tables, all []order) (done []Result, refused *Result, err error) {
	done = make([]Result, 0, len(all))
	for _, o := range all {
		res, not, err := m.apply(t, o)
		switch {
		case err != nil:
			return done, nil, err
		case not:
			return done, &res, nil
		}
		done = append(done, res)
	}
	return done, nil, nil
}

// order is a command of the log that is understood: bad says that its body is not
// one of this program, and is its refusal.
type order struct {
	index uint64
	at    time.Time // of the entry
	c     Command
	body  any
	bad   error
}

// ordersOf are the commands of an entry.
func ordersOf(entry *raft.Log) ([]order, error) {
	if entry.Type == raft.LogConfiguration {
		return nil, nil
	}
	var commands []Command
	var err error
	if several(entry) {
		err = jsonv1.Unmarshal(entry.Data, &commands)
	} else {
		commands = make([]Command, 1)
		err = jsonv1.Unmarshal(entry.Data, &commands[0])
	}
	if err != nil {
		return nil, fmt.Errorf("log entry %d: %w: start a newer muster: %w", entry.Index, err, errNotUnderstood)
	}
	at, stamped, err := timeOf(entry)
	if err != nil {
		return nil, err
	}
	all := make([]order, len(commands))
	for i, c := range commands {
		body, err := c.decode()
		if errors.Is(err, errNotUnderstood) {
			return nil, fmt.Errorf("log entry %d has %w", entry.Index, err)
		}
		if !stamped {
			at = c.At
		}
		all[i] = order{entry.Index, at, c, body, err}
	}
	return all, nil
}

// several reports whether an entry is of several commands.
func several(entry *raft.Log) bool {
	return entry.Type == raft.LogCommand && bytes.HasPrefix(entry.Data, []byte("["))
}

// Entry is a log entry of encoded commands, with the clock of the master that
// appends it.
func Entry(commands [][]byte, at time.Time) raft.Log {
	return raft.Log{Data: Join(commands), Extensions: Stamp(at)}
}

// Stamp writes the time of an entry, which all copies go by: nanoseconds since 1970,
// as 8 bytes, big-endian. It stands in raft's Extensions, which are a part of the
// entry on every disk; raft's own AppendedAt is meant for looking at only.
func Stamp(at time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(at.UnixNano())) //nolint:gosec // timeOf turns it back
}

// timeOf reads the time of an entry. Those of earlier programs have none: of each of
// their commands the proposer's clock counts.
func timeOf(entry *raft.Log) (at time.Time, stamped bool, err error) {
	switch len(entry.Extensions) {
	case 0:
		return at, false, nil
	case 8:
		ns := int64(binary.BigEndian.Uint64(entry.Extensions)) //nolint:gosec // as Stamp wrote it
		return time.Unix(0, ns).UTC(), true, nil
	default:
		return at, false, fmt.Errorf("log entry %d has a time of %d bytes: start a newer muster: %w", entry.Index, len(entry.Extensions), errNotUnderstood)
	}
}

// Join makes one entry of encoded commands: they are applied in their order, and
// seen all together. Of one it makes an entry of its own.
func Join(commands [][]byte) []byte {
	if len(commands) == 1 {
		return commands[0]
	}
	return joined(commands)
}

func joined(commands [][]byte) []byte {
	return slices.Concat([]byte("["), bytes.Join(commands, []byte(",")), []byte("]"))
}

// Results are what became of an entry's commands, in their order, by what the
// Machine returned for it.
func Results(applied any) []Result {
	switch r := applied.(type) {
	case Result:
		return []Result{r}
	case []Result:
		return r
	default:
		return nil
	}
}

// stopped is the result of what comes after an entry that was not understood.
func (m Machine) stopped() Result {
	return Result{Refused: &Refusal{Kind: muster.Internal, Code: "registry_stopped", Message: m.broken.Error()}}
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
	if m.broken != nil {
		return nil, fmt.Errorf("no snapshot of a registry that stopped: %w", m.broken)
	}
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
	m.rows.Store(p.rows)
	m.done.settle()
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
