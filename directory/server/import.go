package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"cmmpd/directory/ldif"
	"cmmpd/internal/boltfile"
	"cmmpd/internal/mail"
)

// ImportResult says what an import did.
type ImportResult struct {
	Added, Modified, Deleted, Unchanged int
	Changed                             []string // the DNs of entries added, modified or deleted, in order
}

// Import applies LDIF (RFC 2849), all or nothing: either content records, each of which
// says how an entry shall be, or change records. Durable when it returns. The caller
// has checked that actor may do it.
//
// What is there already may be published again: a content record equal to its entry,
// or a modification that adds a value that is there, counts as unchanged. A content record
// without userPassword leaves the password as it is. Parents come before their children.
//
// Errors are of kind Invalid and name the line, or the reader's own.
func (s *Server) Import(ctx context.Context, r io.Reader, actor string) (ImportResult, error) {
	s.importing.Lock()
	defer s.importing.Unlock()
	rd := ldif.NewReader(r, ldif.Limits{Total: s.o.Limits.ImportBytes})
	imp := &importer{s: s, st: s.st, rows: map[uint64]*string{}, touched: map[uint64]int{}}
	err := s.st.db.Update(func(tx *boltfile.Tx) error {
		imp.tx, imp.ch = tx, changes{st: s.st, tx: tx}
		return imp.all(ctx, rd)
	})
	if err != nil {
		var le *ldif.Error
		if errors.As(err, &le) {
			return ImportResult{}, mail.E(mail.Invalid, "LDIF "+asciiLine(le.Error()), err)
		}
		return ImportResult{}, err
	}
	if len(imp.rows) > 0 {
		s.st.updateRows(imp.rows)
		if s.o.Changed != nil {
			s.o.Changed()
		}
	}
	res := imp.res
	s.o.Log.Info("directory imported", "actor", actor, "added", res.Added, "modified", res.Modified, "deleted", res.Deleted, "unchanged", res.Unchanged)
	return res, nil
}

// asciiLine is text for a stranger's eye: one line of printable ASCII.
func asciiLine(s string) string {
	return string(bytes.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, []byte(s)))
}

// importer is one import. Its transaction is the only writer.
type importer struct {
	s       *Server
	st      *store
	tx      *boltfile.Tx
	ch      changes
	res     ImportResult
	rows    map[uint64]*string // the new text of changed entries; nil: deleted
	touched map[uint64]int     // entries whose names must be unique at the end, and the line that set them
}

func fault(line int, format string, args ...any) error {
	return &ldif.Error{Line: line, Text: fmt.Sprintf(format, args...)}
}

func (im *importer) all(ctx context.Context, rd *ldif.Reader) error {
	content, first := false, true
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		rec, err := rd.Next()
		if errors.Is(err, io.EOF) {
			if err := im.ch.flush(); err != nil {
				return err
			}
			return im.unique()
		}
		if err != nil {
			return err
		}
		if is := rec.Change == ldif.Content; first {
			content, first = is, false
		} else if is != content {
			return fault(rec.Line, "content and change records do not mix")
		}
		if err := im.apply(rec); err != nil {
			return err
		}
	}
}

func (im *importer) apply(rec *ldif.Record) error {
	n, err := im.st.schema.parseDN(rec.DN)
	if err != nil || n.key == "" {
		return fault(rec.Line, "not a distinguished name")
	}
	if !inScope(n.key, im.st.base.key, scopeSub) {
		return fault(rec.Line, "outside of this directory")
	}
	id := im.ch.find(n.key)
	var old *entry
	if id != 0 {
		if old, err = im.st.get(im.tx, id); err != nil {
			return mail.E(mail.Corrupt, "the directory is damaged", err)
		}
	}
	if old == nil && rec.Change != ldif.Content && rec.Change != ldif.Add {
		return fault(rec.Line, "there is no such entry")
	}
	switch rec.Change {
	case ldif.Content, ldif.Add:
		return im.put(rec, n, id, old)
	case ldif.Modify:
		return im.modify(rec, id, old)
	case ldif.Rename:
		return im.rename(rec, n, id, old)
	default:
		return im.delete(rec, id, old)
	}
}

// put applies a content or add record.
func (im *importer) put(rec *ldif.Record, n name, id uint64, old *entry) error {
	e, err := im.st.schema.entryOf(rec, n)
	if err != nil {
		return err
	}
	if err := im.passwords(e, old, rec.Line); err != nil {
		return err
	}
	sch := im.st.schema
	uuid, created, modified := description{typ: sch.attrs["entryuuid"]}, description{typ: sch.attrs["createtimestamp"]}, description{typ: sch.attrs["modifytimestamp"]}
	if old == nil {
		if parent, _ := parentKey(n.key); n.key != im.st.base.key && im.ch.find(parent) == 0 {
			return fault(rec.Line, "the entry above it does not exist")
		}
		if len(e.values(uuid)) == 0 {
			u, err := im.newUUID()
			if err != nil {
				return err
			}
			e.set(uuid, [][]byte{u})
		}
		e.set(created, im.stamp())
		return im.store(rec.Line, 0, nil, e)
	}
	if given := e.values(uuid); len(given) > 0 && !bytes.Equal(given[0], old.values(uuid)[0]) {
		return fault(rec.Line, "the entry exists with another entryUUID")
	}
	e.dn = old.dn
	pw := description{typ: sch.attrs["userpassword"]}
	if len(e.values(pw)) == 0 {
		e.set(pw, old.values(pw))
	}
	for _, d := range []description{uuid, created, modified} {
		e.set(d, old.values(d))
	}
	if e.sameContent(old) {
		im.res.Unchanged++
		return nil
	}
	if rec.Change == ldif.Add {
		return fault(rec.Line, "the entry exists and is different")
	}
	return im.store(rec.Line, id, old, e)
}

// store checks e and writes it in place of old.
func (im *importer) store(line int, id uint64, old, e *entry) error {
	sch := im.st.schema
	if err := sch.check(e, line); err != nil {
		return err
	}
	im.res.Changed = append(im.res.Changed, e.dn)
	if old == nil {
		im.res.Added++
		var err error
		if id, err = im.tx.Bucket(bucketEntry).NextSequence(); err != nil {
			return err
		}
	} else {
		im.res.Modified++
	}
	e.set(description{typ: sch.attrs["modifytimestamp"]}, im.stamp())
	text := im.st.rowText(e)
	im.rows[id] = &text
	im.touched[id] = line
	return im.ch.put(id, old, e)
}

func (im *importer) childless(rec *ldif.Record, e *entry) error {
	if err := im.ch.flush(); err != nil {
		return err
	}
	if im.st.children(im.tx, e.key) {
		return fault(rec.Line, "there are entries below it")
	}
	return nil
}

func (im *importer) delete(rec *ldif.Record, id uint64, old *entry) error {
	if err := im.childless(rec, old); err != nil {
		return err
	}
	im.res.Deleted++
	im.res.Changed = append(im.res.Changed, old.dn)
	im.rows[id] = nil
	delete(im.touched, id)
	return im.ch.remove(id, old)
}

func (im *importer) modify(rec *ldif.Record, id uint64, old *entry) error {
	e := old.clone()
	for _, m := range rec.Mods {
		if err := im.modifyOne(e, m); err != nil {
			return err
		}
	}
	if err := im.passwords(e, old, rec.Line); err != nil {
		return err
	}
	if e.sameContent(old) {
		im.res.Unchanged++
		return nil
	}
	return im.store(rec.Line, id, old, e)
}

func (im *importer) modifyOne(e *entry, m ldif.Mod) error {
	sch := im.st.schema
	d, ok := sch.describe(m.Desc)
	if !ok {
		return fault(m.Line, "unknown attribute %s", m.Desc)
	}
	if d.typ.noUserMod {
		return fault(m.Line, "%s cannot be changed", d.typ.name)
	}
	have := slices.Clone(e.valuesExact(d))
	switch m.Op {
	case ldif.ReplaceValues:
		have = nil
		fallthrough
	case ldif.AddValues:
		for _, v := range m.Values {
			if slices.ContainsFunc(have, func(w []byte) bool { return sch.same(d, v.Data, w) }) {
				if m.Op == ldif.ReplaceValues {
					return fault(v.Line, "%s has this value twice", d.typ.name)
				}
				continue // what is there may be published again
			}
			if err := sch.checkValue(d, v.Data, v.Line); err != nil {
				return err
			}
			have = append(have, v.Data)
		}
	case ldif.DeleteValues:
		if len(have) == 0 {
			return fault(m.Line, "there is no %s to delete", d.typ.name)
		}
		if len(m.Values) == 0 {
			have = nil
		}
		for _, v := range m.Values {
			n := len(have)
			if have = slices.DeleteFunc(have, func(w []byte) bool { return sch.same(d, v.Data, w) }); len(have) == n {
				return fault(v.Line, "%s has no such value to delete", d.typ.name)
			}
		}
	}
	e.set(d, have)
	return nil
}

// same says whether two values of d are equal to the directory.
func (s *schema) same(d description, a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, ok1 := s.prepare(d.typ.rule, a)
	y, ok2 := s.prepare(d.typ.rule, b)
	return ok1 && ok2 && bytes.Equal(x, y)
}

// rename applies a modrdn record. The entry keeps its entryUUID; names of it in other
// entries are not followed.
func (im *importer) rename(rec *ldif.Record, n name, id uint64, old *entry) error {
	if err := im.childless(rec, old); err != nil {
		return err
	}
	sch := im.st.schema
	parentDN := rec.NewSuperior
	if parentDN == "" {
		parent, _ := parentKey(old.key)
		up, err := im.st.get(im.tx, im.ch.find(parent))
		if err != nil || up == nil {
			return fault(rec.Line, "the base cannot be renamed")
		}
		parentDN = up.dn
	}
	to, err := sch.parseDN(rec.NewRDN + "," + parentDN)
	if err != nil {
		return fault(rec.Line, "not a distinguished name")
	}
	above, _ := parentKey(to.key)
	if im.ch.find(above) == 0 || !inScope(to.key, im.st.base.key, scopeSub) {
		return fault(rec.Line, "the entry above it does not exist")
	}
	if to.key != old.key && im.ch.find(to.key) != 0 {
		return fault(rec.Line, "the new name is taken")
	}
	e := old.clone()
	e.dn, e.key = rec.NewRDN+","+parentDN, to.key
	if rec.DeleteOldRDN {
		for _, a := range n.rdns[0] {
			d := description{typ: a.typ}
			e.set(d, slices.DeleteFunc(slices.Clone(e.valuesExact(d)), func(v []byte) bool { return sch.same(d, v, []byte(a.value)) }))
		}
	}
	for _, a := range to.rdns[0] {
		d := description{typ: a.typ}
		if have := e.valuesExact(d); !slices.ContainsFunc(have, func(v []byte) bool { return sch.same(d, v, []byte(a.value)) }) {
			e.set(d, append(slices.Clone(have), []byte(a.value)))
		}
	}
	return im.store(rec.Line, id, old, e)
}

func (im *importer) stamp() [][]byte {
	return [][]byte{[]byte(im.s.o.Now().UTC().Format("20060102150405Z"))}
}

// newUUID makes a random UUID (RFC 9562, version 4).
func (im *importer) newUUID() ([]byte, error) {
	var b [16]byte
	if _, err := io.ReadFull(im.s.o.Rand, b[:]); err != nil {
		return nil, err
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Appendf(nil, "%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}

// passwords puts a verifier in place of every clear password. A clear password whose
// verifier the old entry holds keeps that one, so that importing again changes nothing.
func (im *importer) passwords(e, old *entry, line int) error {
	d := description{typ: im.st.schema.attrs["userpassword"]}
	a := e.attr(d)
	if a == nil {
		return nil
	}
	var out [][]byte
	for _, v := range a.values {
		text := string(v)
		p, stored, err := parseVerifier(text)
		switch {
		case err != nil:
			return fault(line, "%v", err)
		case stored:
			text = p.String()
		default:
			if text, err = im.verifierFor(text, old, d); err != nil {
				return fault(line, "%v", err)
			}
		}
		if !slices.ContainsFunc(out, func(w []byte) bool { return string(w) == text }) {
			out = append(out, []byte(text))
		}
	}
	e.set(d, out)
	return nil
}

func (im *importer) verifierFor(password string, old *entry, d description) (string, error) {
	if old != nil {
		for _, v := range old.values(d) {
			if p, ok, err := parseVerifier(string(v)); ok && err == nil && p.verify(password) {
				return p.String(), nil
			}
		}
	}
	if password == "" {
		return "", errPassword
	}
	return HashPassword(im.s.o.Rand, password, im.s.o.Rounds)
}
