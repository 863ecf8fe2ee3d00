package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/mattn/go-runewidth"
)

// show prints one thing as a table for people, or as the JSON that the node
// answered, in the form that was asked for.
func (f *clientFlags) show(out streams, data any, table func(*grid)) error {
	return list(f, out, data, []any{data}, table)
}

// list prints an answer that is a list of rows: with -o jsonl, a row a line.
func list[T any](f *clientFlags, out streams, data any, rows []T, table func(*grid)) error {
	enc := json.NewEncoder(out.out)
	enc.SetEscapeHTML(false)
	switch f.Output {
	case "json":
		enc.SetIndent("", "  ")
		return enc.Encode(data)
	case "jsonl":
		for _, row := range rows {
			if err := enc.Encode(row); err != nil {
				return fmt.Errorf("print: %w", err)
			}
		}
		return nil
	case "yaml":
		raw, err := json.Marshal(data)
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}
		if raw, err = yaml.JSONToYAML(raw); err != nil {
			return fmt.Errorf("print as YAML: %w", err)
		}
		_, err = out.out.Write(raw)
		return err
	default:
		w := &grid{}
		table(w)
		return w.print(out.out)
	}
}

// grid is a table for people. Rows up to an empty one line up with each other.
type grid struct{ rows [][]string }

func line(w *grid, cells ...any) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = fmt.Sprint(cell)
	}
	w.rows = append(w.rows, row)
}

const columnGap = 2

// print writes the rows. Columns are as wide as a terminal shows them: letters
// of some scripts take two places.
func (g *grid) print(out io.Writer) error {
	var text strings.Builder
	for len(g.rows) > 0 {
		end := slices.IndexFunc(g.rows, func(row []string) bool { return len(row) == 0 })
		if end < 0 {
			end = len(g.rows) - 1
		}
		block := g.rows[:end+1]
		g.rows = g.rows[end+1:]
		widths := columns(block)
		for _, row := range block {
			for i, cell := range row {
				text.WriteString(cell)
				if i < len(row)-1 {
					text.WriteString(strings.Repeat(" ", widths[i]-runewidth.StringWidth(cell)+columnGap))
				}
			}
			text.WriteByte('\n')
		}
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func columns(rows [][]string) (widths []int) {
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], runewidth.StringWidth(cell))
		}
	}
	return widths
}

// clock is a time for people: theirs, with its zone.
func clock(t time.Time) string { return t.Local().Format(time.RFC3339) }
