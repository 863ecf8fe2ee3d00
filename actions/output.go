package actions

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// lastBytes is how much of the end of an output an error carries.
const lastBytes = 4 << 10

// capture keeps the beginning and the end of what is written to it and counts
// the rest. It never blocks and never fails.
type capture struct {
	limit int
	hide  redactor
	head  []byte // the first limit bytes
	tail  []byte // the last bytes, more than lastBytes by the longest secret
	total int64
	to    *prints // of which it is one stream; nil: nobody looks on
	line  []byte  // the last one, as far as it is there
}

func newCapture(limit int, hide redactor) *capture { return &capture{limit: limit, hide: hide} }

// Write keeps what there is room for.
func (c *capture) Write(b []byte) (int, error) {
	if c.to != nil {
		c.to.mu.Lock()
		defer c.to.mu.Unlock()
		defer c.to.tellLocked()
		c.lines(b)
	}
	c.total += int64(len(b))
	c.head = append(c.head, b[:min(len(b), c.limit-len(c.head))]...)
	keep := lastBytes + c.hide.longest()
	c.tail = append(c.tail, b[max(0, len(b)-keep):]...)
	if len(c.tail) > 2*keep {
		c.tail = append(c.tail[:0], c.tail[len(c.tail)-keep:]...)
	}
	return len(b), nil
}

// lines looks for lines that say how far the program is.
func (c *capture) lines(b []byte) {
	for {
		line, rest, ended := bytes.Cut(b, []byte("\n"))
		c.line = append(c.line, line[:min(len(line), maxLine-len(c.line))]...)
		if !ended {
			return
		}
		c.to.noteLocked(c.line)
		c.line, b = c.line[:0], rest
	}
}

// cut reports whether there was more than is kept.
func (c *capture) cut() bool { return c.total > int64(len(c.head)) }

// binary reports whether the beginning is no text, but for a letter that the cut
// goes through.
func (c *capture) binary() bool {
	head := c.head
	for i := 1; c.cut() && i < utf8.UTFMax && len(head) > 0 && !utf8.Valid(head); i++ {
		head = head[:len(head)-1]
	}
	return !utf8.Valid(head) || bytes.IndexByte(head, 0) >= 0
}

// text is the beginning without secrets. A secret that the cut goes through is
// left out, too.
func (c *capture) text() string {
	hide := c.hide.text
	if c.cut() {
		hide = c.hide.head
	}
	return strings.ToValidUTF8(hide(string(c.head)), "\ufffd")
}

// last is the end without secrets.
func (c *capture) last() string {
	hide := c.hide.text
	if c.total > int64(len(c.tail)) {
		hide = c.hide.tail
	}
	text := hide(string(c.tail)) // before it is cut to size: no secret may be torn then
	return strings.ToValidUTF8(text[max(0, len(text)-lastBytes):], "\ufffd")
}

// last is the end of what the program printed: its errors, if it had any.
func (p *process) last() string {
	if p.stderr.total > 0 {
		return p.stderr.last()
	}
	return p.stdout.last()
}

// printed is the result of a program that has no other.
type printed struct {
	Stdout    string `json:"stdout"`
	Stderr    string `json:"stderr,omitempty"`
	Truncated bool   `json:"truncated,omitzero"`
	Binary    bool   `json:"binary,omitzero"` // it printed what is no text: it is not whole here
	Leaked    int    `json:"leaked_children,omitzero"`
}

// text makes a result of what was printed, at most limit bytes of JSON. The
// longer stream gives way first.
func (p *process) text() json.RawMessage {
	out := printed{
		Stdout: p.stdout.text(), Stderr: p.stderr.text(),
		Truncated: p.stdout.cut() || p.stderr.cut(), Binary: p.stdout.binary() || p.stderr.binary(), Leaked: p.leaked,
	}
	for {
		raw, err := json.Marshal(out)
		if err != nil || len(raw) <= p.limit {
			return raw
		}
		longer := &out.Stdout
		if len(out.Stderr) > len(out.Stdout) {
			longer = &out.Stderr
		}
		out.Truncated = true
		*longer = strings.ToValidUTF8((*longer)[:len(*longer)*3/4], "")
	}
}
