package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
)

// show prints one thing as a table for people, or as the JSON that the node
// answered, in the form that was asked for.
func (f *clientFlags) show(io streams, data any, table func(*tabwriter.Writer)) error {
	return list(f, io, data, []any{data}, table)
}

// list prints an answer that is a list of rows: with -o jsonl, a row a line.
func list[T any](f *clientFlags, io streams, data any, rows []T, table func(*tabwriter.Writer)) error {
	enc := json.NewEncoder(io.out)
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
		_, err = io.out.Write(raw)
		return err
	default:
		w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
		table(w)
		return w.Flush()
	}
}

func line(w *tabwriter.Writer, cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			_, _ = fmt.Fprint(w, "\t")
		}
		_, _ = fmt.Fprint(w, cell)
	}
	_, _ = fmt.Fprintln(w)
}
