package ldif

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// Limits bound what a Reader takes; zero fields take the defaults.
type Limits struct {
	Line   int   // bytes of one unfolded line; 1 MiB
	Record int   // bytes of the lines of one record; 8 MiB
	Values int   // lines of one record; 20,000
	Total  int64 // bytes of the whole text; 1 GiB
}

// Reader reads records one after another. It is not safe for concurrent use.
type Reader struct {
	in      *bufio.Reader
	lim     Limits
	line    int    // physical lines read
	total   int64  // bytes read
	pending []byte // the next physical line, when hasNext
	hasNext bool
	eof     bool
	started bool // the version line may no longer come
}

// NewReader reads from r.
func NewReader(r io.Reader, lim Limits) *Reader {
	if lim.Line == 0 {
		lim.Line = 1 << 20
	}
	if lim.Record == 0 {
		lim.Record = 8 << 20
	}
	if lim.Values == 0 {
		lim.Values = 20000
	}
	if lim.Total == 0 {
		lim.Total = 1 << 30
	}
	return &Reader{in: bufio.NewReaderSize(r, 64<<10), lim: lim}
}

// attrLine is one unfolded line, taken apart.
type attrLine struct {
	line int
	desc string
	data []byte
	end  bool // the line "-" that ends a part of a Modify record
}

// Next returns the next record, or io.EOF after the last. A fault in the text is an
// *Error; any other error is the underlying reader's.
func (r *Reader) Next() (*Record, error) {
	lines, err := r.block()
	if err != nil {
		return nil, err
	}
	if !r.started {
		r.started = true
		if lines[0].desc == "version" {
			if string(lines[0].data) != "1" {
				return nil, &Error{lines[0].line, "only version 1 is known"}
			}
			if lines = lines[1:]; len(lines) == 0 {
				return r.Next()
			}
		}
	}
	return record(lines)
}

// block reads the lines up to the next empty one.
func (r *Reader) block() ([]attrLine, error) {
	var lines []attrLine
	size := 0
	for {
		text, n, err := r.unfolded()
		if err == io.EOF {
			if len(lines) > 0 {
				return lines, nil
			}
			return nil, io.EOF
		}
		if err != nil {
			return nil, err
		}
		switch {
		case len(text) == 0:
			if len(lines) > 0 {
				return lines, nil
			}
			continue
		case text[0] == '#':
			continue
		}
		if size += len(text); size > r.lim.Record || len(lines) >= r.lim.Values {
			return nil, &Error{n, "the record is too large"}
		}
		l, err := parseLine(text, n)
		if err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
}

// unfolded reads one line with its continuation lines (which begin with a space). The
// number is of its first physical line.
func (r *Reader) unfolded() ([]byte, int, error) {
	first, err := r.physical()
	if err != nil {
		return nil, 0, err
	}
	n := r.line
	if len(first) > 0 && first[0] == ' ' {
		return nil, 0, &Error{n, "a continuation line follows nothing"}
	}
	text := bytes.Clone(first)
	for len(text) > 0 {
		more, err := r.physical()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, 0, err
		}
		if len(more) == 0 || more[0] != ' ' {
			r.pending, r.hasNext = more, true
			r.line--
			break
		}
		if text = append(text, more[1:]...); len(text) > r.lim.Line {
			return nil, 0, &Error{n, "the line is too long"}
		}
	}
	return text, n, nil
}

// physical reads one line without its end; valid until the next call.
func (r *Reader) physical() ([]byte, error) {
	if r.hasNext {
		r.hasNext = false
		r.line++
		return r.pending, nil
	}
	if r.eof {
		return nil, io.EOF
	}
	var line []byte
	for {
		part, err := r.in.ReadSlice('\n')
		line = append(line, part...)
		if r.total += int64(len(part)); r.total > r.lim.Total {
			return nil, &Error{r.line + 1, "the text is too large"}
		}
		if len(line) > r.lim.Line+2 {
			return nil, &Error{r.line + 1, "the line is too long"}
		}
		if err == nil {
			break
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if !errors.Is(err, io.EOF) {
			return nil, err
		}
		r.eof = true
		if len(line) == 0 {
			return nil, io.EOF
		}
		break
	}
	r.line++
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}

// parseLine reads `attr: value`, `attr:: base64` or `-`.
func parseLine(text []byte, n int) (attrLine, error) {
	if string(text) == "-" {
		return attrLine{line: n, end: true}, nil
	}
	i := bytes.IndexByte(text, ':')
	if i <= 0 {
		return attrLine{}, &Error{n, "not of the form \"attribute: value\""}
	}
	desc := string(text[:i])
	if !validDesc(desc) {
		return attrLine{}, &Error{n, "not an attribute name"}
	}
	l := attrLine{line: n, desc: desc}
	switch rest := text[i+1:]; {
	case len(rest) > 0 && rest[0] == '<':
		return attrLine{}, &Error{n, "values by URL are not read"}
	case len(rest) > 0 && rest[0] == ':':
		enc := bytes.Trim(rest[1:], " ")
		l.data = make([]byte, base64.StdEncoding.DecodedLen(len(enc)))
		k, err := base64.StdEncoding.Strict().Decode(l.data, enc)
		if err != nil || bytes.ContainsAny(enc, "\r\n") {
			return attrLine{}, &Error{n, "the base64 text is damaged"}
		}
		l.data = l.data[:k]
	default:
		l.data = bytes.TrimLeft(rest, " ")
		if bytes.ContainsAny(l.data, "\x00\r") || !utf8.Valid(l.data) {
			return attrLine{}, &Error{n, "the value must be written in base64"}
		}
	}
	return l, nil
}

// validDesc is attributedescription of RFC 4512, section 2.5: a name or a numeric OID,
// and options.
func validDesc(s string) bool {
	if s == "" || len(s) > 256 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') && (i == 0 || c != '-' && c != ';' && c != '.') {
			return false
		}
	}
	return !strings.HasSuffix(s, ";")
}

// record makes a record of its lines.
func record(lines []attrLine) (*Record, error) {
	first := lines[0]
	if !strings.EqualFold(first.desc, "dn") || first.end {
		return nil, &Error{first.line, "a record begins with dn"}
	}
	if !utf8.Valid(first.data) {
		return nil, &Error{first.line, "the dn is not UTF-8"}
	}
	rec := &Record{Line: first.line, DN: string(first.data)}
	lines = lines[1:]
	if len(lines) > 0 && strings.EqualFold(lines[0].desc, "control") {
		return nil, &Error{lines[0].line, "controls are not served"}
	}
	if len(lines) > 0 && strings.EqualFold(lines[0].desc, "changetype") {
		word := lines[0]
		lines = lines[1:]
		switch string(word.data) {
		case "add":
			rec.Change = Add
		case "modify":
			rec.Change = Modify
			return rec, rec.mods(lines)
		case "delete":
			rec.Change = Delete
			if len(lines) > 0 {
				return nil, &Error{lines[0].line, "a delete record ends after its changetype"}
			}
			return rec, nil
		case "modrdn", "moddn":
			rec.Change = Rename
			return rec, rec.rename(lines)
		default:
			return nil, &Error{word.line, "unknown changetype"}
		}
	}
	if len(lines) == 0 {
		return nil, &Error{rec.Line, "the entry has no attributes"}
	}
	for _, l := range lines {
		if l.end {
			return nil, &Error{l.line, "not of the form \"attribute: value\""}
		}
		rec.Values = append(rec.Values, Value{l.line, l.desc, l.data})
	}
	return rec, nil
}

// mods reads the parts of a Modify record.
func (rec *Record) mods(lines []attrLine) error {
	for len(lines) > 0 {
		head := lines[0]
		m := Mod{Line: head.line, Desc: string(head.data)}
		switch strings.ToLower(head.desc) {
		case "add":
			m.Op = AddValues
		case "delete":
			m.Op = DeleteValues
		case "replace":
			m.Op = ReplaceValues
		default:
			return &Error{head.line, "expected add:, delete: or replace:"}
		}
		if !validDesc(m.Desc) {
			return &Error{head.line, "not an attribute name"}
		}
		lines = lines[1:]
		for len(lines) > 0 && !lines[0].end {
			l := lines[0]
			if !strings.EqualFold(l.desc, m.Desc) {
				return &Error{l.line, "expected a value of " + m.Desc + " or \"-\""}
			}
			m.Values = append(m.Values, Value{l.line, l.desc, l.data})
			lines = lines[1:]
		}
		if len(lines) > 0 {
			lines = lines[1:] // the last "-" is often left out
		}
		if m.Op == AddValues && len(m.Values) == 0 {
			return &Error{head.line, "add: needs values"}
		}
		rec.Mods = append(rec.Mods, m)
	}
	if len(rec.Mods) == 0 {
		return &Error{rec.Line, "the record changes nothing"}
	}
	return nil
}

// rename reads the rest of a modrdn record.
func (rec *Record) rename(lines []attrLine) error {
	seen := map[string]bool{}
	for _, l := range lines {
		name := strings.ToLower(l.desc)
		if seen[name] || !utf8.Valid(l.data) {
			return &Error{l.line, "not expected here"}
		}
		seen[name] = true
		switch v := string(l.data); {
		case name == "newrdn" && v != "":
			rec.NewRDN = v
		case name == "deleteoldrdn" && (v == "0" || v == "1"):
			rec.DeleteOldRDN = v == "1"
		case name == "newsuperior" && v != "":
			rec.NewSuperior = v
		default:
			return &Error{l.line, "not expected here"}
		}
	}
	if !seen["newrdn"] || !seen["deleteoldrdn"] {
		return &Error{rec.Line, "newrdn and deleteoldrdn are needed"}
	}
	return nil
}
