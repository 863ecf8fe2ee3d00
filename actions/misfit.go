package actions

import (
	"encoding/json"
	"maps"
	"slices"

	"muster"
)

// Misfits says what is wrong with parameters for an action of another node, by
// name, as far as that node's list tells; the node judges them again. What holds a
// placeholder only has to be there.
func Misfits(info muster.ActionInfo, given muster.Params) map[string]string {
	var declared map[string]Param
	if json.Unmarshal(info.Params, &declared) != nil {
		return nil
	}
	wrong := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		p, bad := declared[name], faults{}
		p.bytes, p.depth = 32<<20, 64 // what the list does not tell
		p.finish(bad, name)
		raw, ok := given[name]
		refs, err := muster.Placeholders(raw)
		switch {
		case len(bad) > 0: // a later version's, perhaps
		case !ok && p.Required:
			wrong[name] = "must be given"
		case !ok || err != nil || len(refs) > 0:
		default:
			if reason := p.fault(raw); reason != "" {
				wrong[name] = reason
			}
		}
	}
	return wrong
}
