package server

import (
	"crypto/x509"
	"slices"
	"strings"
	"unicode/utf8"

	"cmmpd/directory/ldif"
	"cmmpd/internal/mail"
)

// Limits of one entry.
const (
	maxValue       = 1 << 20
	maxUIDLen      = 128
	maxClearance   = 64
	minCertificate = 64
)

// ignoredOperational are attributes of other servers' exports that say nothing to us.
var ignoredOperational = map[string]bool{
	"structuralobjectclass": true, "creatorsname": true, "modifiersname": true, "entrycsn": true, "hassubordinates": true, "contextcsn": true,
	"createtimestamp": true, "modifytimestamp": true, "entrydn": true, "subschemasubentry": true,
}

// entryOf makes an entry of a content or add record.
func (s *schema) entryOf(rec *ldif.Record, n name) (*entry, error) {
	e := &entry{dn: rec.DN, key: n.key}
	for _, v := range rec.Values {
		base, _, _ := strings.Cut(strings.ToLower(v.Desc), ";")
		if ignoredOperational[base] {
			continue
		}
		d, ok := s.describe(v.Desc)
		if !ok {
			return nil, fault(v.Line, "unknown attribute %s", v.Desc)
		}
		if err := s.checkValue(d, v.Data, v.Line); err != nil {
			return nil, err
		}
		have := e.valuesExact(d)
		if slices.ContainsFunc(have, func(w []byte) bool { return s.same(d, v.Data, w) }) {
			return nil, fault(v.Line, "%s has this value twice", d.typ.name)
		}
		e.set(d, append(have, v.Data))
	}
	return e, nil
}

// valuesExact are the values stored under exactly d.
func (e *entry) valuesExact(d description) [][]byte {
	if a := e.attr(d); a != nil {
		return a.values
	}
	return nil
}

// checkValue checks one value by its attribute's syntax.
func (s *schema) checkValue(d description, v []byte, line int) error {
	t := d.typ
	switch {
	case len(v) == 0 || len(v) > maxValue:
		return fault(line, "the value of %s is empty or too long", t.name)
	case t.binary || t.name == "jpegPhoto" || t.name == "userPassword":
	case !utf8.Valid(v) || strings.ContainsRune(string(v), 0):
		return fault(line, "the value of %s is not UTF-8 text", t.name)
	}
	ok := true
	switch {
	case t.name == "mail" || t.name == "mailAlternateAddress":
		_, err := mail.ParseAddress(string(v))
		ok = err == nil
	case t.syntax == syntaxCertificate:
		_, err := x509.ParseCertificate(v)
		ok = err == nil && len(v) >= minCertificate
	case t.syntax == syntaxDN:
		n, err := s.parseDN(string(v))
		ok = err == nil && n.key != ""
	case t.name == "uid":
		ok = validUID(string(v))
	case t.name == "objectClass":
		if s.classes[strings.ToLower(string(v))] == nil {
			return fault(line, "unknown object class %s", asciiLine(string(v)))
		}
	case t.name == "entryUUID":
		ok = validUUID(string(v))
	case t.name == "cmmpdCipherProfile":
		ok = slices.Contains([]string{"gcm", "oaep", "pkcs1v15"}, string(v))
	case t.name == "cmmpdClearance" || t.name == "cmmpdRole":
		ok = len(v) <= maxClearance && strings.Trim(string(v), "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
	}
	if !ok {
		return fault(line, "not a valid value of %s", t.name)
	}
	return nil
}

// validUID keeps log-in names apart from addresses and distinguished names.
func validUID(s string) bool {
	if s == "" || len(s) > maxUIDLen || strings.ContainsAny(s, "@=,+\"\\<>;/: ") {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
}

// check checks a whole entry by its object classes.
func (s *schema) check(e *entry, line int) error {
	allowed := map[*attrType]bool{}
	structural := false
	var visit func(c *objectClass) error
	visit = func(c *objectClass) error {
		structural = structural || c.structural
		for _, t := range c.must {
			if len(e.values(description{typ: t})) == 0 {
				return fault(line, "object class %s needs %s", c.name, t.name)
			}
			allowed[t] = true
		}
		for _, t := range c.may {
			allowed[t] = true
		}
		for _, p := range c.super {
			if err := visit(p); err != nil {
				return err
			}
		}
		return nil
	}
	allowed[s.attrs["objectclass"]] = true
	for _, v := range e.values(description{typ: s.attrs["objectclass"]}) {
		if err := visit(s.classes[strings.ToLower(string(v))]); err != nil {
			return err
		}
	}
	if !structural {
		return fault(line, "a structural object class is needed")
	}
	for _, a := range e.attrs {
		if !a.typ.operational && !allowed[a.typ] {
			return fault(line, "its object classes do not allow %s", a.typ.name)
		}
		if a.typ.single && len(a.values) > 1 {
			return fault(line, "%s takes one value only", a.typ.name)
		}
	}
	n, err := s.parseDN(e.dn)
	if err != nil {
		return fault(line, "not a distinguished name")
	}
	for _, a := range n.rdns[0] {
		if !slices.ContainsFunc(e.values(description{typ: a.typ}), func(v []byte) bool { return s.same(description{typ: a.typ}, v, []byte(a.value)) }) {
			return fault(line, "the entry lacks the %s of its name", a.typ.name)
		}
	}
	return nil
}

// unique checks at the end of an import that no address, uid or entryUUID that it
// brought belongs to two entries.
func (im *importer) unique() error {
	for id, line := range im.touched {
		e, err := im.st.get(im.tx, id)
		if err != nil || e == nil {
			return mail.E(mail.Corrupt, "the directory is damaged", err)
		}
		for _, group := range [][]string{{"mail", "mailalternateaddress"}, {"uid"}, {"entryuuid"}} {
			if err := im.uniqueIn(e, id, line, group); err != nil {
				return err
			}
		}
	}
	return nil
}

func (im *importer) uniqueIn(e *entry, id uint64, line int, types []string) error {
	for _, t := range types {
		for _, v := range e.values(description{typ: im.st.schema.attrs[t]}) {
			for _, u := range types {
				if im.taken(id, u, v) {
					return fault(line, "%s %s belongs to another entry", im.st.schema.attrs[t].name, asciiLine(string(v)))
				}
			}
		}
	}
	return nil
}

// taken says whether an entry other than id has the value.
func (im *importer) taken(id uint64, typ string, v []byte) bool {
	t := im.st.schema.attrs[typ]
	p, ok := im.st.schema.prepare(t.rule, v)
	if !ok {
		return false
	}
	return slices.ContainsFunc(im.st.lookup(im.tx, t, p), func(other uint64) bool { return other != id })
}
