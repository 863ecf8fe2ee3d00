package actions

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
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
	slices.SortFunc(hide, longestFirst)
	return slices.Compact(hide)
}

// withResult hides the secret fields of a result, too, wherever their values are.
func (r redactor) withResult(d *Definition, raw json.RawMessage) (redactor, json.RawMessage) {
	var fields map[string]json.RawMessage
	for name, f := range d.Result {
		if !f.Secret {
			continue
		}
		if fields == nil && json.Unmarshal(raw, &fields) != nil {
			return r, raw
		}
		value, there := fields[name]
		if !there {
			continue
		}
		if text := textOf(value); text != redacted {
			r = r.and(text)
		}
		fields[name] = json.RawMessage(`"` + redacted + `"`)
	}
	if fields == nil {
		return r, raw
	}
	return r, bytes.TrimSpace(paramsJSON(fields))
}

// and hides one more text.
func (r redactor) and(secret string) redactor {
	if len(secret) < minSecret {
		return r
	}
	all := append(slices.Clone(r), secret)
	slices.SortFunc(all, longestFirst)
	return slices.Compact(all)
}

func longestFirst(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) }

func (r redactor) longest() int {
	if len(r) == 0 {
		return 0
	}
	return len(r[0])
}

// span is a part of a text, without the byte at its end.
type span struct{ from, to int }

// find returns where secrets are, in order; those that overlap are one.
func (r redactor) find(s string) []span {
	var all []span
	for _, secret := range r {
		for from := 0; ; from++ { // one may begin inside of another
			i := strings.Index(s[from:], secret)
			if i < 0 {
				break
			}
			from += i
			all = append(all, span{from, from + len(secret)})
		}
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	joined := all[:0]
	for _, f := range all {
		if n := len(joined); n > 0 && f.from < joined[n-1].to {
			joined[n-1].to = max(joined[n-1].to, f.to)
			continue
		}
		joined = append(joined, f)
	}
	return joined
}

// part is s[from:to] without the secrets of s.
func (r redactor) part(s string, from, to int) string {
	var out strings.Builder
	for _, f := range r.find(s) {
		if f.to <= from || f.from >= to {
			continue
		}
		out.WriteString(s[from:max(from, f.from)])
		out.WriteString(redacted)
		from = min(f.to, to)
	}
	out.WriteString(s[from:to])
	return out.String()
}

func (r redactor) text(s string) string {
	if len(r) == 0 {
		return s
	}
	return r.part(s, 0, len(s))
}

// head is a text that goes on where it was cut, without secrets and without the
// beginning of one at its end.
func (r redactor) head(s string) string {
	torn := 0
	for _, secret := range r {
		n := min(len(secret)-1, len(s))
		for n > torn && !strings.HasSuffix(s, secret[:n]) {
			n--
		}
		torn = max(torn, n)
	}
	return r.part(s, 0, len(s)-torn)
}

// tail is the end of a longer text, without secrets and without the end of one
// at its beginning.
func (r redactor) tail(s string) string {
	torn := 0
	for _, secret := range r {
		n := min(len(secret)-1, len(s))
		for n > torn && !strings.HasPrefix(s, secret[len(secret)-n:]) {
			n--
		}
		torn = max(torn, n)
	}
	return r.part(s, torn, len(s))
}

// json hides secrets in the strings, names and numbers of a JSON value. Names
// that become equal are numbered.
func (r redactor) json(raw json.RawMessage) json.RawMessage {
	if len(r) == 0 || raw == nil {
		return raw
	}
	var out bytes.Buffer
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	enc := jsontext.NewEncoder(&out)
	names := 1
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
		text := token.String()
		err = enc.WriteToken(token)
		for errors.Is(err, jsontext.ErrDuplicateName) {
			names++
			err = enc.WriteToken(jsontext.String(fmt.Sprintf("%s %d", text, names)))
		}
		if err != nil {
			return nil
		}
	}
}
