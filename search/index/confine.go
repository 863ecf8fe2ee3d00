package index

import (
	"muster"
	"muster/search/query"
)

// confine narrows a plan to the collections asked for and to what the caller's
// key may see.
func (p *planner) confine(sq muster.ShardQuery) {
	any := make([]term, 0, len(sq.Collections))
	for _, name := range sq.Collections {
		any = append(any, term{field: fieldCollection, text: nfc(name)})
	}
	if len(any) > 0 {
		p.needs = append(p.needs, any)
	}
	for field, raw := range sq.Within {
		values := muster.FilterValues(raw)
		any := make([]term, 0, len(values)) // of no value there is no document
		for _, value := range values {
			any = append(any, exactly(field, value))
		}
		p.needs = append(p.needs, any)
	}
}

// exactly is the term of a field that has a value.
func exactly(field, value string) term {
	switch field {
	case query.Collection, query.Language: // so are the fields called
		return term{field: field, text: nfc(value)}
	default:
		return term{field: fieldMetadata, text: nfc(field + "\x00" + value)}
	}
}
