package reqlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"muster/httpserver/api"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxText  = 16 << 10 // kept of a payload and of a response
	maxBatch = 1 << 10  // the same for the writes that one node sends to another: each caller has a row of its own where it asked

	redacted = "[redacted]"
	notJSON  = "[not JSON]"
	twice    = "[a name is there twice]"
)

// clip is as much of a body as the log looks at. It lets go of a large one.
func clip(raw []byte) []byte {
	if len(raw) > api.MaxSeen {
		return bytes.Clone(raw[:api.MaxSeen])
	}
	return raw
}

// hider keeps secrets out of rows, for one writer.
type hider struct {
	keys, bearers *regexp.Regexp
	names         map[string]bool // whether a member of this name is secret; the first that were met
}

const maxNames = 4096

func newHider() hider {
	return hider{regexp.MustCompile(`mk_[0-9A-Za-z_-]+|mc_[0-9a-f]{8,}`), regexp.MustCompile(`(?i)\b(bearer)\s+[^\s"']+`), map[string]bool{}}
}

// text hides what looks like a credential in a text.
func (h hider) text(s string) string {
	if strings.Contains(s, "mk_") || strings.Contains(s, "mc_") {
		s = h.keys.ReplaceAllString(s, redacted)
	}
	if strings.Contains(s, "earer") || strings.Contains(s, "EARER") {
		s = h.bearers.ReplaceAllString(s, "$1 "+redacted)
	}
	return s
}

// secret reports whether the value of a field with this name is never kept. It is
// asked for every member of every body: names are judged once.
func (h hider) secret(name string) bool {
	secret, known := h.names[name]
	if !known {
		secret = secretField(name)
		if len(h.names) < maxNames && len(name) <= maxMessage {
			h.names[strings.Clone(name)] = secret
		}
	}
	return secret
}

func secretField(name string) bool {
	name = strings.Map(func(r rune) rune {
		switch r {
		case '_', '-', ' ':
			return -1
		default:
			return unicode.ToLower(r)
		}
	}, name)
	for _, word := range []string{"password", "passwd", "passphrase", "secret", "credential", "apikey", "privatekey", "authorization", "cookie"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return strings.HasSuffix(name, "token") || name == "proof"
}

// walk copies a JSON value without its secrets, as far as it is kept. What
// stays is JSON that every reader takes, no name in an object twice: one such
// row would keep all others from being shown. Where it is cut, a mark stands
// instead of the rest.
type walk struct {
	hide   hider
	most   int64                  // bytes that are kept
	params func(name string) bool // whether a parameter at the top is hidden; nil: this is no action
	names  []string               // of the members that lead here

	out bytes.Buffer
	dec *jsontext.Decoder
	enc *jsontext.Encoder

	success *bool // the answer's own word
	message string
	double  bool // it ended at a name that was there before
}

// clean is a body as it is kept, and what it says of itself.
func (h hider) clean(raw []byte, most int, params func(string) bool) (kept json.RawMessage, success *bool, message string) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil, ""
	}
	w := &walk{hide: h, most: int64(most), params: params}
	w.dec = jsontext.NewDecoder(bytes.NewReader(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	w.enc = jsontext.NewEncoder(&w.out, jsontext.AllowInvalidUTF8(true))
	if !w.copy() {
		mark := w.cut()
		if w.double {
			mark = twice
		} else if len(raw) < api.MaxSeen && w.enc.OutputOffset() < w.most {
			mark = notJSON
		}
		w.close(mark)
	}
	return bytes.TrimSpace(w.out.Bytes()), w.success, w.message
}

// cut is the mark where a body is cut.
func (w *walk) cut() string { return fmt.Sprintf("[cut at %d KiB]", w.most>>10) }

// copy reports whether it came to the end of the value.
func (w *walk) copy() bool {
	for w.enc.OutputOffset() < w.most {
		kind, seen := w.dec.StackIndex(w.dec.StackDepth())
		token, err := w.dec.ReadToken()
		if err == nil {
			err = w.enc.WriteToken(w.shown(token))
			w.double = errors.Is(err, jsontext.ErrDuplicateName)
		}
		if err != nil {
			return false
		}
		if kind == '{' && seen%2 == 0 && token.Kind() == '"' && !w.member(token.String()) {
			return false
		}
		if w.dec.StackDepth() == 0 {
			return true
		}
	}
	return false
}

// shown is a token as it is kept.
func (w *walk) shown(token jsontext.Token) jsontext.Token {
	depth := w.dec.StackDepth()
	switch kind := token.Kind(); {
	case kind == '"':
		text := w.hide.text(token.String())
		if depth == 2 && w.at("error", "message") {
			w.message = text
		}
		if room := int(w.most - w.enc.OutputOffset()); len(text) > room {
			text = shorten(text, room) + w.cut()
		}
		return jsontext.String(text)
	case (kind == 't' || kind == 'f') && depth == 1 && w.at("success"):
		success := token.Bool()
		w.success = &success
	}
	return token
}

// at reports whether the value that comes is at these names from the top.
func (w *walk) at(names ...string) bool { return slices.Equal(w.names, names) }

// member notes the name of the value that comes, and passes over it if it is
// secret.
func (w *walk) member(name string) bool {
	depth := w.dec.StackDepth()
	for len(w.names) < depth {
		w.names = append(w.names, "")
	}
	w.names = append(w.names[:depth-1], name)
	if !w.secret(name) {
		return true
	}
	return w.dec.SkipValue() == nil && w.enc.WriteToken(jsontext.String(redacted)) == nil
}

func (w *walk) secret(name string) bool {
	if secret := w.hide.secret(name); secret || w.params == nil {
		return secret
	}
	if len(w.names) == 2 && w.names[0] == "params" {
		return w.params(name)
	}
	return name == "with" || name == "params" && (len(w.names) > 1 || w.dec.PeekKind() != '{')
}

// close ends what is open, with a mark where something is missing.
func (w *walk) close(mark string) {
	if kind, seen := w.enc.StackIndex(w.enc.StackDepth()); kind == '{' && seen%2 == 0 {
		for name := "…"; w.enc.WriteToken(jsontext.String(name)) != nil; name += "…" {
			continue // there is a member of this name; a buffer takes all else
		}
	}
	if w.enc.StackDepth() > 0 || w.enc.OutputOffset() == 0 {
		_ = w.enc.WriteToken(jsontext.String(mark))
	}
	for w.enc.StackDepth() > 0 {
		end := jsontext.EndArray
		if kind, _ := w.enc.StackIndex(w.enc.StackDepth()); kind == '{' {
			end = jsontext.EndObject
		}
		_ = w.enc.WriteToken(end)
	}
}

// shorten cuts a text at a rune.
func shorten(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:max(0, n)]
}

// actionOf is the action that a body asks for; empty: none that can be found.
func actionOf(raw []byte) string {
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	if token, err := dec.ReadToken(); err != nil || token.Kind() != '{' {
		return ""
	}
	for dec.PeekKind() == '"' {
		name, err := dec.ReadToken()
		if err != nil {
			return ""
		}
		if name.String() != "action" {
			if dec.SkipValue() != nil {
				return ""
			}
			continue
		}
		if value, err := dec.ReadToken(); err == nil && value.Kind() == '"' {
			return value.String()
		}
		return ""
	}
	return ""
}
