package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"muster"
	"muster/httpserver/api"
)

type indexCmd struct {
	Add     indexAddCmd     `cmd:"" help:"Add JSONL, Markdown or text: files, directories, or - for standard input."`
	Rm      indexRmCmd      `cmd:"" help:"Remove documents by ID."`
	Stats   indexStatsCmd   `cmd:"" help:"Describe a node's index."`
	Rebuild indexRebuildCmd `cmd:"" help:"Make a node's index anew from the documents it holds."`
}

// maxBatch is the most bytes of one batch; a node takes 32 MiB.
const maxBatch = 8 << 20

type indexAddCmd struct {
	Paths      []string `arg:"" help:"Files, directories, or - for standard input (JSONL)."`
	Node       string   `help:"Slug of the node whose index it is. Default: the node that is asked."`
	Collection string   `help:"Collection of documents that name none."`
	Batch      int      `help:"Documents sent at once." default:"1000"`
}

// Run adds everything it can, and reports each line that it could not. Adding
// again changes nothing: documents replace those with their ID.
func (c *indexAddCmd) Run(ctx context.Context, out streams, f *clientFlags) (err error) {
	if c.Batch < 1 || c.Batch > 10_000 {
		return &muster.Error{Kind: muster.Invalid, Message: "--batch: must be from 1 to 10000"}
	}
	client, err := f.client()
	if err != nil {
		return err
	}
	a := &adder{cmd: c, client: client, flags: f, out: out, bar: newBar(out)}
	for _, path := range c.Paths {
		if err := a.path(ctx, path); err != nil {
			a.bar.stop()
			return err
		}
	}
	err = a.flush(ctx)
	a.bar.stop()
	if err != nil {
		return err
	}
	if err := f.show(out, a.done, func(w *grid) {
		line(w, "INDEXED", "UPDATED", "FAILED", "GENERATION")
		line(w, a.done.Indexed, a.done.Updated, a.done.Failed, a.done.Generation)
	}); err != nil {
		return err
	}
	if a.done.Failed > 0 {
		return &muster.Error{Kind: muster.Partial, Message: fmt.Sprintf("%d documents were not added", a.done.Failed)}
	}
	return nil
}

// adder gathers documents into batches and remembers where each came from.
type adder struct {
	cmd    *indexAddCmd
	client *api.Client
	flags  *clientFlags
	out    streams
	bar    *bar

	batch bytes.Buffer
	from  []string // per line of the batch: file and line
	done  muster.Indexed
}

func (a *adder) path(ctx context.Context, path string) error {
	if path == "-" {
		return a.lines(ctx, "standard input", os.Stdin)
	}
	info, err := os.Stat(path)
	if err != nil {
		return &muster.Error{Kind: muster.Invalid, Message: err.Error()}
	}
	if !info.IsDir() {
		return a.file(ctx, path, filepath.Base(path), true)
	}
	return filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(path, file)
		if err != nil {
			return err
		}
		return a.file(ctx, file, filepath.ToSlash(name), false)
	})
}

// file adds one file by its kind. In a directory, other kinds are passed over.
func (a *adder) file(ctx context.Context, path, name string, named bool) error {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".jsonl", ".ndjson":
		in, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		return errors.Join(a.lines(ctx, path, in), in.Close())
	case ".md", ".markdown", ".txt":
		raw, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		doc, err := json.Marshal(muster.Document{ID: name, Title: title(name, raw), Content: string(raw), Collection: a.cmd.Collection})
		if err != nil {
			return fmt.Errorf("encode %s: %w", path, err)
		}
		return a.add(ctx, doc, path)
	}
	if named {
		return &muster.Error{
			Kind: muster.Invalid, Message: path + ": this kind of file is not supported yet",
			Hint: "give .jsonl, .ndjson, .md, .markdown or .txt",
		}
	}
	return nil
}

// title is a text's first Markdown heading, or the file's name.
func title(name string, raw []byte) string {
	for row := range bytes.Lines(raw) {
		if heading, ok := bytes.CutPrefix(row, []byte("# ")); ok {
			return string(bytes.TrimSpace(heading))
		}
	}
	return strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
}

// lines adds a JSONL stream. Lines may be of any length that a node takes.
func (a *adder) lines(ctx context.Context, name string, in io.Reader) error {
	r := bufio.NewReader(in)
	for n := 1; ; n++ {
		row, err := r.ReadBytes('\n')
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if n == 1 {
			row = bytes.TrimPrefix(row, []byte("\xef\xbb\xbf"))
		}
		if row = bytes.TrimSpace(row); len(row) > 0 {
			if err := a.add(ctx, a.placed(row), fmt.Sprintf("%s:%d", name, n)); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
	}
}

// placed puts a document that names no collection into the one asked for.
func (a *adder) placed(row []byte) []byte {
	var fields map[string]json.RawMessage
	if a.cmd.Collection == "" || json.Unmarshal(row, &fields) != nil || fields["collection"] != nil {
		return row // also what is no JSON: the node says what is wrong with it
	}
	name, err := json.Marshal(a.cmd.Collection)
	if err != nil || len(fields) == 0 {
		return row
	}
	open := bytes.IndexByte(row, '{') + 1
	return slices.Concat(row[:open], []byte(`"collection":`), name, []byte(","), row[open:])
}

func (a *adder) add(ctx context.Context, doc []byte, from string) error {
	if a.batch.Len() > 0 && a.batch.Len()+len(doc) > maxBatch {
		if err := a.flush(ctx); err != nil {
			return err
		}
	}
	a.batch.Write(doc)
	a.batch.WriteByte('\n')
	a.from = append(a.from, from)
	if len(a.from) >= a.cmd.Batch {
		return a.flush(ctx)
	}
	return nil
}

func (a *adder) flush(ctx context.Context) error {
	if len(a.from) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.flags.Timeout)
	defer cancel()
	got, err := a.client.AddDocuments(ctx, a.cmd.Node, a.batch.Bytes())
	if err != nil {
		return fmt.Errorf("add %s to %s: %w", a.from[0], a.from[len(a.from)-1], err)
	}
	for _, e := range got.Errors {
		_, _ = fmt.Fprintf(a.out.err, "%s: %s\n", a.from[e.Line-1], e.Message)
		a.done.Errors = append(a.done.Errors, muster.LineError{Line: e.Line, Message: a.from[e.Line-1] + ": " + e.Message})
	}
	a.done.Indexed += got.Indexed
	a.done.Updated += got.Updated
	a.done.Failed += got.Failed
	a.done.Generation = got.Generation
	a.bar.add(len(a.from))
	a.batch.Reset()
	a.from = a.from[:0]
	return nil
}

// bar shows progress on a terminal, and nothing elsewhere.
type bar struct {
	all *mpb.Progress
	one *mpb.Bar
	n   int64
}

func newBar(out streams) *bar {
	file, ok := out.err.(*os.File)
	if !ok || !isatty.IsTerminal(file.Fd()) {
		return &bar{}
	}
	all := mpb.New(mpb.WithOutput(file))
	one := all.AddSpinner(0, mpb.PrependDecorators(decor.Name("documents "), decor.CurrentNoUnit("%d")), mpb.AppendDecorators(decor.AverageSpeed(0, "%.0f/s")))
	return &bar{all: all, one: one}
}

func (b *bar) add(n int) {
	if b.one != nil {
		b.n += int64(n)
		b.one.SetCurrent(b.n)
	}
}

func (b *bar) stop() {
	if b.one != nil {
		b.one.SetTotal(b.n, true)
		b.all.Wait()
	}
}

type indexRmCmd struct {
	IDs        []string `arg:"" name:"id" help:"IDs of the documents."`
	Node       string   `help:"Slug of the node whose index it is."`
	Collection string   `help:"Collection of the documents. Default: default."`
}

// Run removes documents. Those that are not there are named, and exit code 1
// says so.
func (c *indexRmCmd) Run(ctx context.Context, out streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	var missing []string
	for _, id := range c.IDs {
		call, cancel := context.WithTimeout(ctx, f.Timeout)
		err := client.DeleteDocument(call, c.Node, c.Collection, id)
		cancel()
		if muster.KindOf(err) == muster.NotFound {
			missing = append(missing, id)
			continue
		}
		if err != nil {
			return fmt.Errorf("remove %s: %w", id, err)
		}
	}
	_, _ = fmt.Fprintf(out.err, "removed %d documents\n", len(c.IDs)-len(missing))
	if len(missing) > 0 {
		return &muster.Error{Kind: muster.NotFound, Message: "not there: " + strings.Join(missing, ", ")}
	}
	return nil
}

type indexStatsCmd struct {
	Node string `help:"Slug of the node. Default: the node that is asked."`
}

// Run describes an index.
func (c *indexStatsCmd) Run(ctx context.Context, out streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	s, err := client.IndexStats(ctx, c.Node)
	if err != nil {
		return err
	}
	return showIndex(out, f, s)
}

func showIndex(out streams, f *clientFlags, s muster.IndexStats) error {
	return f.show(out, s, func(w *grid) {
		line(w, "Node", s.Node)
		line(w, "Documents", s.Docs)
		line(w, "Generation", s.Generation)
		line(w, "Bytes", s.Bytes)
		line(w, "Scoring", s.ScoringID)
		for _, name := range sortedKeys(s.Collections) {
			line(w, "  "+plain(name), s.Collections[name])
		}
	})
}

func sortedKeys(m map[string]uint64) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

type indexRebuildCmd struct {
	Node string `help:"Slug of the node. Default: the node that is asked."`
}

// Run rebuilds an index; searches go on meanwhile.
func (c *indexRebuildCmd) Run(ctx context.Context, out streams, f *clientFlags) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	s, err := client.RebuildIndex(ctx, c.Node)
	if err != nil {
		return err
	}
	return showIndex(out, f, s)
}
