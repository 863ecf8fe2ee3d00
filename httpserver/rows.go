package httpserver

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"muster"
	"muster/httpserver/api"
)

// readRows reads the rows of a sync one by one: a bad one is reported beside the
// good ones.
func readRows(ask api.SyncRequest, distant bool) muster.Sync {
	s := muster.Sync{Prune: ask.Prune}
	for i, raw := range ask.Nodes {
		row := muster.SyncRow{Row: i + 1}
		err := readRow(raw, &row.Change, distant)
		if err == nil {
			s.Rows = append(s.Rows, row)
			continue
		}
		fault := muster.SyncFault{Row: row.Row, Reason: err.Error(), Suggestion: "give an object with name and url"}
		if row.Change.Slug != nil {
			fault.Slug = *row.Change.Slug
		}
		if e, ok := errors.AsType[*muster.Error](err); ok && len(e.Fields) > 0 {
			fault.Reason, fault.Suggestion = reasons(e.Fields), suggestion(e.Fields, row.Change)
		}
		s.Invalid = append(s.Invalid, fault)
	}
	return s
}

func readRow(raw json.RawMessage, row *muster.NodeChange, distant bool) error {
	if err := api.Decode(raw, row); err != nil {
		return err
	}
	bad := complaints{}
	bad.when(row.Name == nil, "name", "is missing")
	bad.when(row.URL == nil, "url", "is missing")
	bad.node(*row)
	bad.distant(distant, row.URL)
	return bad.err("the row is invalid")
}

// reasons tells what is wrong with each field, in one line.
func reasons(fields map[string][]string) string {
	parts := make([]string, 0, len(fields))
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		parts = append(parts, field+" "+strings.Join(fields[field], ", "))
	}
	return strings.Join(parts, "; ")
}

// suggestion is the way out for the first field that has one.
func suggestion(fields map[string][]string, row muster.NodeChange) string {
	if row.URL != nil && fields["url"] != nil && badURL("https://"+*row.URL) == "" {
		return "url: https://" + *row.URL
	}
	ways := map[string]string{
		"name":         "give a name of 1 to 255 bytes",
		"slug":         "leave slug out: it is made from the name",
		"url":          "give the application's base URL, like https://shop.example.org",
		"type":         "leave type out",
		"status":       "say active, inactive or maintenance, or leave it out",
		"weight":       "say 1, or leave it out",
		"capabilities": "list words like search and actions",
		"metadata":     "keep it small and flat",
	}
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if way := ways[field]; way != "" {
			return way
		}
	}
	return "leave " + slices.Sorted(maps.Keys(fields))[0] + " out, or mend it"
}
