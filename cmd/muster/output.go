package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
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

// grid is a table for people. Rows up to an empty one line up with each other,
// but for those of one cell.
type grid struct {
	rows     [][]string
	width    int    // of a line; 0: as wide as it gets
	flexible []give // how columns give way if a line is too wide, one after the other
	least    []int  // widths of columns whatever is in them
}

// give makes a column narrower, but not below a width.
type give struct{ column, least int }

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
		widths := g.columns(block)
		for _, row := range block {
			for i, cell := range row {
				if len(row) > 1 {
					cell = runewidth.Truncate(cell, widths[i], "…")
				} else if g.width > 0 {
					cell = runewidth.Truncate(cell, g.width, "…")
				}
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

func (g *grid) columns(rows [][]string) (widths []int) {
	widths = slices.Clone(g.least)
	for _, row := range rows {
		if len(row) == 1 {
			continue
		}
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], runewidth.StringWidth(cell))
		}
	}
	over := -columnGap - g.width
	for _, width := range widths {
		over += width + columnGap
	}
	for _, to := range g.flexible {
		less := max(0, min(over, widths[to.column]-to.least))
		widths[to.column], over = widths[to.column]-less, over-less
	}
	return widths
}

// lineWidth is how wide a line may be: as the terminal, if out is one.
func lineWidth(out io.Writer) int {
	if file, ok := out.(*os.File); ok {
		if width := terminalWidth(file); width > 0 {
			return width
		}
	}
	return 120
}

// clock is a time for people: theirs, with its zone.
func clock(t time.Time) string { return t.Local().Format(time.RFC3339) }
