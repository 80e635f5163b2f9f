package server

import (
	"bytes"
	"errors"
	"slices"
	"strings"
)

// maxFilterDepth bounds how filters nest; maxFilterItems how many parts one has.
const (
	maxFilterDepth = 20
	maxFilterItems = 500
)

var errFilter = errors.New("the filter is too large or malformed")

// filterKind is the choice of RFC 4511, section 4.5.1.7, by tag number.
type filterKind byte

const (
	filterAnd filterKind = iota
	filterOr
	filterNot
	filterEqual
	filterSubstrings
	filterGreater
	filterLess
	filterPresent
	filterApprox
	filterExtensible
)

// filter is a parsed filter. The values are prepared already.
type filter struct {
	kind  filterKind
	parts []*filter // of and, or, not

	desc    description
	known   bool // desc is of our schema, and may be asked about
	rule    rule
	value   []byte // prepared; of equal, greater, less, approx, extensible
	valid   bool   // value or fragments are of the rule's syntax
	initial []byte // nil if none
	middle  [][]byte
	final   []byte
	anyAttr bool // extensible without a type
	dnAttrs bool // extensible: the DN's values count too
}

// parseFilter reads a filter. What is well formed but unknown to us is kept: it is Undefined.
func (s *schema) parseFilter(e element, depth int) (*filter, error) {
	items := maxFilterItems
	return s.parseFilterPart(e, depth, &items)
}

func (s *schema) parseFilterPart(e element, depth int, left *int) (*filter, error) {
	if *left--; *left < 0 || depth > maxFilterDepth {
		return nil, errFilter
	}
	f := &filter{kind: filterKind(e.tag & 0x1f)}
	switch e.tag {
	case 0xa0, 0xa1:
		for p := (parser{b: e.body}); p.more(); {
			part, err := s.parseFilterPart(p.any(), depth+1, left)
			if err != nil {
				return nil, err
			}
			f.parts = append(f.parts, part)
		}
		return f, nil
	case 0xa2:
		p := parser{b: e.body}
		part, err := s.parseFilterPart(p.any(), depth+1, left)
		if err != nil {
			return nil, err
		}
		f.parts = []*filter{part}
		return f, p.end()
	case 0xa3, 0xa5, 0xa6, 0xa8:
		p := parser{b: e.body}
		s.describeFilter(f, string(p.want(tagOctets)))
		v := p.want(tagOctets)
		f.rule = ruleOf(f)
		f.value, f.valid = s.prepare(f.rule, v)
		return f, p.end()
	case 0xa4:
		return f, s.parseSubstrings(f, e.body)
	case 0x87:
		s.describeFilter(f, string(e.body))
		return f, nil
	case 0xa9:
		return f, s.parseExtensible(f, e.body)
	}
	return nil, errFilter
}

// describeFilter sets the attribute. Passwords cannot be asked about at all, so that
// no filter tells anything of them.
func (s *schema) describeFilter(f *filter, desc string) {
	f.desc, f.known = s.describe(desc)
	f.known = f.known && !hidden(f.desc.typ)
}

// hidden says whether nobody may read or match the type.
func hidden(t *attrType) bool { return t.name == "userPassword" }

func ruleOf(f *filter) rule {
	if !f.known {
		return noRule
	}
	return f.desc.typ.rule
}

func (s *schema) parseSubstrings(f *filter, b []byte) error {
	p := parser{b: b}
	s.describeFilter(f, string(p.want(tagOctets)))
	f.rule, f.valid = ruleOf(f), true
	list := parser{b: p.want(tagSequence), err: p.err}
	for n := 0; list.more(); n++ {
		e := list.any()
		v, ok := prepareFragment(f.rule, e.body)
		f.valid = f.valid && ok
		switch {
		case len(e.body) == 0 || n > 50:
			return errFilter
		case e.tag == 0x80 && n == 0:
			f.initial = append([]byte{}, bytes.TrimLeft(v, " ")...)
		case e.tag == 0x81 && f.final == nil:
			f.middle = append(f.middle, v)
		case e.tag == 0x82 && f.final == nil:
			f.final = append([]byte{}, bytes.TrimRight(v, " ")...)
		default:
			return errFilter
		}
	}
	if list.err == nil && f.initial == nil && f.middle == nil && f.final == nil {
		return errFilter
	}
	if list.err != nil {
		return list.err
	}
	return p.end()
}

func (s *schema) parseExtensible(f *filter, b []byte) error {
	p := parser{b: b}
	named := ""
	if p.peek() == 0x81 {
		named = string(p.want(0x81))
	}
	f.anyAttr = p.peek() != 0x82
	if !f.anyAttr {
		s.describeFilter(f, string(p.want(0x82)))
	}
	v := p.want(0x83)
	if p.peek() == 0x84 {
		f.dnAttrs = p.boolean(0x84)
	}
	if f.anyAttr && named == "" {
		return errFilter // RFC 4511, section 4.5.1.7.7: one of the two is needed
	}
	f.rule = ruleOf(f)
	if named != "" {
		f.rule = ruleNamed(named)
	}
	f.value, f.valid = s.prepare(f.rule, v)
	return p.end()
}

// truth is the three-valued logic of RFC 4511, section 4.5.1.7.
type truth uint8

const (
	isFalse truth = iota
	isUndefined
	isTrue
)

func truthOf(b bool) truth {
	if b {
		return isTrue
	}
	return isFalse
}

// matches evaluates the filter on an entry.
func (s *schema) matches(f *filter, e *entry) truth {
	switch f.kind {
	case filterAnd:
		t := isTrue
		for _, p := range f.parts {
			t = min(t, s.matches(p, e))
		}
		return t
	case filterOr:
		t := isFalse
		for _, p := range f.parts {
			t = max(t, s.matches(p, e))
		}
		return t
	case filterNot:
		return isTrue - s.matches(f.parts[0], e)
	case filterPresent:
		if !f.known {
			return isFalse
		}
		return truthOf(len(s.valuesOf(f.desc, e)) > 0)
	}
	if f.kind == filterExtensible && f.anyAttr {
		return s.matchesAny(f, e)
	}
	if !f.known || !f.valid {
		return isUndefined
	}
	for _, v := range s.valuesOf(f.desc, e) {
		if s.matchesValue(f, v) {
			return isTrue
		}
	}
	if f.dnAttrs {
		return truthOf(s.matchesDN(f, e))
	}
	return isFalse
}

// valuesOf is entry.values with the attributes that are computed.
func (s *schema) valuesOf(d description, e *entry) [][]byte {
	switch d.typ.name {
	case "entryDN":
		return [][]byte{[]byte(e.dn)}
	case "subschemaSubentry":
		return [][]byte{[]byte(subschemaDN)}
	case "objectClass":
		return s.withSuperclasses(e.values(d))
	}
	return e.values(d)
}

// withSuperclasses adds the classes that the given ones descend from: an inetOrgPerson
// is a person too (RFC 4512, section 3.3).
func (s *schema) withSuperclasses(values [][]byte) [][]byte {
	out := slices.Clip(values)
	for i := 0; i < len(out); i++ {
		if c := s.classes[strings.ToLower(string(out[i]))]; c != nil {
			for _, p := range c.super {
				out = append(out, []byte(p.name))
			}
		}
	}
	return out
}

func (s *schema) matchesValue(f *filter, v []byte) bool {
	got, ok := s.prepare(f.rule, v)
	if !ok {
		return false
	}
	switch f.kind {
	case filterGreater:
		return compareOrdered(f.rule, got, f.value) >= 0
	case filterLess:
		return compareOrdered(f.rule, got, f.value) <= 0
	case filterSubstrings:
		return f.matchesFragments(got)
	default:
		return bytes.Equal(got, f.value)
	}
}

func (f *filter) matchesFragments(v []byte) bool {
	rest, ok := bytes.CutPrefix(v, f.initial)
	if !ok {
		return false
	}
	for _, m := range f.middle {
		i := bytes.Index(rest, m)
		if i < 0 {
			return false
		}
		rest = rest[i+len(m):]
	}
	return bytes.HasSuffix(rest, f.final)
}

// matchesAny is an extensible filter over all attributes that the rule fits.
func (s *schema) matchesAny(f *filter, e *entry) truth {
	if f.rule == noRule || !f.valid {
		return isUndefined
	}
	for _, a := range e.attrs {
		if hidden(a.typ) || a.typ.rule != f.rule {
			continue
		}
		for _, v := range a.values {
			if s.matchesValue(f, v) {
				return isTrue
			}
		}
	}
	return truthOf(f.dnAttrs && s.matchesDN(f, e))
}

// matchesDN compares with the values in the entry's own name.
func (s *schema) matchesDN(f *filter, e *entry) bool {
	n, err := s.parseDN(e.dn)
	if err != nil {
		return false
	}
	for _, rdn := range n.rdns {
		for _, a := range rdn {
			if (f.anyAttr || a.typ.isA(f.desc.typ)) && s.matchesValue(f, []byte(a.value)) {
				return true
			}
		}
	}
	return false
}

// longest is the longest fragment of a substring filter, for a first look at the text
// table.
func (f *filter) longest() string {
	var l []byte
	for _, p := range append([][]byte{f.initial, f.final}, f.middle...) {
		if len(p) > len(l) {
			l = p
		}
	}
	return strings.TrimSpace(string(l))
}
