package actions

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"muster"
)

// redacted stands where a secret was.
const redacted = "[redacted]"

// minSecret is the shortest secret that is looked for: shorter ones are found
// in everything.
const minSecret = 6

// redactor holds the values that nobody may see.
type redactor []string

// secretsOf collects the secrets among parameters, as they are and as JSON may
// write them.
func secretsOf(d *Definition, params muster.Params) (hide redactor) {
	for name, raw := range params {
		value := textOf(raw)
		if !d.Params[name].Secret || len(value) < minSecret {
			continue
		}
		hide = append(hide, value, string(raw[1:len(raw)-1]))
		for _, escapeHTML := range []bool{false, true} {
			quoted, err := jsontext.AppendFormat(nil, raw, jsontext.EscapeForHTML(escapeHTML))
			if err == nil {
				hide = append(hide, string(quoted[1:len(quoted)-1]))
			}
		}
	}
	// The longest first: one may be part of another.
	slices.SortFunc(hide, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	return slices.Compact(hide)
}

func (r redactor) longest() int {
	if len(r) == 0 {
		return 0
	}
	return len(r[0])
}

func (r redactor) text(s string) string {
	for _, secret := range r {
		s = strings.ReplaceAll(s, secret, redacted)
	}
	return s
}

// json hides secrets in the strings, names and numbers of a JSON value.
func (r redactor) json(raw json.RawMessage) json.RawMessage {
	if len(r) == 0 || raw == nil {
		return raw
	}
	var out bytes.Buffer
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	enc := jsontext.NewEncoder(&out, jsontext.AllowDuplicateNames(true))
	for {
		token, err := dec.ReadToken()
		if err != nil {
			return bytes.TrimSpace(out.Bytes())
		}
		if kind := token.Kind(); kind == '"' || kind == '0' {
			if hidden := r.text(token.String()); hidden != token.String() {
				token = jsontext.String(hidden)
			}
		}
		if enc.WriteToken(token) != nil {
			return nil
		}
	}
}
