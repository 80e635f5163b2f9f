package message

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// Header is one header block. Its bytes are kept as they are: lines that are no field
// are not among Fields, but Len counts them.
type Header struct {
	b      []byte
	fields []Field
	n      int
}

// Field is one field of a Header. Offsets are into the slice given to ParseHeader.
type Field struct {
	Name       string // as written
	Start, End int    // the whole field, folded lines and last line end included
	value      int    // after the colon
}

// ParseHeader reads the header that begins b; what follows its empty line is not
// looked at. b must not change while the Header is in use. Where the empty line is
// missing, the header ends before the first line that cannot belong to it. The bytes from
// HeaderStart to BodyStart of a Part are always one whole header.
func ParseHeader(b []byte, lim Limits) Header {
	lim = lim.withDefaults()
	block := scanBlock(b, 0, nil)
	h := Header{b: b, n: block.end}
	text := string(b[:min(block.end, lim.HeaderBytes)])
	s := fieldScanner{b: b[:len(text)]}
	for len(h.fields) < lim.Fields {
		f, ok := s.next()
		if !ok {
			break
		}
		if f.end == len(text) && f.end < block.end {
			break // cut by the limit
		}
		if h.fields == nil {
			h.fields = make([]Field, 0, min(24, 1+strings.Count(text, "\n")))
		}
		h.fields = append(h.fields, Field{text[f.start:f.nameEnd], f.start, f.end, f.value})
	}
	return h
}

// FieldValue is what Get says of the header block b, with the default limits: for those who need a field or two.
func FieldValue(b []byte, name string) string {
	s := fieldScanner{b: b[:min(len(b), defaultHeaderBytes)]}
	for range defaultFields {
		f, ok := s.next()
		if !ok || f.end == len(s.b) && f.end < len(b) {
			break
		}
		if f.nameEnd-f.start == len(name) && strings.EqualFold(string(b[f.start:f.nameEnd]), name) {
			return unfold(b[f.value:f.end])
		}
	}
	return ""
}

// Len is the length of the block in bytes, the empty line included.
func (h Header) Len() int { return h.n }

// Fields are the fields in order. The caller must not change them.
func (h Header) Fields() []Field { return h.fields }

// Raw are the bytes of f, line end included: a part of the slice given to ParseHeader.
func (h Header) Raw(f Field) []byte { return h.b[f.Start:f.End:f.End] }

// Value is the value of f, unfolded and trimmed, without NUL.
func (h Header) Value(f Field) string { return unfold(h.b[f.value:f.End]) }

// Get is the value of the first field of that name, unfolded and trimmed; "" if there
// is none.
func (h Header) Get(name string) string {
	for _, f := range h.fields {
		if strings.EqualFold(f.Name, name) {
			return h.Value(f)
		}
	}
	return ""
}

// All are the values of all fields of that name, unfolded and trimmed.
func (h Header) All(name string) []string {
	var all []string
	for _, f := range h.fields {
		if strings.EqualFold(f.Name, name) {
			all = append(all, h.Value(f))
		}
	}
	return all
}

// block says where a header ends.
type block struct {
	end   int  // after the empty line, or where the body or a boundary begins without one
	blank bool // it is ended by an empty line
	guess bool // the body begins without one, and no empty line comes later either
}

// scanBlock finds the end of the header at b[start:], which is also ended by a
// boundary line of an open multipart. If the lines that are no fields all come after the
// last field, the empty line was forgotten and they are the body; if fields follow on
// them, they are fields that were broken by others.
func scanBlock(b []byte, start int, bounds *boundaries) block {
	pos := start
	for pos < len(b) {
		next := lineEnd(b, pos)
		switch c := b[pos]; {
		case c == '\n', c == '\r' && next == pos+2:
			if text, ok := trailingText(b[:pos], start); ok {
				return block{end: text}
			}
			return block{end: next, blank: true}
		case c == '-' && bounds != nil && bounds.at(b, pos, next):
			text := firstText(b[:pos], start)
			return block{end: text, guess: text < pos}
		}
		pos = next
	}
	text := firstText(b, start)
	return block{end: text, guess: text < len(b)}
}

// trailingText is the offset of the first line of b[start:] that is no field, if there is
// one and only such lines follow.
func trailingText(b []byte, start int) (int, bool) {
	last := len(b) // the line that ends the header, looked for from behind as it is mostly a field
	for last > start {
		last = bytes.LastIndexByte(b[start:last-1], '\n') + 1 + start
		if !isSpace(b[last]) {
			break
		}
	}
	s := fieldScanner{b: b, pos: last, first: start}
	if f, ok := s.next2(); !ok || f.kind != NoColon {
		return 0, false
	}
	text := firstText(b, start)
	s.pos = text
	for {
		f, ok := s.next2()
		if !ok {
			return text, true
		}
		if f.kind != NoColon {
			return 0, false
		}
	}
}

// firstText is the offset of the first line of b[start:] that cannot belong to a
// header, len(b) if there is none.
func firstText(b []byte, start int) int {
	s := fieldScanner{b: b, pos: start, first: start}
	for {
		f, ok := s.next2()
		if !ok {
			return len(b)
		}
		if f.kind == NoColon {
			return f.start
		}
	}
}

// lineEnd is the offset after the line feed that ends the line at pos.
func lineEnd(b []byte, pos int) int {
	if i := bytes.IndexByte(b[pos:], '\n'); i >= 0 {
		return pos + i + 1
	}
	return len(b)
}

// fieldScanner goes through the fields of a header block.
type fieldScanner struct {
	b          []byte
	pos, first int
	defects    Defect
}

// rawField is one field, or one line that is none: then nameEnd is start and kind
// says what is wrong with it.
type rawField struct {
	start, nameEnd, value, end int
	kind                       Defect
}

// next is the next field; lines that are none are noted and passed over.
func (s *fieldScanner) next() (rawField, bool) {
	for {
		f, ok := s.next2()
		if !ok || f.nameEnd > f.start {
			return f, ok
		}
		s.defects |= f.kind
	}
}

// next2 is the next field or line that is none.
func (s *fieldScanner) next2() (rawField, bool) {
	b, start := s.b, s.pos
	if start >= len(b) {
		return rawField{}, false
	}
	end := lineEnd(b, start)
	if b[start] == '\n' || b[start] == '\r' && end == start+2 {
		return rawField{}, false
	}
	f := rawField{start: start, nameEnd: start, value: start}
	i := start
	for i < end && b[i] > ' ' && b[i] != ':' && b[i] != 0x7f {
		i++
	}
	colon := i
	for colon < end && (b[colon] == ' ' || b[colon] == '\t') {
		colon++ // obsolete, RFC 5322 section 4.5
	}
	switch {
	case i > start && colon < end && b[colon] == ':':
		f.nameEnd, f.value = i, colon+1
	case isSpace(b[start]):
		f.kind = OrphanFolding
	case start == s.first && (bytes.HasPrefix(b[start:], []byte("From ")) || bytes.HasPrefix(b[start:], []byte(">From "))):
		f.kind = MboxLine
		f.end, s.pos = end, end
		return f, true
	default:
		f.kind = NoColon
	}
	for end < len(b) && isSpace(b[end]) {
		end = lineEnd(b, end)
	}
	f.end, s.pos = end, end
	return f, true
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// byteDefects are the defects of the bytes of a header block.
func byteDefects(b []byte) (d Defect) {
	rest := b
	var high uint64
	for ; len(rest) >= 8; rest = rest[8:] {
		high |= binary.LittleEndian.Uint64(rest)
	}
	for _, c := range rest {
		high |= uint64(c)
	}
	if high&0x8080808080808080 != 0 {
		d |= EightBitHeader
	}
	lf, cr, crlf := bytes.Count(b, []byte{'\n'}), bytes.Count(b, []byte{'\r'}), bytes.Count(b, []byte("\r\n"))
	if lf != crlf {
		d |= BareLF
	}
	if cr != crlf || bytes.IndexByte(b, 0) >= 0 {
		d |= ControlInHeader
	}
	return d
}

// unfold makes a value of the raw bytes after the colon: line ends and NUL are gone,
// a bare CR is a space, white space around is trimmed.
func unfold(raw []byte) string {
	raw = bytes.Trim(raw, " \t\r\n\x00")
	if bytes.IndexByte(raw, '\n') < 0 && bytes.IndexByte(raw, '\r') < 0 && bytes.IndexByte(raw, 0) < 0 {
		return string(raw)
	}
	var s strings.Builder
	s.Grow(len(raw))
	for len(raw) > 0 {
		i := bytes.IndexAny(raw, "\r\n\x00")
		if i < 0 {
			s.Write(raw)
			break
		}
		s.Write(raw[:i])
		if raw[i] == '\r' && (i+1 == len(raw) || raw[i+1] != '\n') {
			s.WriteByte(' ')
		}
		raw = raw[i+1:]
	}
	return strings.Trim(s.String(), " \t")
}
