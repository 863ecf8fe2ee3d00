package httpserver

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"muster"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// page cuts a list to what the query parameters limit and cursor ask for. place
// gives a row's place in the list, which is in the order of these texts; cursor
// is the place of the last row while more follow.
func page[T any](q url.Values, rows []T, place func(T) string) (cut []T, cursor string, err error) {
	limit, err := pageLimit(q)
	if err != nil {
		return nil, "", err
	}
	slices.SortFunc(rows, func(a, b T) int { return strings.Compare(place(a), place(b)) })
	after := slices.IndexFunc(rows, func(row T) bool { return place(row) > q.Get("cursor") })
	if after < 0 {
		return []T{}, "", nil
	}
	rows = rows[after:]
	if len(rows) > limit {
		rows = rows[:limit]
		cursor = place(rows[limit-1])
	}
	return rows, cursor, nil
}

// pageLimit is how many rows of a list are asked for.
func pageLimit(q url.Values) (int, error) {
	if !q.Has("limit") {
		return defaultPage, nil
	}
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit < 1 || limit > maxPage {
		return 0, muster.FieldError("limit", "must be from 1 to 1000")
	}
	return limit, nil
}
