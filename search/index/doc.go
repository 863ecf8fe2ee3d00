package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/blevesearch/bleve/v2/analysis"
	"github.com/blevesearch/bleve/v2/document"
	"github.com/blevesearch/bleve/v2/index/scorch"
	bleve "github.com/blevesearch/bleve_index_api"
	"golang.org/x/text/unicode/norm"

	"muster"
)

// ScoringID names analyser, mapping and formula. Scores of two indexes are
// comparable only where it is the same.
const ScoringID = "en-bm25-1"

const mappingVersion = 1

// MaxID is the longest document ID, in bytes of its NFC.
const MaxID = 512

// maxDepth is how deep a document may nest, itself counted.
const maxDepth = 64

// The fields of the index. Only the first three are analysed.
const (
	fieldTitle      = "title"
	fieldContent    = "content"
	fieldAll        = "all" // title and content
	fieldCollection = "collection"
	fieldLanguage   = "language"
	fieldURL        = "url"
	fieldID         = "id"
	fieldMetadata   = "metadata" // key NUL value
	fieldKeys       = "keys"     // the metadata keys
	fieldSource     = "source"   // stored: the document, as JSON
	fieldCounts     = "counts"   // stored: tokens of title, content and all
)

// counts are tokens per analysed field.
type counts struct{ title, content, all uint64 }

func (c *counts) add(o counts) {
	c.title += o.title
	c.content += o.content
	c.all += o.all
}

func (c *counts) sub(o counts) {
	c.title -= o.title
	c.content -= o.content
	c.all -= o.all
}

func (c *counts) table() map[string]uint64 {
	return map[string]uint64{fieldTitle: c.title, fieldContent: c.content, fieldAll: c.all}
}

func (c *counts) bytes() []byte {
	b := binary.AppendUvarint(nil, c.title)
	b = binary.AppendUvarint(b, c.content)
	return binary.AppendUvarint(b, c.all)
}

func parseCounts(b []byte) (counts, error) {
	var v [3]uint64
	for i := range v {
		value, n := binary.Uvarint(b)
		if n <= 0 {
			return counts{}, fmt.Errorf("token counts: %d bytes are no number", len(b))
		}
		v[i], b = value, b[n:]
	}
	return counts{v[0], v[1], v[2]}, nil
}

// prepared is a document ready for a batch: already analysed.
type prepared struct {
	key    string
	doc    *document.Document
	counts counts
	size   int
}

// analysed is a text field whose analysis is done, so that it is done once and
// in its caller's goroutine.
type analysed struct{ *document.TextField }

func (analysed) Analyze() {}

// key is the identity of a document inside an index: two ways to write the same
// letters are one. Byte order of keys is order by collection, then ID, as no
// collection contains NUL.
func key(collection, id string) string {
	return norm.NFC.String(collection) + "\x00" + norm.NFC.String(id)
}

func collectionOr(name string) string {
	if name == "" {
		return muster.DefaultCollection
	}
	return name
}

func check(d muster.Document) error {
	switch { // what is kept is in NFC, which may be longer
	case d.ID == "":
		return muster.FieldError("id", "is missing")
	case len(norm.NFC.String(d.ID)) > MaxID:
		return muster.FieldError("id", "is longer than 512 bytes")
	case !utf8.ValidString(d.ID):
		return muster.FieldError("id", "is not UTF-8")
	case len(norm.NFC.String(d.Collection)) > MaxID:
		return muster.FieldError("collection", "is longer than 512 bytes")
	case !utf8.ValidString(d.Collection) || strings.Contains(d.Collection, "\x00"):
		return muster.FieldError("collection", "is not UTF-8 or contains NUL")
	}
	for k, raw := range d.Metadata {
		switch {
		case strings.Contains(k, "\x00"):
			return muster.FieldError("metadata", "a key contains NUL")
		case depth(raw) > maxDepth-2: // the document and its metadata are two
			return muster.FieldError("metadata", fmt.Sprintf("nests deeper than %d", maxDepth))
		}
	}
	return nil
}

// depth returns how deep brackets nest outside of strings. Of bad JSON it may
// say anything; that is refused either way.
func depth(raw []byte) (deepest int) {
	now, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}

// prepare checks and analyses a document.
func prepare(a analysis.Analyzer, d muster.Document) (*prepared, error) {
	if err := check(d); err != nil {
		return nil, err
	}
	d.Collection, d.ID = norm.NFC.String(collectionOr(d.Collection)), norm.NFC.String(d.ID)
	source, err := encode(d)
	if err != nil {
		return nil, muster.Errorf(muster.Invalid, "document %q: %w", d.ID, err)
	}
	p := &prepared{key: key(d.Collection, d.ID), size: len(source)}
	p.doc = document.NewDocument(p.key)
	text := func(name, value string) uint64 {
		f := document.NewTextFieldCustom(name, nil, []byte(nfc(value)), bleve.IndexField|bleve.IncludeTermVectors, a)
		f.Analyze()
		p.doc.AddField(analysed{f})
		return uint64(f.AnalyzedLength())
	}
	p.counts.title, p.counts.content = text(fieldTitle, d.Title), text(fieldContent, d.Content)
	p.counts.all = p.counts.title + p.counts.content
	p.doc.AddField(document.NewCompositeFieldWithIndexingOptions(fieldAll, false, []string{fieldTitle, fieldContent}, nil,
		bleve.IndexField|bleve.IncludeTermVectors))
	p.exact(fieldCollection, d.Collection, bleve.DocValues)
	p.exact(fieldID, d.ID, 0)
	p.exact(fieldLanguage, d.Language, bleve.DocValues)
	p.exact(fieldURL, d.URL, 0)
	for k, raw := range d.Metadata {
		p.exact(fieldKeys, k, 0)
		for _, v := range scalars(raw) {
			p.exact(fieldMetadata, k+"\x00"+v, bleve.DocValues)
		}
	}
	p.stored(fieldSource, source)
	p.stored(fieldCounts, p.counts.bytes())
	return p, nil
}

func (p *prepared) exact(name, value string, more bleve.FieldIndexingOptions) {
	if value != "" {
		p.doc.AddField(document.NewTextFieldCustom(name, nil, []byte(nfc(value)), bleve.IndexField|more, nil))
	}
}

func (p *prepared) stored(name string, value []byte) {
	p.doc.AddField(document.NewTextFieldCustom(name, nil, value, bleve.StoreField, nil))
}

func encode(d muster.Document) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(d)
	return b.Bytes(), err
}

// scalars returns the text of a metadata value, or of each value of an array.
// Numbers keep the form they were written in. Objects and null have none.
func scalars(raw json.RawMessage) []string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return nil
	}
	switch raw[0] {
	case '[':
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			return nil
		}
		var all []string
		for _, v := range list {
			if v = bytes.TrimSpace(v); len(v) > 0 && v[0] != '[' {
				all = append(all, scalars(v)...)
			}
		}
		return all
	case '{', 'n':
		return nil
	case '"':
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return nil
		}
		return []string{s}
	default:
		return []string{string(raw)}
	}
}

func nfc(s string) string {
	return norm.NFC.String(strings.ToValidUTF8(s, string(utf8.RuneError)))
}

// contentKey is equal for contents that differ in white space, case and
// Unicode form only. It is empty without content.
func contentKey(content string) string {
	normal := strings.Join(strings.Fields(strings.ToLower(nfc(content))), " ")
	if normal == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(normal))
	return hex.EncodeToString(sum[:])
}

// cut shortens content to n characters: all of them below zero.
func cut(content string, n int) (short string, truncated bool) {
	if n < 0 {
		return content, false
	}
	for i := range content {
		if n == 0 {
			return content[:i], true
		}
		n--
	}
	return content, false
}

// load reads a stored document. ok is false if there is none.
func load(r bleve.IndexReader, key string) (d muster.Document, ok bool, err error) {
	ok, err = stored(r, key, fieldSource, func(b []byte) error { return json.Unmarshal(b, &d) })
	return d, ok, err
}

// loadAt reads the document of a number, which a posting has. It is quicker than
// load, which has to look for the key in every segment.
func loadAt(r bleve.IndexReader, number uint64) (d muster.Document, err error) {
	snapshot, ok := r.(*scorch.IndexSnapshot)
	if !ok {
		return d, fmt.Errorf("a reader is a %T", r)
	}
	for _, s := range snapshot.Segments() {
		if size := uint64(s.FullSize()); number >= size {
			number -= size
			continue
		}
		err = errors.New("it has no source")
		visited := s.VisitDocument(number, func(field string, _ byte, value []byte, _ []uint64) bool {
			if field == fieldSource {
				err = json.Unmarshal(value, &d)
			}
			return field != fieldSource
		})
		return d, errors.Join(visited, err)
	}
	return d, errors.New("it is not there")
}

// loadCounts reads the token counts of a stored document.
func loadCounts(r bleve.IndexReader, key string) (c counts, ok bool, err error) {
	ok, err = stored(r, key, fieldCounts, func(b []byte) (err error) {
		c, err = parseCounts(b)
		return err
	})
	return c, ok, err
}

func stored(r bleve.IndexReader, key, field string, use func([]byte) error) (ok bool, err error) {
	doc, err := r.Document(key)
	if err != nil || doc == nil {
		return false, err
	}
	doc.VisitFields(func(f bleve.Field) {
		if f.Name() == field && err == nil {
			ok, err = true, use(f.Value())
		}
	})
	if err == nil && !ok {
		err = fmt.Errorf("document %q has no %s", key, field)
	}
	return ok, err
}
