package server

import "strings"

// selection is which attributes a search asks for (RFC 4511, section 4.5.1.8).
type selection struct {
	user, operational bool
	named             []description
	typesOnly         bool
}

func (s *schema) selectAttrs(attrs []string, typesOnly bool) selection {
	sel := selection{typesOnly: typesOnly, user: len(attrs) == 0}
	for _, a := range attrs {
		switch a {
		case "*":
			sel.user = true
		case "+":
			sel.operational = true
		case "1.1":
		default:
			if d, ok := s.describe(strings.TrimSpace(a)); ok {
				sel.named = append(sel.named, d)
			}
		}
	}
	return sel
}

func (sel *selection) wants(d description) bool {
	if hidden(d.typ) {
		return false
	}
	if sel.user && !d.typ.operational || sel.operational && d.typ.operational {
		return true
	}
	for _, n := range sel.named {
		if n.covers(d) {
			return true
		}
	}
	return false
}

// appendEntry appends a SearchResultEntry message.
func (s *schema) appendEntry(b []byte, id int, e *entry, sel *selection) []byte {
	enc := encoder{b}
	m := enc.open(tagSequence)
	enc.integer(tagInteger, id)
	o := enc.open(opSearchEntry)
	enc.text(tagOctets, e.dn)
	list := enc.open(tagSequence)
	for _, a := range e.attrs {
		if sel.wants(a.description) {
			sel.appendAttr(&enc, a.String(), a.values)
		}
	}
	for _, name := range [...]string{"entrydn", "subschemasubentry"} {
		if d := (description{typ: s.attrs[name]}); (e.key != "" || name != "entrydn") && sel.wants(d) {
			sel.appendAttr(&enc, d.String(), s.valuesOf(d, e))
		}
	}
	enc.close(list)
	enc.close(o)
	enc.close(m)
	return enc.b
}

func (sel *selection) appendAttr(enc *encoder, desc string, values [][]byte) {
	a := enc.open(tagSequence)
	enc.text(tagOctets, desc)
	set := enc.open(tagSet)
	if !sel.typesOnly {
		for _, v := range values {
			enc.octets(tagOctets, v)
		}
	}
	enc.close(set)
	enc.close(a)
}
