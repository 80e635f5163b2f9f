package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
)

// attribute is the values of one attribute description.
type attribute struct {
	description
	values [][]byte
}

// entry is one entry. Attributes stand in the order in which they were given.
type entry struct {
	dn    string // as written
	key   string // name.key
	attrs []attribute
}

// values returns all values that answer for the named type, its subtypes and options
// included.
func (e *entry) values(d description) [][]byte {
	var out [][]byte
	for _, a := range e.attrs {
		if d.covers(a.description) {
			out = append(out, a.values...)
		}
	}
	return out
}

func (e *entry) attr(d description) *attribute {
	for i := range e.attrs {
		if e.attrs[i].description == d {
			return &e.attrs[i]
		}
	}
	return nil
}

// set replaces the values of d; none removes it.
func (e *entry) set(d description, values [][]byte) {
	a := e.attr(d)
	switch {
	case len(values) == 0:
		e.attrs = slices.DeleteFunc(e.attrs, func(a attribute) bool { return a.description == d })
	case a == nil:
		e.attrs = append(e.attrs, attribute{d, values})
	default:
		a.values = values
	}
}

// clone copies e so that set on the copy leaves e alone.
func (e *entry) clone() *entry {
	c := *e
	c.attrs = slices.Clone(e.attrs)
	return &c
}

// sameContent says whether two entries hold the same, the given attribute types aside.
func (e *entry) sameContent(o *entry, except ...*attrType) bool {
	strip := func(e *entry) []attribute {
		return slices.DeleteFunc(slices.Clone(e.attrs), func(a attribute) bool { return slices.Contains(except, a.typ) })
	}
	a, b := strip(e), strip(o)
	if e.dn != o.dn || len(a) != len(b) {
		return false
	}
	for _, x := range a {
		i := slices.IndexFunc(b, func(y attribute) bool { return y.description == x.description })
		if i < 0 || !slices.EqualFunc(x.values, b[i].values, bytes.Equal) {
			return false
		}
	}
	return true
}

// The record of an entry in the database: every string and list is preceded by its
// length as an unsigned varint.
//
//	dn key n×(description m×(value))
//
// docs/formats.md has the whole picture.

var errRecord = errors.New("damaged entry record")

func (e *entry) appendBinary(b []byte) []byte {
	b = appendString(b, []byte(e.dn))
	b = appendString(b, []byte(e.key))
	b = binary.AppendUvarint(b, uint64(len(e.attrs)))
	for _, a := range e.attrs {
		b = appendString(b, []byte(a.String()))
		b = binary.AppendUvarint(b, uint64(len(a.values)))
		for _, v := range a.values {
			b = appendString(b, v)
		}
	}
	return b
}

func appendString(b, s []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decodeEntry reads a record. The values alias b.
func (s *schema) decodeEntry(b []byte) (*entry, error) {
	r := recordReader{b: b}
	e := &entry{dn: string(r.str()), key: string(r.str())}
	n := r.count()
	e.attrs = make([]attribute, 0, n)
	for ; n > 0 && !r.bad; n-- {
		desc := string(r.str())
		d, ok := s.describe(desc)
		if !ok || d.String() != desc {
			return nil, errRecord
		}
		m := r.count()
		values := make([][]byte, 0, m)
		for ; m > 0 && !r.bad; m-- {
			values = append(values, r.str())
		}
		if e.attr(d) != nil || len(values) == 0 {
			return nil, errRecord
		}
		e.attrs = append(e.attrs, attribute{d, values})
	}
	if r.bad || len(r.b) > 0 {
		return nil, errRecord
	}
	return e, nil
}

// recordReader takes a record apart; bad is sticky.
type recordReader struct {
	b   []byte
	bad bool
}

// count reads a number of items, each of which takes at least a byte.
func (r *recordReader) count() int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(len(r.b)-n) || n > 1 && r.b[n-1] == 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

func (r *recordReader) str() []byte {
	n := r.count()
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}
